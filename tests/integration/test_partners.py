"""The PartnerTable on moto: what is stored comes back, and leases and claims exclude each other."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import DatasetBusyError, DeliveryBusyError
from gjeldsbro.services.night.leases import rested
from gjeldsbro.services.ports import Dataset, DatasetTime, Institution, Provider, Receiver

NOW = datetime(2026, 11, 22, 5, 5, tzinfo=UTC)
INSTITUTION = "920013015"
PROVIDER = "9908:920013015"


def test_an_institution_comes_back_as_it_was_put(partners: Partners) -> None:
    """What describes an institution survives the table, and putting it again replaces it."""
    institution = Institution(
        INSTITUTION,
        "Testbanken AS",
        providers=(
            Provider(PROVIDER, url="https://fi.example.no/debt-information/v1", ca="-----BEGIN CERTIFICATE-----"),
            Provider("9908:985815534", ended=True),
        ),
    )

    partners.put_institution(institution)

    assert partners.institution(INSTITUTION) == institution
    partners.put_institution(replace(institution, max_shrink_percent=10, ended=True))
    assert partners.institutions() == [replace(institution, max_shrink_percent=10, ended=True)]
    assert partners.institution("985815534") is None


def test_a_receiver_comes_back_as_it_was_put(partners: Partners) -> None:
    """What describes a receiver survives the table."""
    receiver = Receiver(
        INSTITUTION,
        "Mottakerbanken AS",
        ("920013015", "985815534"),
        "sftp://nogi@sftp.bank.no:22/debt/exchange",
        ("ssh-ed25519 AAAA",),
        "stack/receiver/920013015",
        read_back=False,
    )

    partners.put_receiver(receiver)

    assert partners.receiver(INSTITUTION) == receiver
    assert partners.receivers() == [receiver]
    assert partners.receiver("985815534") is None


def test_the_times_of_all_datasets_are_read_at_once(partners: Partners) -> None:
    """Of each dataset only when it speaks from; one that was never accepted has no time yet."""
    dataset = partners.take_lease(INSTITUTION, PROVIDER, "run", NOW, 60)
    partners.update_dataset(dataset, "run", as_of=from_datetime(NOW), customers=3)
    partners.take_lease("0007:5569622441", "9908:985815534", "run", NOW, 60)

    assert partners.dataset_times() == [
        DatasetTime("0007:5569622441", "9908:985815534", None),
        DatasetTime(INSTITUTION, PROVIDER, from_datetime(NOW)),
    ]


def test_only_one_run_has_the_lease_of_a_dataset(partners: Partners) -> None:
    """A second run is refused while the lease lasts; the same run renews it; after its end anybody may take it."""
    first = partners.take_lease(INSTITUTION, PROVIDER, "run-1", NOW, 60)

    assert first.lease is not None
    assert (first.lease.run, first.lease.until) == ("run-1", from_datetime(NOW + timedelta(seconds=60)))
    with pytest.raises(DatasetBusyError):
        partners.take_lease(INSTITUTION, PROVIDER, "run-2", NOW + timedelta(seconds=60), 60)
    partners.take_lease(INSTITUTION, PROVIDER, "run-1", NOW + timedelta(seconds=30), 60)
    with pytest.raises(DatasetBusyError):
        partners.take_lease(INSTITUTION, PROVIDER, "run-2", NOW + timedelta(seconds=61), 60)
    taken = partners.take_lease(INSTITUTION, PROVIDER, "run-2", NOW + timedelta(seconds=91), 60)
    assert taken.lease is not None
    assert taken.lease.run == "run-2"


def test_an_earlier_invocation_of_the_same_run_changes_nothing_any_more(partners: Partners) -> None:
    """The lease has a token for each invocation; it is contested until the earlier one, which did not end, must be."""
    first = partners.take_lease(INSTITUTION, PROVIDER, "run-1", NOW, 60)
    second = partners.take_lease(INSTITUTION, PROVIDER, "run-1", NOW + timedelta(seconds=10), 60)

    assert first.lease is not None
    assert second.lease is not None
    assert second.lease.contested == first.lease.until
    with pytest.raises(DatasetBusyError):
        partners.update_dataset(first, "run-1", as_of="t1")
    with pytest.raises(DatasetBusyError):
        partners.remove_dataset(first, "run-1")
    assert partners.update_dataset(second, "run-1", lease=rested(second.lease)).lease == rested(second.lease)
    third = partners.take_lease(INSTITUTION, PROVIDER, "run-1", NOW + timedelta(seconds=61), 60)
    assert third.lease is not None
    assert third.lease.contested is None


def test_an_update_that_the_client_repeats_has_happened(partners: Partners, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks after the table has done its work: the lease is gone then, and all is well."""
    dataset = partners.take_lease(INSTITUTION, PROVIDER, "run-1", NOW, 60)
    client = partners._client
    for name in ("update_item", "delete_item"):
        once = getattr(client, name)

        def twice(once: Callable[..., Any] = once, **request: Any) -> Any:
            once(**request)
            return once(**request)

        monkeypatch.setattr(client, name, twice)

    committed = partners.update_dataset(dataset, "run-1", as_of="t1", pending=None, lease=None)
    assert (committed.as_of, committed.lease) == ("t1", None)
    again = partners.take_lease(INSTITUTION, PROVIDER, "run-2", NOW, 60)
    assert again.lease is not None
    assert (again.lease.run, again.lease.contested) == ("run-2", None)
    partners.remove_dataset(again, "run-2")
    assert partners.datasets() == []


def test_a_dataset_changes_only_under_the_runs_own_lease(partners: Partners) -> None:
    """A run that lost its lease can change and remove nothing any more."""
    dataset = partners.take_lease(INSTITUTION, PROVIDER, "run-1", NOW, 60)

    changed = partners.update_dataset(dataset, "run-1", as_of="t1", customers=3, pending="p", held=True)

    assert changed == Dataset(
        INSTITUTION,
        PROVIDER,
        as_of="t1",
        customers=3,
        pending="p",
        held=True,
        lease=dataset.lease,
    )
    with pytest.raises(DatasetBusyError):
        partners.update_dataset(dataset, "run-2", as_of="t2")
    with pytest.raises(DatasetBusyError):
        partners.remove_dataset(dataset, "run-2")
    assert partners.update_dataset(changed, "run-1", pending=None, lease=None).pending is None
    with pytest.raises(DatasetBusyError):
        partners.update_dataset(changed, "run-1", as_of="t2")
    assert partners.dataset(INSTITUTION, PROVIDER).as_of == "t1"


def test_datasets_are_listed_per_institution_without_its_namesakes(partners: Partners) -> None:
    """An institution whose id begins with another's id is not mixed up with it."""
    for institution in ("920013015", "9200130159"):
        partners.take_lease(institution, PROVIDER, "run-1", NOW, 60)

    assert [dataset.institution for dataset in partners.datasets("920013015")] == ["920013015"]
    assert len(partners.datasets()) == 2
    assert partners.dataset("985815534", PROVIDER) == Dataset("985815534", PROVIDER)


def test_a_delivered_package_is_claimed_again_only_on_purpose(partners: Partners) -> None:
    """At most one delivery a receiver, on-behalf-of and quarter, unless an operator asks for another."""
    where = ("920013015", "985815534", "2026-4")
    assert partners.claim_delivery(*where, "run-1", NOW, again=False)
    assert partners.claim_delivery(*where, "run-2", NOW, again=False)
    assert not partners.update_delivery(*where, "run-1", {"state": "delivered"})
    assert partners.update_delivery(*where, "run-2", {"state": "delivered", "deliveredAt": "t"})

    assert partners.claim_delivery(*where, "run-3", NOW, again=False) is None
    assert partners.claim_delivery(*where, "run-2", NOW, again=False) is None
    assert partners.claim_delivery(*where, "run-3", NOW, again=True)
    assert partners.claim_delivery(*where, "run-3", NOW, again=True)
    assert partners.delivery(*where) == {"state": "delivering", "run": "run-3", "deliveredAt": "t"}
    assert partners.update_delivery(*where, "run-3", {"state": "delivered", "deliveredAt": "t"})
    assert partners.claim_delivery(*where, "run-3", NOW, again=True) is None
    assert partners.update_delivery(*where, "run-3", {"state": "failed", "deliveredAt": "t"})
    assert partners.claim_delivery(*where, "run-4", NOW, again=False) is None
    assert partners.deliveries("2026-4").keys() == {"920013015#985815534"}


def test_a_delivery_is_not_taken_over_while_its_package_gets_its_name(partners: Partners) -> None:
    """Only the run that has the claim may announce that; until its time is over nobody else gets the claim."""
    where = ("920013015", "985815534", "2026-4")
    publishing = {"run": "run-1", "until": from_datetime(NOW), "sha256": "ab", "bytes": 7}
    partners.claim_delivery(*where, "run-1", NOW, again=False)
    assert not partners.start_publishing(*where, "run-2", publishing)
    assert partners.start_publishing(*where, "run-1", publishing)
    assert partners.start_publishing(*where, "run-1", {**publishing, "bytes": 7})
    assert not partners.start_publishing(*where, "run-1", {**publishing, "sha256": "cd"})
    for again in (False, True):
        with pytest.raises(DeliveryBusyError):
            partners.claim_delivery(*where, "run-2", NOW, again=again)
    assert partners.claim_delivery(*where, "run-1", NOW, again=False)
    later = NOW + timedelta(seconds=1)
    assert partners.claim_delivery(*where, "run-2", later, again=False) == {
        "run": "run-2",
        "state": "delivering",
        "publishing": publishing,
    }
    assert not partners.start_publishing(*where, "run-1", publishing)
    assert partners.start_publishing(*where, "run-2", {**publishing, "run": "run-2", "sha256": "cd"})
    assert partners.update_delivery(*where, "run-2", {"state": "delivered", "run": "run-1", "deliveredAt": "t"})
    assert partners.delivery(*where) == {"run": "run-1", "state": "delivered", "deliveredAt": "t"}
    assert partners.claim_delivery(*where, "run-2", later, again=False) is None


def test_outcomes_and_runs_are_kept_apart_by_run_and_flow(partners: Partners) -> None:
    """The outcomes of one run are not another's, and the flows' runs do not mix."""
    partners.put_outcome("run-1", "a#b", {"status": "refused", "places": ["/customers"]}, NOW)
    partners.put_outcome("run-1", "a#b", {"status": "loaded", "added": 3}, NOW)
    partners.put_outcome("run-11", "a#b", {"status": "failed"}, NOW)
    partners.put_run("nightly", "run-1", {"startedAt": "t"}, NOW)

    assert partners.outcomes("run-1") == {"a#b": {"status": "loaded", "added": 3}}
    assert partners.run("nightly", "run-1") == {"startedAt": "t"}
    assert partners.run("export", "run-1") is None


def test_the_trail_tells_who_did_what_when_and_why(partners: Partners) -> None:
    """The trail is read from a point in time on, oldest first."""
    partners.record_trail(who="kari", action="institution put", subject="920013015", reason=None, now=NOW)
    later = NOW + timedelta(hours=1)
    partners.record_trail(who="ola", action="export run", subject="2026-4", reason="lost file", now=later)

    assert partners.trail(NOW) == [
        {"at": from_datetime(NOW), "who": "kari", "action": "institution put", "subject": "920013015"},
        {
            "at": from_datetime(later),
            "who": "ola",
            "action": "export run",
            "subject": "2026-4",
            "reason": "lost file",
        },
    ]
    assert len(partners.trail(later)) == 1


def test_requests_are_counted_per_caller_and_window(partners: Partners, aws: dict[str, str]) -> None:
    """Each request adds one to its caller's window, and the count goes by itself afterwards."""
    end = NOW + timedelta(seconds=10)
    assert [partners.count("NTRNO-920013015", NOW, end) for _ in range(3)] == [1, 2, 3]
    assert partners.count("NTRNO-920013015", end, end) == 1
    assert partners.count("NTRSE-5569622441", NOW, end) == 1
    key = {"pk": {"S": "RATE#NTRNO-920013015"}, "sk": {"S": from_datetime(NOW)}}
    item = aws_clients.dynamodb().get_item(TableName=aws["PARTNER_TABLE"], Key=key)["Item"]
    assert item["expires"] == {"N": str(int(end.timestamp()))}
