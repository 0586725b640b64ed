"""Reading a receiver's lists: what is reported to whom, and going on where the last call stopped."""

import pytest
from tests.unit.export_world import (
    NOW,
    OTHER,
    RECEIVER,
    RUN,
    MemoryFolder,
    MemoryPartners,
    MemoryStore,
    clock,
    receiver,
)

from gjeldsbro.domain import ssn_list
from gjeldsbro.domain.identity_numbers import is_organisation_number
from gjeldsbro.errors import ConfigurationError, ReceiverRefusedError, ReceiverUnavailableError
from gjeldsbro.services.export import read_lists
from gjeldsbro.services.export.plan import Plan, plan_export, plan_packages
from gjeldsbro.services.export.read_lists import ListReader, ListRules

FIRST, SECOND, THIRD = "17912099997", "29822099635", "12829499914"
PROGRESS = "920013015-985815534-10-2026-progress-report.txt"
FAILURE = "920013015-985815534-10-2026-failure-report.txt"


class World:
    """A planned run of one receiver with one organisation."""

    def __init__(self, *on_behalf_of: str) -> None:
        self.store, self.folder = MemoryStore(), MemoryFolder()
        self.pauses: list[float] = []
        self.pause = self.pauses.append
        self.partners = MemoryPartners(receiver(on_behalf_of=on_behalf_of or (OTHER,)))
        plan_export(run=RUN, started_at=NOW, request={}, partners=self.partners, store=self.store)

    def read(self, has_time=lambda: True) -> bool:
        """One invocation."""
        reader = ListReader(
            plan=Plan.load(self.store, RUN),
            receiver=RECEIVER,
            partners=self.partners,
            store=self.store,
            rules=ListRules("format", is_organisation_number),
            clock=clock,
            has_time=has_time,
            pause=self.pause,
        )
        return reader.read(self.folder.connect)

    def read_all(self) -> int:
        """Invocations without any spare time, until all is read."""
        for calls in range(1, 50):
            if self.read(lambda: False):
                return calls
        raise AssertionError("reading does not come to an end")

    def outcome(self, on_behalf_of: str = OTHER) -> tuple[str, str] | None:
        """Status and error of a delivery."""
        outcome = self.partners.outcomes(RUN).get(f"{RECEIVER}#{on_behalf_of}")
        return outcome and (outcome["status"], outcome["error"])

    def numbers(self) -> list[str]:
        """The numbers in the batches, in order."""
        keys = self.store.keys(f"runs/export/{RUN}/{RECEIVER}/{OTHER}/numbers/")
        return [number for key in keys for number in self.store.get(key).decode().split("\n")]


@pytest.fixture
def world() -> World:
    """A receiver whose list is there."""
    world = World()
    world.folder.content["985815534.txt"] = f"\ufeff{FIRST}, abc,\r\n{SECOND},{FIRST},{THIRD},".encode()
    return world


def test_a_list_becomes_batches_and_a_progress_report(world, monkeypatch):
    """Valid numbers stay in order, in batches; the receiver learns what was invalid and what came twice."""
    monkeypatch.setattr(read_lists, "BATCH_SIZE", 2)
    assert world.read()
    assert world.numbers() == [FIRST, SECOND, THIRD]
    assert world.folder.content[PROGRESS].decode() == (
        "Receiver organization number: 920013015\n"
        "On behalf of organization number: 985815534\n"
        "Timestamp: 2026-10-01T04:00:42Z\n"
        "Numbers in list: 5\n"
        "Numbers in package: 3\n"
        "Invalid numbers: 1\n"
        "abc\n"
        "Duplicate numbers: 1\n"
        f"{FIRST}\n"
    )
    assert sorted(world.folder.content) == [PROGRESS, "985815534.txt"]
    planned = plan_packages(run=RUN, partners=world.partners, store=world.store)
    assert planned["batches"] == 2
    assert world.store.get_json(planned["manifestKey"])[1] == {
        "run": RUN,
        "receiver": RECEIVER,
        "onBehalfOf": OTHER,
        "batch": 1,
    }


def test_nothing_of_the_list_but_the_batches_is_kept(world):
    """The copy, the invalid entries and the duplicates are gone as soon as the report is written."""
    world.read()
    left = {key.removeprefix(f"runs/export/{RUN}/{RECEIVER}/{OTHER}/") for key in world.store.keys("runs/")}
    assert {key for key in left if "/" not in key} == {"state.json"}
    assert {key for key in left if key.startswith(("list/", "invalid", "duplicates"))} == set()


def test_reading_goes_on_where_it_stopped(world, monkeypatch):
    """A list is fetched over several invocations, each byte once, and comes out the same."""
    monkeypatch.setattr(read_lists, "PIECE_SIZE", 10)
    world.read()
    at_once = world.numbers()
    other = World()
    other.folder.content = {"985815534.txt": world.folder.content["985815534.txt"]}
    calls = other.read_all()
    assert calls > 5
    assert other.numbers() == at_once
    assert other.folder.content[PROGRESS] == world.folder.content[PROGRESS]


def test_a_list_that_changes_meanwhile_is_fetched_anew(world, monkeypatch):
    """Parts of two versions of a list are never mixed."""
    monkeypatch.setattr(read_lists, "PIECE_SIZE", 10)
    assert not world.read(lambda: False)
    world.folder.content["985815534.txt"] = f"{THIRD},{SECOND}".encode()
    world.folder.changed["985815534.txt"] = 1
    world.read_all()
    assert world.numbers() == [THIRD, SECOND]


def test_a_list_that_changes_without_showing_it_is_found_out(world, monkeypatch):
    """Same size, same second: a second reading that differs is enough, and the list is copied anew."""
    monkeypatch.setattr(read_lists, "PIECE_SIZE", 10)
    content = world.folder.content["985815534.txt"]
    changed = content.replace(SECOND.encode(), b"01019000000")
    for _ in range(3):
        assert not world.read(lambda: False)
    world.folder.content["985815534.txt"] = changed
    world.read_all()
    assert world.numbers() == [FIRST, "01019000000", THIRD]
    assert world.pauses == [10]


def test_a_list_that_is_being_written_is_waited_for(world):
    """One that grows is read again after a pause, longer each time, until it stands still."""
    whole = world.folder.content["985815534.txt"]
    world.folder.content["985815534.txt"] = whole[:9]
    read, readings = world.folder.read, []

    def reading(name: str, start: int, size: int):
        readings.append(name)
        if len(readings) <= 3:
            written = len(whole) if len(readings) == 3 else 9 + 10 * len(readings)
            world.folder.content[name] = whole[:written]
        return read(name, start, size)

    world.folder.read = reading
    assert world.read()
    assert world.numbers() == [FIRST, SECOND, THIRD]
    assert world.pauses == [10, 20, 40]


def test_a_list_that_keeps_changing_is_given_up(world, monkeypatch):
    """A list that is different each time is reported, instead of being read for ever."""
    monkeypatch.setattr(read_lists, "PIECE_SIZE", 10)
    for version in range(20):
        world.folder.changed["985815534.txt"] = version
        if world.read(lambda: False):
            break
    assert world.outcome() == ("refused", "SSN_LIST_UNREADABLE")
    assert world.pauses == [10, 20, 40, 80]


def test_a_list_that_vanishes_meanwhile_is_reported(world, monkeypatch):
    """A list that was there and is removed counts as not found."""
    monkeypatch.setattr(read_lists, "PIECE_SIZE", 10)
    world.read(lambda: False)
    del world.folder.content["985815534.txt"]
    world.read_all()
    assert world.outcome() == ("refused", "SSN_LIST_NOT_FOUND")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "SSN_LIST_EMPTY"),
        (b"\xff\xfe1\x00", "SSN_LIST_UNREADABLE"),
        (b"abc", "NO_VALID_NUMBERS"),
        (b"1" * 200, "SSN_LIST_TOO_LARGE"),
    ],
)
def test_a_list_that_cannot_be_used_gets_a_failure_report(world, monkeypatch, content, error):
    """The receiver is told why, nothing of the list is kept, and no package is planned."""
    monkeypatch.setattr(ssn_list, "MAX_SIZE", 100)
    world.folder.content["985815534.txt"] = content
    assert world.read()
    assert world.folder.content[FAILURE].decode().splitlines()[3] == f"Error: {error}"
    assert PROGRESS not in world.folder.content
    assert world.outcome() == ("refused", error)
    assert world.numbers() == []
    assert plan_packages(run=RUN, partners=world.partners, store=world.store)["batches"] == 0


def test_a_missing_list_holds_no_other_list_up():
    """Each organisation is judged by itself."""
    world = World(RECEIVER, OTHER)
    world.folder.content["985815534.txt"] = FIRST.encode()
    assert world.read()
    assert world.outcome(RECEIVER) == ("refused", "SSN_LIST_NOT_FOUND")
    assert world.outcome(OTHER) is None
    assert "920013015-920013015-10-2026-failure-report.txt" in world.folder.content
    assert PROGRESS in world.folder.content


def test_a_list_that_is_registered_for_nobody_is_reported_under_its_number(world):
    """A list of an organisation that the receiver may not name is refused, and the others are read."""
    world.folder.content["971171324.txt"] = FIRST.encode()
    world.folder.content["123456789.txt"] = FIRST.encode()
    assert world.read()
    assert world.outcome("971171324") == ("refused", "UNKNOWN_ORGANIZATION")
    assert world.outcome("123456789") == ("refused", "INVALID_ORGANIZATION_NUMBER")
    assert "920013015-971171324-10-2026-failure-report.txt" in world.folder.content
    assert world.numbers() == [FIRST, SECOND, THIRD]


def test_outcomes_do_not_repeat_what_a_receiver_called_its_files():
    """A stray file's name is shown to the receiver only: it may be an identity number."""
    world = World()
    world.folder.content[f"{FIRST}.txt"] = b""
    world.read()
    assert world.outcome() == ("refused", "WRONG_FILE_NAME")
    assert FIRST in world.folder.content[FAILURE].decode()
    assert FIRST not in str(world.partners.outcomes(RUN))


def test_a_list_that_may_not_be_read_is_unreadable(world):
    """A server that shows a list and refuses to hand it out is told so."""
    world.folder.refuse = {"READ"}
    assert world.read()
    assert world.outcome() == ("refused", "SSN_LIST_UNREADABLE")


@pytest.mark.parametrize("code", ["HOST_KEY", "LOGIN", "FOLDER"])
def test_a_server_that_refuses_us_is_recorded(world, code):
    """Nothing is retried that would fail again; every organisation of the receiver gets the reason."""
    world.folder.connect_error = ReceiverRefusedError(code, "no")
    assert world.read()
    assert world.outcome() == ("refused", code)


def test_a_folder_where_nothing_can_be_written_is_recorded(world):
    """Without a progress report there is no package, and a failure report that cannot be written changes nothing."""
    world.folder.refuse = {"WRITE"}
    assert world.read()
    assert world.outcome() == ("refused", "WRITE")
    missing = World()
    missing.folder.refuse = {"WRITE"}
    assert missing.read()
    assert missing.outcome() == ("refused", "SSN_LIST_NOT_FOUND")


def test_a_report_that_cannot_be_renamed_leaves_nothing(world):
    """Where reports cannot get their name there is no package, and nothing unfinished stays on the server."""
    world.folder.refuse = {"RENAME"}
    before = dict(world.folder.content)
    assert world.read()
    assert world.outcome() == ("refused", "RENAME")
    assert world.folder.content == before


def test_a_server_that_is_away_is_tried_again(world):
    """A lost connection is left to the state machine's retries, and the next call goes on."""
    world.folder.lose_after = 1
    with pytest.raises(ReceiverUnavailableError):
        world.read()
    assert world.outcome() is None
    assert world.read()
    assert PROGRESS in world.folder.content


def test_reading_again_after_the_end_changes_nothing(world):
    """A call that is repeated, as Step Functions may do, is harmless."""
    world.read()
    before = dict(world.folder.content)
    assert world.read()
    assert world.folder.content == before
    assert world.numbers() == [FIRST, SECOND, THIRD]


def test_a_receiver_that_is_gone_is_a_configuration_error(world):
    """A receiver that was removed between planning and reading is ours to mend."""
    world.partners = MemoryPartners()
    with pytest.raises(ConfigurationError):
        world.read()
