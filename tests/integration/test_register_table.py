"""The RegisterTable on moto: real expressions, conditions and pages."""

import pytest

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.register import BATCH_SIZE, MAX_ATTEMPTS, Register
from gjeldsbro.domain.customer_keys import HashKey
from gjeldsbro.domain.loans import RepaymentLoan, encode_loans
from gjeldsbro.domain.register import MAX_LOANS_BYTES, DatasetItem, Item, PushItem, push_version
from gjeldsbro.errors import DatasetRefusedError, StoreUnavailableError

KEY = HashKey("1", b"k" * 64)
BANK, OTHER_BANK = "920013015", "0007:5569622441"
PROVIDER, OTHER_PROVIDER = "9908:920013015", "9908:985815534"
PERSON, OTHER_PERSON = KEY.customer_key("17912099997"), KEY.customer_key("29822099635")


def at(tick: int) -> str:
    """The tick-th minute of an hour."""
    return f"2026-11-22T05:{tick:02d}:00.0000000Z"


def loan(tick: int, balance: int = 100, account: str = "a") -> RepaymentLoan:
    """A loan as of a tick."""
    return RepaymentLoan(account, at(tick), None, 1000, balance, 12, 1020, 0, 0)


def push(tick: int, balance: int = 100, account: str = "a", institution: str = BANK) -> PushItem:
    """A push of a tick."""
    return PushItem(institution, PROVIDER, loan(tick, balance, account))


class Stubborn:
    """A DynamoDB client that leaves all but the first item of each batch unprocessed, a number of times."""

    def __init__(self, client, times: int) -> None:
        self._client = client
        self._times = times
        self.batches = []

    def __getattr__(self, name):
        return getattr(self._client, name)

    def batch_write_item(self, RequestItems):  # noqa: N803 - boto3's name
        """As DynamoDB does when it throttles."""
        ((table, requests),) = RequestItems.items()
        self.batches.append(len(requests))
        if self._times == 0:
            return self._client.batch_write_item(RequestItems=RequestItems)
        self._times -= 1
        self._client.batch_write_item(RequestItems={table: requests[:1]})
        return {"UnprocessedItems": {table: list(requests[1:])} if requests[1:] else {}}


@pytest.fixture
def register(aws) -> Register:
    """The RegisterTable."""
    return Register(aws["REGISTER_TABLE"], aws_clients.dynamodb(), KEY)


def in_order(items: list[Item]) -> list[Item]:
    """Items in an order that does not depend on the table."""
    return sorted(items, key=repr)


def rows_in(aws) -> list[dict]:
    """Everything in the table."""
    return aws_clients.dynamodb().scan(TableName=aws["REGISTER_TABLE"])["Items"]


# Pushes


def test_a_push_comes_back_as_it_was_put(register):
    """Each loan is an item of its own, also at a foreign institution whose id has a colon."""
    items = [push(1), push(1, account="b"), push(1, institution=OTHER_BANK)]

    assert register.put_pushes((PERSON, item) for item in items) == 3
    assert in_order(register.items_of(PERSON)) == in_order(items)
    assert register.items_of(OTHER_PERSON) == []


def test_an_older_or_equal_push_does_not_replace_what_is_there(register, aws):
    """The condition compares versions: newer replaces, the same or older leaves the item as it is."""
    assert register.put_pushes([(PERSON, push(5, 1))]) == 1
    before = rows_in(aws)

    assert register.put_pushes([(PERSON, push(5, 1)), (PERSON, push(4, 2))]) == 0
    assert rows_in(aws) == before
    assert register.put_pushes([(PERSON, push(6, 3))]) == 1
    assert register.items_of(PERSON) == [push(6, 3)]


def test_of_equal_timestamps_the_greater_digest_stays(register):
    """Two messages of the same instant end the same in either order."""
    for first, second in ((1, 2), (2, 1)):
        register.put_pushes([(PERSON, push(5, first, account=f"order {first}"))])
        register.put_pushes([(PERSON, push(5, second, account=f"order {first}"))])
    kept = {item.loan.account_id: item.loan.balance for item in register.items_of(PERSON)}

    # The account is part of the digest, so each account has its own greater one.
    for account, balance in kept.items():
        versions = {value: push_version(push(5, value, account=account).loan) for value in (1, 2)}
        assert versions[balance] == max(versions.values())


def test_the_commit_of_a_dataset_deletes_the_pushes_that_it_supersedes(register):
    """Up to and including the cover, of that provider and institution only."""
    register.put_pushes(
        [
            (PERSON, push(4, account="older")),
            (PERSON, push(5, account="equal")),
            (PERSON, push(6, account="newer")),
            (OTHER_PERSON, push(1)),
            (PERSON, push(1, institution=OTHER_BANK)),
            (PERSON, PushItem(BANK, OTHER_PROVIDER, loan(1))),
        ],
    )

    assert register.delete_superseded_pushes(BANK, PROVIDER, at(5)) == 3
    assert in_order(register.items_of(PERSON)) == in_order(
        [push(6, account="newer"), push(1, institution=OTHER_BANK), PushItem(BANK, OTHER_PROVIDER, loan(1))],
    )
    assert register.items_of(OTHER_PERSON) == []
    assert register.delete_superseded_pushes(BANK, PROVIDER, at(5)) == 0


def test_a_push_that_came_meanwhile_is_not_deleted(aws):
    """The index may lag behind: only the version that it showed is deleted."""
    client = aws_clients.dynamodb()
    register = Register(aws["REGISTER_TABLE"], client, KEY)
    register.put_pushes([(PERSON, push(4))])

    class Lagging:
        """Shows the index as it is, and then a newer push arrives."""

        def __getattr__(self, name):
            return getattr(client, name)

        def query(self, **request):
            """The index, and the push that comes right after."""
            answer = client.query(**request)
            register.put_pushes([(PERSON, push(6))])
            return answer

    assert Register(aws["REGISTER_TABLE"], Lagging(), KEY).delete_superseded_pushes(BANK, PROVIDER, at(5)) == 0
    assert register.items_of(PERSON) == [push(6)]


def test_many_pushes_of_one_provider_are_found_page_by_page(aws):
    """The index is read to its end, however many pages DynamoDB cuts it into."""
    client = aws_clients.dynamodb()
    register = Register(aws["REGISTER_TABLE"], client, KEY)
    register.put_pushes((PERSON, push(1, account=f"account {number}")) for number in range(30))

    class Paging:
        """Answers with seven items at a time."""

        def __getattr__(self, name):
            return getattr(client, name)

        def query(self, **request):
            """One short page."""
            return client.query(**request, Limit=7)

    paging = Register(aws["REGISTER_TABLE"], Paging(), KEY)
    assert len(paging.items_of(PERSON)) == 30
    assert paging.delete_superseded_pushes(BANK, PROVIDER, at(1)) == 30
    assert register.items_of(PERSON) == []


# Datasets


def test_dataset_items_are_written_replaced_and_deleted_in_batches(register, aws):
    """More rows than one batch takes, and deleting what is not there is no error."""
    people = [KEY.customer_key(str(number)) for number in range(2 * BATCH_SIZE + 3)]
    rows = [(person, encode_loans((loan(1),))) for person in people]

    assert register.write_dataset_items(BANK, PROVIDER, "run-1", iter(rows)) == len(people)
    assert register.items_of_many(people) == [[DatasetItem(BANK, PROVIDER, (loan(1),))]] * len(people)
    assert {row["run"]["S"] for row in rows_in(aws)} == {"run-1"}

    register.write_dataset_items(BANK, PROVIDER, "run-2", [(people[0], encode_loans((loan(2), loan(2, 5, "b"))))])
    assert register.items_of(people[0]) == [DatasetItem(BANK, PROVIDER, (loan(2), loan(2, 5, "b")))]

    assert register.delete_dataset_items(BANK, PROVIDER, [*people, PERSON]) == len(people) + 1
    assert rows_in(aws) == []
    assert register.write_dataset_items(BANK, PROVIDER, "run-3", []) == 0


def test_a_dataset_leaves_pushes_and_other_datasets_alone(register):
    """Nightly and pushed data, and the providers' data, are items of their own."""
    register.put_pushes([(PERSON, push(1))])
    register.write_dataset_items(BANK, PROVIDER, "run", [(PERSON, encode_loans((loan(2),)))])
    register.write_dataset_items(BANK, OTHER_PROVIDER, "run", [(PERSON, encode_loans((loan(3),)))])

    register.delete_dataset_items(BANK, PROVIDER, [PERSON])

    assert in_order(register.items_of(PERSON)) == [DatasetItem(BANK, OTHER_PROVIDER, (loan(3),)), push(1)]


def test_what_dynamodb_leaves_unprocessed_is_written_again(aws):
    """A throttled batch is tried again with what is left of it, after waits that vary."""
    waits = []
    client = Stubborn(aws_clients.dynamodb(), times=3)
    register = Register(aws["REGISTER_TABLE"], client, KEY, wait=waits.append)
    rows = [(KEY.customer_key(str(number)), encode_loans((loan(1),))) for number in range(10)]

    assert register.write_dataset_items(BANK, PROVIDER, "run", rows) == 10
    assert client.batches == [10, 9, 8, 7]
    assert len(rows_in(aws)) == 10
    assert len(waits) == 3
    assert all(0 <= wait <= 0.05 * 2 ** (number + 1) for number, wait in enumerate(waits))
    assert register.delete_dataset_items(BANK, PROVIDER, (key for key, _ in rows)) == 10


def test_a_batch_that_stays_unprocessed_is_an_error(aws):
    """After MAX_ATTEMPTS tries the caller hears of it, and the state machine tries again later."""
    waits = []
    client = Stubborn(aws_clients.dynamodb(), times=MAX_ATTEMPTS)
    register = Register(aws["REGISTER_TABLE"], client, KEY, wait=waits.append)
    rows = [(KEY.customer_key(str(number)), encode_loans((loan(1),))) for number in range(BATCH_SIZE)]

    with pytest.raises(StoreUnavailableError):
        register.write_dataset_items(BANK, PROVIDER, "run", rows)
    assert len(client.batches) == MAX_ATTEMPTS
    assert sum(waits) <= 20


def test_a_customer_that_fits_no_item_is_refused_clearly(register):
    """DynamoDB's 400 KB are met by a rule of ours, not by its error."""
    with pytest.raises(DatasetRefusedError, match=str(MAX_LOANS_BYTES)):
        register.write_dataset_items(BANK, PROVIDER, "run", [(PERSON, bytes(MAX_LOANS_BYTES + 1))])
    assert register.items_of(PERSON) == []


def test_a_customer_larger_than_a_page_is_read_whole(register):
    """A Query answers with at most 1 MB: the rest is fetched too."""
    big = tuple(RepaymentLoan(f"account {number}", at(1), "x" * 300, 1, 1, 1, 1, 1, 0) for number in range(900))
    for provider in (PROVIDER, OTHER_PROVIDER, "9990:920013015", "9990:985815534"):
        register.write_dataset_items(BANK, provider, "run", [(PERSON, encode_loans(big))])

    assert sum(len(item.loans) for item in register.items_of(PERSON)) == 4 * len(big)


# Pseudonymity


def test_the_table_holds_no_number_of_a_person_and_no_account_in_its_keys(register, aws):
    """Keys are keyed hashes, and two borrowers of one account do not share any of them."""
    account = "12345678903"
    register.put_pushes([(person, push(1, account=account)) for person in (PERSON, OTHER_PERSON)])
    rows = rows_in(aws)

    assert "17912099997" not in str(rows)
    for row in rows:
        assert row["pk"]["S"].startswith("1#")
        assert account not in str({name: value for name, value in row.items() if name != "loans"})
    assert len({row["sk"]["S"] for row in rows}) == 2
    assert HashKey("1", b"x" * 64).customer_key("17912099997") != PERSON
