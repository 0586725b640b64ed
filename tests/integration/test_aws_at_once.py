"""What the benchmarks have in place of AWS does what moto does, as far as our adapters ask."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from tests.bench import aws
from tests.bench.aws import Aws, Objects, Sink, Table
from tests.integration.conftest import ENVIRONMENT, stores

from gjeldsbro.adapters import aws as our_clients
from gjeldsbro.adapters.breaker_items import BreakerItems
from gjeldsbro.adapters.data_store import PART_SIZE, DataStore
from gjeldsbro.adapters.pace import SharedPace
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import DatasetItems, Register
from gjeldsbro.adapters.revocations import Revocations
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import RepaymentLoan, encode_loans
from gjeldsbro.domain.register import DatasetItem, PushItem, StoredItem
from gjeldsbro.errors import DatasetBusyError
from gjeldsbro.services.ports import Institution, Provider
from gjeldsbro.services.refresh_revocations import RevocationList

BANK, PROVIDER, PERSON = "920013015", "9908:920013015", "17912099997"
KEY = HashKey("1", b"k" * 64)
NOW = datetime(2026, 11, 22, 5, 5, tzinfo=UTC)
LOAN = RepaymentLoan("a", "2026-11-22T05:00:00.0000000Z", None, 1000, 100, 12, 1020, 0, 0)


@pytest.fixture(params=["moto", "in memory", "as files"])
def account(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[None]:
    """An account of AWS behind our clients, either way."""
    if request.param == "moto":
        with stores(monkeypatch):
            yield
        return
    objects = Objects() if request.param == "in memory" else Objects(tmp_path / "objects")
    at_once(monkeypatch, objects)
    yield
    our_clients.forget_clients()


def at_once(monkeypatch: pytest.MonkeyPatch, objects: Objects | None = None, **tables: Table | Sink) -> Aws:
    """An account that answers at once."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    tables = {ENVIRONMENT["PARTNER_TABLE"]: Table(), ENVIRONMENT["REGISTER_TABLE"]: Table(), **tables}
    account = Aws(tables, objects, {"hash-key": '{"version": "1", "key": "' + "k" * 64 + '"}'})
    account.install()
    return account


@pytest.fixture
def partners(account) -> Partners:
    """The PartnerTable."""
    return Partners(ENVIRONMENT["PARTNER_TABLE"], our_clients.dynamodb())


@pytest.fixture
def store(account) -> DataStore:
    """The data bucket."""
    return DataStore(ENVIRONMENT["DATA_BUCKET"], our_clients.s3())


def test_leases_and_datasets_go_by_their_conditions(partners):
    """Whoever has the lease changes the dataset, nobody else does, and what was removed is gone."""
    dataset = partners.take_lease(BANK, PROVIDER, "one", NOW, 60)
    with pytest.raises(DatasetBusyError):
        partners.take_lease(BANK, PROVIDER, "other", NOW, 60)
    with pytest.raises(DatasetBusyError):
        partners.update_dataset(dataset, "other", run="other")
    fetch = {"pages": 3, "seen": [1, "b", None]}
    dataset = partners.update_dataset(dataset, "one", run="one", fetch=fetch, pending="p")
    dataset = partners.update_dataset(dataset, "one", pending=None, customers=5)

    assert dataset == partners.dataset(BANK, PROVIDER)
    assert (dataset.fetch, dataset.pending, dataset.customers) == (fetch, None, 5)
    assert [one.customers for one in partners.datasets(BANK)] == [5]
    assert partners.datasets("920013014") == []
    assert [time.as_of for time in partners.dataset_times()] == [None]
    partners.remove_dataset(dataset, "one")
    assert partners.datasets() == []


def test_institutions_are_dropped_only_as_they_were_read(partners):
    """A condition on a list and a boolean."""
    known = Institution(BANK, "Testbanken", providers=(Provider(PROVIDER, url="https://x", ended=True),), ended=True)
    partners.put_institution(known)

    assert not partners.drop_provider(Institution(BANK, "Testbanken", ended=True), PROVIDER)
    assert partners.institutions() == [known]
    assert partners.drop_provider(known, PROVIDER)
    assert partners.institution(BANK) is None


def test_what_is_counted_and_timed_is_added_up(partners):
    """Requests of a caller, failures of an institution, turns at a provider, and a range of a trail."""
    assert [partners.count("c", NOW, NOW) for _ in range(3)] == [1, 2, 3]
    breakers = BreakerItems(ENVIRONMENT["PARTNER_TABLE"], our_clients.dynamodb())
    assert [breakers.add_failure(BANK, PROVIDER, NOW).failures for _ in range(2)] == [1, 2]
    assert breakers.remove(BANK, PROVIDER).failures == 2
    pace = SharedPace(ENVIRONMENT["PARTNER_TABLE"], our_clients.dynamodb(), 10)
    assert [pace.turn(PROVIDER, 1000.0, 1000.15) for _ in range(3)] == [1000.0, 1000.1, None]
    for minutes in (0, 5, 10):
        partners.record_trail(
            who="k", action=str(minutes), subject="s", reason=None, now=NOW + timedelta(minutes=minutes)
        )
    assert [entry["action"] for entry in partners.trail(NOW + timedelta(minutes=1))] == ["5", "10"]


def test_deliveries_are_claimed_and_announced(partners):
    """Conditions with brackets, on names and on what lies inside a map."""
    claim = (BANK, BANK, "2026Q4")
    assert partners.claim_delivery(*claim, "one", NOW, again=False) is not None
    announced = {"run": "one", "until": "2026-11-22T06:00:00.0000000Z", "sha256": "ab"}
    assert partners.start_publishing(*claim, "one", announced)
    assert not partners.start_publishing(*claim, "other", announced)
    assert not partners.start_publishing(*claim, "one", {**announced, "sha256": "cd"})
    assert partners.update_delivery(*claim, "one", {"deliveredAt": "x"})
    assert partners.claim_delivery(*claim, "other", NOW, again=False) is None


def test_the_register_keeps_what_is_written(account):
    """Batches, conditions on versions, the index of pushes and segments."""
    register = Register(ENVIRONMENT["REGISTER_TABLE"], our_clients.dynamodb(), HashKeys.of(KEY))
    datasets = DatasetItems(ENVIRONMENT["REGISTER_TABLE"], our_clients.dynamodb(), KEY.version)
    keys = [KEY.customer_key(PERSON), *(number.to_bytes(32) for number in range(60))]

    assert datasets.write_dataset_items(BANK, PROVIDER, "r", [(key, encode_loans((LOAN,))) for key in keys]) == 61
    assert datasets.delete_dataset_items(BANK, PROVIDER, keys[-10:]) == 10
    found = datasets.dataset_keys(BANK, PROVIDER, range(3), 3)
    assert sorted(pair for segment in found for pair in segment) == sorted(("1", key) for key in keys[:-10])
    push = PushItem(BANK, PROVIDER, LOAN)
    assert [register.put_pushes([(PERSON, push)], KEY) for _ in range(2)] == [1, 0]
    assert sorted(register.items_of(PERSON), key=repr) == sorted(
        [StoredItem(1, DatasetItem(BANK, PROVIDER, (LOAN,))), StoredItem(1, push)], key=repr
    )
    for until, deleted in (("2026-11-22T04:00:00.0000000Z", 0), ("2026-11-22T05:00:00.0000000Z", 1)):
        assert datasets.delete_superseded_pushes(BANK, PROVIDER, until, lambda: "9") == deleted
    assert register.items_of(PERSON) == [StoredItem(1, DatasetItem(BANK, PROVIDER, (LOAN,)))]


def test_a_transaction_is_done_as_a_whole(account):
    """A list is set up with all of its chunks."""
    revocations = Revocations(ENVIRONMENT["PARTNER_TABLE"], our_clients.dynamodb())
    for _ in range(2):
        revocations.configure(RevocationList("issuer", "name", "https://x", "pem"))
    partition = our_clients.dynamodb().query(
        TableName=ENVIRONMENT["PARTNER_TABLE"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "REVOKED#issuer"}},
    )

    assert [one.name for one in revocations.lists()] == ["name"]
    assert partition["Count"] == 16


def test_objects_come_back_as_they_were_written(store):
    """Whole, in pieces and in ranges, listed in order and deleted; also names that a URL would not take."""
    large = bytes(range(256)) * (2 * PART_SIZE // 256) + b"end"
    store.put("a/one å/9908:1.json", b"[1]")
    with store.writer("a/two") as writer:
        for start in range(0, len(large), 1 << 20):
            writer.write(large[start : start + (1 << 20)])
    with suppress(InterruptedError), store.writer("a/three") as writer:
        writer.write(large)
        raise InterruptedError

    assert store.get_json("a/one å/9908:1.json") == [1]
    assert store.size("a/two") == len(large)
    assert b"".join(store.open("a/two", start=5, chunk=1 << 20)) == large[5:]
    assert list(store.keys("a/")) == ["a/one å/9908:1.json", "a/two"]
    assert not store.exists("a/three")
    for missing in (store.get, store.size):
        with pytest.raises(KeyError):
            missing("a/three")
    assert store.delete_prefix("a/") == 2
    assert list(store.keys("")) == []


def test_more_keys_than_a_page_are_listed(store, monkeypatch):
    """The client asks for the next page by itself."""
    monkeypatch.setattr(aws, "_KEYS_A_PAGE", 2)
    for number in range(5):
        store.put(f"k/{number} å", b"")

    assert list(store.keys("k/")) == [f"k/{number} å" for number in range(5)]
    assert store.delete_prefix("k/") == 5


def test_secrets_are_read(account):
    """The hash key."""
    assert Secrets(our_clients.secretsmanager()).hash_keys("hash-key") == HashKeys.of(KEY)


def test_calls_items_and_bytes_are_counted(monkeypatch):
    """Each request once, by its name; items and what they are billed as."""
    account = at_once(monkeypatch, register=Sink())
    datasets = DatasetItems("register", our_clients.dynamodb(), KEY.version)
    datasets.write_dataset_items(BANK, PROVIDER, "r", [(bytes([number]) * 32, b"x" * 900) for number in range(60)])
    datasets.delete_dataset_items(BANK, PROVIDER, [b"k" * 32])

    assert account.counts["dynamodb.BatchWriteItem"] == 4
    assert (account.counts["items written"], account.counts["items deleted"]) == (60, 1)
    assert account.counts["items written in batches"] == 60
    assert account.counts["bytes sent"] > 60 * 1200
    our_clients.forget_clients()


def test_what_is_written_can_be_weighed(monkeypatch):
    """A unit is a KiB of an item."""
    account = at_once(monkeypatch, register=Sink())
    account._weigh = True
    datasets = DatasetItems("register", our_clients.dynamodb(), KEY.version)
    datasets.write_dataset_items(BANK, PROVIDER, "r", [(b"a" * 32, b"x" * 900), (b"b" * 32, b"x" * 1900)])

    assert account.counts["write units"] == 1 + 2
    our_clients.forget_clients()


def test_nothing_unknown_is_answered(monkeypatch):
    """An operation that nobody wrote is told, and never sent."""
    at_once(monkeypatch)
    with pytest.raises(NotImplementedError, match="ListTagsOfResource"):
        our_clients.dynamodb().list_tags_of_resource(ResourceArn="arn:aws:dynamodb:eu-north-1:1:table/partners")
    with pytest.raises(NotImplementedError, match="ListBuckets"):
        our_clients.s3().list_buckets()
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        our_clients.dynamodb().delete_item(
            TableName="partners",
            Key={"pk": {"S": "a"}, "sk": {"S": "b"}},
            ConditionExpression="attribute_exists(pk)",
        )
    our_clients.forget_clients()
