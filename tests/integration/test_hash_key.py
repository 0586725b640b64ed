"""A rotation of the hash key on moto: the function, what it writes, and what pushes and lookups see meanwhile."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from tests.integration.machines import handler_of
from tests.integration.test_lookup_records import a_record
from tests.register_reader import loans_shown

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.lookups import LookupHistory, LookupRecorder
from gjeldsbro.adapters.register import DatasetItems, PushIndex, Register
from gjeldsbro.adapters.secrets import HashKeyStore, Secrets
from gjeldsbro.domain.customer_keys import HashKeys
from gjeldsbro.domain.loans import CustomerLoans, Message, RepaymentLoan, encode_loans
from gjeldsbro.errors import ConfigurationError, InvalidMessageError
from gjeldsbro.services.hash_key_rotation import SETTLING, HashKeyRotation
from gjeldsbro.services.ports import Institution, Provider
from gjeldsbro.services.push import PushService
from gjeldsbro.services.show_lookups import ShowLookups

BANK, PERSON = "920013015", "17912099997"
PROVIDER = f"9908:{BANK}"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WHO = {"operator": "kari", "reason": "once a year"}
KEPT = timedelta(days=1095)


class Rotation:
    """The use case on moto's tables and secret, at a time of the test's."""

    def __init__(self, aws, partners) -> None:
        self.aws, self.partners, self.now = aws, partners, NOW
        self.store = HashKeyStore("hash-key", aws_clients.secretsmanager())
        pushes = PushIndex(aws["REGISTER_TABLE"], aws_clients.dynamodb())
        self.use_case = HashKeyRotation(self.store, partners, pushes, KEPT, lambda: self.now)

    @property
    def keys(self) -> HashKeys:
        """The keys as a function would read them anew."""
        return Secrets(aws_clients.secretsmanager()).hash_keys("hash-key")

    @property
    def register(self) -> Register:
        """The register as a function would read it."""
        return Register(self.aws["REGISTER_TABLE"], aws_clients.dynamodb(), self.keys)

    def push(self, balance: int, minute: int) -> None:
        """A push about one loan."""
        message = Message(PROVIDER, (CustomerLoans(PERSON, BANK, (loan(balance, minute),)),))
        PushService(self.partners, self.register, self.keys).receive(message, f"NTRNO-{BANK}", self.now)

    def shown(self) -> list[int]:
        """The balances that a reader sees."""
        return [one.loan.balance for one in loans_shown(self.register, self.partners, PERSON).get(BANK, ())]

    def rows(self) -> list[str]:
        """The version and kind of everything in the register."""
        items = aws_clients.dynamodb().scan(TableName=self.aws["REGISTER_TABLE"])["Items"]
        return sorted(item["pk"]["S"].partition("#")[0] + item["sk"]["S"][0] for item in items)


def loan(balance: int, minute: int) -> RepaymentLoan:
    """A loan as of a minute."""
    return RepaymentLoan("4001", f"2026-11-22T11:{minute:02d}:00.0000000Z", None, 900, balance, 12, 800, 0, 0)


@pytest.fixture
def rotation(aws, partners) -> Rotation:
    """One institution that only pushes."""
    partners.put_institution(Institution(BANK, "Testbanken", providers=(Provider(PROVIDER),)))
    return Rotation(aws, partners)


def test_pushes_are_seen_before_during_and_after_and_none_is_left_twice(rotation) -> None:
    """The new key is written with when it is in force; a newer push takes away the one under the old key."""
    rotation.push(100, 1)
    assert rotation.use_case.rotate(**WHO) == {"version": "2", "from": "2026-11-22T12:30:00Z"}
    rotation.push(200, 2)
    assert (rotation.shown(), rotation.rows()) == ([200], ["1P"])
    rotation.now += SETTLING
    assert rotation.shown() == [200]
    rotation.push(150, 1)  # older: changes nothing, though it would be the first under the new key
    assert (rotation.shown(), rotation.rows()) == ([200], ["1P"])
    rotation.push(300, 3)
    assert (rotation.shown(), rotation.rows()) == ([300], ["2P"])
    rotation.now += SETTLING
    assert rotation.use_case.finish(**WHO) == {"retired": ["1"], "left": []}
    assert [key.version for key in rotation.keys.readable] == ["2"]
    assert rotation.shown() == [300]


def test_a_push_that_dies_before_the_old_one_is_deleted_is_completed_by_its_repetition(rotation, monkeypatch) -> None:
    """The newest counts meanwhile; sent again, the same message changes nothing but that."""
    rotation.push(100, 1)
    rotation.use_case.rotate(**WHO)
    rotation.now += SETTLING
    with monkeypatch.context() as broken:
        broken.setattr(Register, "delete_pushes", lambda *_: (_ for _ in ()).throw(TimeoutError))
        with pytest.raises(TimeoutError):
            rotation.push(200, 2)
    assert (rotation.shown(), rotation.rows()) == ([200], ["1P", "2P"])
    rotation.push(200, 2)
    assert (rotation.shown(), rotation.rows()) == ([200], ["2P"])


def test_an_old_key_stays_while_anything_lies_under_it(rotation, aws, partners) -> None:
    """A dataset, its fetch, what is left of it, or a push: the answer and the status name whose."""
    rotation.push(100, 1)
    rotation.use_case.rotate(**WHO)
    with pytest.raises(ConfigurationError, match="no old key"):
        rotation.use_case.finish(**WHO)
    rotation.now += SETTLING
    with pytest.raises(ConfigurationError, match="until 2026-11-22T13:00:00Z"):
        rotation.use_case.finish(**WHO)
    rotation.now += SETTLING
    with pytest.raises(ConfigurationError, match=f"datasets of nobody; pushes of {BANK}#{PROVIDER}"):
        rotation.use_case.finish(**WHO)
    assert [(key["version"], key["state"], key["pushes"]) for key in rotation.use_case.status()["keys"]] == [
        ("1", "old", {f"{BANK}#{PROVIDER}": 1}),
        ("2", "current", {}),
    ]
    datasets = DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), "2")
    datasets.delete_superseded_pushes(BANK, PROVIDER, "9", lambda: "9")
    for number, used in enumerate(
        (
            {"key_version": "1"},
            {"key_version": "2", "fetch": {"run": "n", "keyVersion": "1"}},
            {"fetch": None, "rekey": {"version": "1", "pending": "p"}},
            {"rekey": None, "retired": [{"version": "1", "file": "f", "position": 0}]},
        )
    ):
        dataset = partners.take_lease(BANK, PROVIDER, f"run-{number}", NOW + timedelta(days=number), 60)
        partners.update_dataset(dataset, f"run-{number}", **used)
        assert partners.dataset(BANK, PROVIDER) is not None
        with pytest.raises(ConfigurationError, match=f"datasets of {BANK}#{PROVIDER}; pushes of nobody"):
            rotation.use_case.finish(**WHO)
    dataset = partners.take_lease(BANK, PROVIDER, "end", NOW + timedelta(days=9), 60)
    partners.update_dataset(dataset, "end", retired=None, lease=None)
    assert rotation.use_case.finish(**WHO) == {"retired": ["1"], "left": []}


def test_a_reader_looks_under_all_keys_that_are_not_retired(rotation, aws, partners) -> None:
    """Items of two versions come in one answer; which of them count says the dataset's record."""
    rotation.use_case.rotate(**WHO)
    for key, balance in zip(rotation.keys.keys, (100, 200), strict=True):
        items = DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), key.version)
        rows = [(key.customer_key(PERSON), encode_loans((loan(balance, 1),)))]
        items.write_dataset_items(BANK, PROVIDER, "run", rows)
    assert [one.version for one in rotation.register.items_of(PERSON)] == [1, 2]
    assert rotation.shown() == [200]
    DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), "2").delete_dataset_items(
        BANK, PROVIDER, [rotation.keys.keys[1].customer_key(PERSON)]
    )
    assert rotation.shown() == [100]
    dataset = partners.take_lease(BANK, PROVIDER, "run", NOW, 60)
    partners.update_dataset(dataset, "run", key_version="2")
    assert rotation.shown() == []


def test_lookups_are_shown_under_every_key_that_is_kept(rotation, aws, partners) -> None:
    """A record outlives the key that it was made with; a key is dropped when no record can be under it."""
    recorder = LookupRecorder(aws["LOOKUP_TABLE"], aws_clients.dynamodb(), KEPT)
    first = rotation.keys.at(rotation.now)
    recorder.record([a_record(PERSON, at=NOW)._replace(customer=first.partition_of(PERSON))])
    rotation.use_case.rotate(**WHO)
    rotation.now += 2 * SETTLING
    second = rotation.keys.at(rotation.now)
    recorder.record([a_record(PERSON, at=rotation.now)._replace(customer=second.partition_of(PERSON))])
    rotation.use_case.finish(**WHO)
    history = LookupHistory(aws["LOOKUP_TABLE"], aws_clients.dynamodb())
    shown = ShowLookups(partners, history, rotation.keys, "synthetic").show(PERSON, **WHO, now=rotation.now)
    assert [one["at"] for one in shown["lookups"]] == ["2026-11-22T13:00:00Z", "2026-11-22T12:00:00Z"]
    rotation.now += KEPT
    rotation.use_case.rotate(**WHO)
    assert [key.version for key in rotation.keys.keys] == ["1", "2", "3"]
    rotation.now += timedelta(days=1)
    rotation.use_case.rotate(**WHO)
    assert [key.version for key in rotation.keys.keys] == ["2", "3", "4"]


def test_two_rotations_in_a_row_make_one_key_and_each_change_leaves_a_trail(rotation, partners) -> None:
    """An operator who repeats a command has no third key; without a reason there is none at all."""
    with pytest.raises(InvalidMessageError):
        rotation.use_case.rotate(operator="kari", reason=" ")
    rotation.use_case.rotate(**WHO)
    with pytest.raises(ConfigurationError, match="version 2 was made already"):
        rotation.use_case.rotate(**WHO)
    rotation.now += 2 * SETTLING
    rotation.use_case.finish(**WHO)
    assert [(one["who"], one["action"], one["subject"], one["reason"]) for one in partners.trail(NOW)] == [
        ("kari", "hash-key rotate", "hash key 2", "once a year"),
        ("kari", "hash-key finish", "hash key 1", "once a year"),
    ]


def test_the_function_makes_a_key_that_nobody_sees(aws, partners, log_stream) -> None:
    """Neither its answer nor its log holds it, and what it does not know it refuses."""
    handler = handler_of("rotate_hash_key")
    context = SimpleNamespace(aws_request_id="id", get_remaining_time_in_millis=lambda: 300_000)
    told = handler({"action": "rotate", **WHO}, context)
    status = handler({"action": "status"}, context)
    (_, new) = Secrets(aws_clients.secretsmanager()).hash_keys("hash-key").keys
    assert (told["version"], [key["state"] for key in status["keys"]]) == ("2", ["current", "coming"])
    assert len(new.secret) == 64
    assert new.secret.decode() not in json.dumps([told, status]) + log_stream.getvalue()
    with pytest.raises(ConfigurationError):
        handler({"action": "show"}, context)
