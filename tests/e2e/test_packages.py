"""The quarterly export on the deployed stack, to OpenSSH."""

import gzip
import json
import zlib
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gjeldsbro_population import package_content


def organisations(parties) -> tuple[str, str, str]:
    """The receiver, the organisation with a faulty list, and the one without a list."""
    receiver, second, missing = (one.institution for one in parties.first_night.institutions[2:5])
    return receiver, second, missing


def test_what_became_of_each_list(parties, exported) -> None:
    """Two packages are delivered; the missing list is refused, and spoils nothing for the others."""
    receiver, second, missing = organisations(parties)
    found = {one["onBehalfOf"]: one["status"] for one in exported.told["deliveries"]}
    assert found == {receiver: "delivered", second: "delivered", missing: "refused"}


@pytest.mark.parametrize("which", [0, 1])
def test_a_package_holds_what_the_population_says(parties, exported, which: int) -> None:
    """One customer object per valid number, once, with all current loans and neither creditor nor account."""
    organisation = organisations(parties)[which]
    document = json.loads(gzip.decompress(exported.files[f"{organisation}.gzip"]))
    expected = parties.second_night.expected_package(
        exported.lists[organisation], pushed=parties.accepted, instead=parties.instead
    )
    assert package_content(document) == expected
    assert {customer["financialInstitutionID"] for customer in document["customers"]} == {organisation}


def test_whoever_is_always_asked_was_asked_about_its_customers_on_the_lists(parties, exported) -> None:
    """Their debt is in the packages above, though the register has none of it."""
    institution, provider = parties.asked
    path = f"/loans/{institution}/customer"
    asked = [request for request in parties.simulator.requests if request.path.endswith(path)]
    numbers = {number for listed in exported.lists.values() for number in listed}
    theirs = [number for number in numbers if parties.second_night.customer(institution, provider, number)]
    assert len(asked) >= len(theirs) > 20


def test_a_package_is_one_gzip_member(parties, exported) -> None:
    """Common readers stop after the first member, so there is one, and nothing after it (decision 12)."""
    data = exported.files[f"{organisations(parties)[0]}.gzip"]
    reader = zlib.decompressobj(wbits=31)
    reader.decompress(data)
    assert reader.eof
    assert reader.unused_data == b""


def test_the_reports(parties, exported) -> None:
    """A progress report counts the faults of a list, a failure report says which list is missing (contract)."""
    receiver, second, missing = organisations(parties)
    now = datetime.now(ZoneInfo("Europe/Oslo"))
    progress = exported.files[f"{receiver}-{second}-{now.month}-{now.year}-progress-report.txt"].decode()
    failure = exported.files[f"{receiver}-{missing}-{now.month}-{now.year}-failure-report.txt"].decode()
    assert "Numbers in list: 43\nNumbers in package: 40\nInvalid numbers: 2\n12345\nabc\n" in progress
    assert progress.endswith(f"Duplicate numbers: 1\n{exported.lists[second][0]}\n")
    assert f"On behalf of organization number: {missing}\n" in failure
    assert "Error: SSN_LIST_NOT_FOUND\n" in failure


def test_nothing_else_is_left_in_the_folder(parties, exported) -> None:
    """Lists, packages and reports, and no temporary file."""
    assert {name.rpartition(".")[2] for name in exported.files} == {"txt", "gzip"}


def test_a_quarter_is_delivered_once(parties, exported) -> None:
    """A second run delivers nothing again; only --again with a reason does."""
    receiver, second, _ = organisations(parties)
    told = parties.gjeldsbro("export", "run", "--receiver", receiver, "--wait", status=1)
    statuses = {one["onBehalfOf"]: one["status"] for one in told["deliveries"]}
    assert (statuses[receiver], statuses[second]) == ("already-delivered", "already-delivered")


def test_the_receivers_server_works(parties, exported) -> None:
    """`receiver check` logs in, writes and renames, and says so."""
    told = parties.gjeldsbro("receiver", "check", organisations(parties)[0])
    assert told["works"] is True
