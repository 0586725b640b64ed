"""The RegisterTable on moto: real expressions, conditions and pages."""

from threading import Barrier, Event
from time import sleep

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.register import BATCH_SIZE, CONCURRENCY, MAX_ATTEMPTS, DatasetItems, Register
from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import RepaymentLoan, encode_loans
from gjeldsbro.domain.register import MAX_LOANS_BYTES, DatasetItem, Item, PushItem, StoredItem, push_version
from gjeldsbro.errors import DatasetRefusedError, StoreUnavailableError

KEY, NEW_KEY = HashKey("1", b"k" * 64), HashKey("2", b"n" * 64, "2026-11-22T06:00:00.0000000Z")
KEYS, BOTH_KEYS = HashKeys.of(KEY), HashKeys.of(NEW_KEY, KEY)
BANK, OTHER_BANK = "920013015", "0007:5569622441"
PROVIDER, OTHER_PROVIDER = "9908:920013015", "9908:985815534"
PERSON, OTHER_PERSON = "17912099997", "29822099635"
THROTTLED = ["ProvisionedThroughputExceededException", "ThrottlingException", "none"]


def at(tick: int) -> str:
    """The tick-th minute of an hour."""
    return f"2026-11-22T05:{tick:02d}:00.0000000Z"


def loan(tick: int, balance: int = 100, account: str = "a") -> RepaymentLoan:
    """A loan as of a tick."""
    return RepaymentLoan(account, at(tick), None, 1000, balance, 12, 1020, 0, 0)


def rows_of(count: int) -> list[tuple[bytes, bytes]]:
    """What a dataset says of so many customers."""
    return [(KEY.customer_key(str(number)), encode_loans((loan(1),))) for number in range(count)]


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


class Busy:
    """A DynamoDB client that takes "some" (one), "none", or nothing and says with which code, as told; then all."""

    def __init__(self, client, answers) -> None:
        self._client = client
        self._answers = list(answers)
        self.batches = []

    def batch_write_item(self, RequestItems):  # noqa: N803 - boto3's name
        """As DynamoDB does when many are at a table."""
        ((table, requests),) = RequestItems.items()
        self.batches.append(len(requests))
        match self._answers.pop(0) if self._answers else "all":
            case "all":
                return self._client.batch_write_item(RequestItems=RequestItems)
            case "some":
                self._client.batch_write_item(RequestItems={table: requests[:1]})
                return {"UnprocessedItems": {table: list(requests[1:])}}
            case "none":
                return {"UnprocessedItems": {table: list(requests)}}
            case code:
                raise ClientError({"Error": {"Code": code, "Message": "throughput"}}, "BatchWriteItem")


@pytest.fixture
def register(aws) -> Register:
    """The RegisterTable."""
    return Register(aws["REGISTER_TABLE"], aws_clients.dynamodb(), KEYS)


@pytest.fixture
def datasets(aws) -> DatasetItems:
    """The datasets' items in it."""
    return DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), KEY.version)


def items_of(register: Register, person: str) -> list[Item]:
    """What is stored of a person under the first key."""
    stored = register.items_of(person)
    assert {one.version for one in stored} <= {1}
    return [one.item for one in stored]


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

    assert register.put_pushes(((PERSON, item) for item in items), KEY) == 3
    assert in_order(items_of(register, PERSON)) == in_order(items)
    assert items_of(register, OTHER_PERSON) == []


def test_an_older_or_equal_push_does_not_replace_what_is_there(register, aws):
    """The condition compares versions: newer replaces, the same or older leaves the item as it is."""
    assert register.put_pushes([(PERSON, push(5, 1))], KEY) == 1
    before = rows_in(aws)

    assert register.put_pushes([(PERSON, push(5, 1)), (PERSON, push(4, 2))], KEY) == 0
    assert rows_in(aws) == before
    assert register.put_pushes([(PERSON, push(6, 3))], KEY) == 1
    assert items_of(register, PERSON) == [push(6, 3)]


def test_of_equal_timestamps_the_greater_digest_stays(register):
    """Two messages of the same instant end the same in either order."""
    for first, second in ((1, 2), (2, 1)):
        register.put_pushes([(PERSON, push(5, first, account=f"order {first}"))], KEY)
        register.put_pushes([(PERSON, push(5, second, account=f"order {first}"))], KEY)
    kept = {item.loan.account_id: item.loan.balance for item in items_of(register, PERSON)}

    # The account is part of the digest, so each account has its own greater one.
    for account, balance in kept.items():
        versions = {value: push_version(push(5, value, account=account).loan) for value in (1, 2)}
        assert versions[balance] == max(versions.values())


def test_the_commit_of_a_dataset_deletes_the_pushes_that_it_supersedes(register, datasets):
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
        KEY,
    )

    assert datasets.delete_superseded_pushes(BANK, PROVIDER, at(5), lambda: at(5)) == 3
    assert in_order(items_of(register, PERSON)) == in_order(
        [push(6, account="newer"), push(1, institution=OTHER_BANK), PushItem(BANK, OTHER_PROVIDER, loan(1))],
    )
    assert items_of(register, OTHER_PERSON) == []
    assert datasets.delete_superseded_pushes(BANK, PROVIDER, at(5), lambda: at(5)) == 0


def test_a_push_that_came_meanwhile_is_not_deleted(aws):
    """The index may lag behind: only the version that it showed is deleted."""
    client = aws_clients.dynamodb()
    register = Register(aws["REGISTER_TABLE"], client, KEYS)
    register.put_pushes([(PERSON, push(4))], KEY)

    class Lagging:
        """Shows the index as it is, and then a newer push arrives."""

        def __getattr__(self, name):
            return getattr(client, name)

        def query(self, **request):
            """The index, and the push that comes right after."""
            answer = client.query(**request)
            register.put_pushes([(PERSON, push(6))], KEY)
            return answer

    datasets = DatasetItems(aws["REGISTER_TABLE"], Lagging(), KEY.version)
    assert datasets.delete_superseded_pushes(BANK, PROVIDER, at(5), lambda: at(5)) == 0
    assert items_of(register, PERSON) == [push(6)]


def test_what_supersedes_pushes_is_asked_when_they_are_known(register, datasets):
    """A push that came after the answer is none of those that are deleted; without pushes nobody is asked."""
    assert datasets.delete_superseded_pushes(BANK, PROVIDER, at(5), pytest.fail) == 0

    def cover():
        register.put_pushes([(PERSON, push(3, account="just now"))], KEY)
        return at(4)

    register.put_pushes([(PERSON, push(4, account="superseded")), (PERSON, push(5, account="not yet"))], KEY)
    assert datasets.delete_superseded_pushes(BANK, PROVIDER, at(5), lambda: None) == 0
    assert datasets.delete_superseded_pushes(BANK, PROVIDER, at(5), cover) == 1
    assert in_order(items_of(register, PERSON)) == in_order([push(3, account="just now"), push(5, account="not yet")])


def test_many_pushes_of_one_provider_are_found_page_by_page(aws):
    """The index is read to its end, however many pages DynamoDB cuts it into."""
    client = aws_clients.dynamodb()
    register = Register(aws["REGISTER_TABLE"], client, KEYS)
    register.put_pushes(((PERSON, push(1, account=f"account {number}")) for number in range(30)), KEY)

    class Paging:
        """Answers with seven items at a time."""

        def __getattr__(self, name):
            return getattr(client, name)

        def query(self, **request):
            """One short page."""
            return client.query(**request, Limit=7)

    paging = Register(aws["REGISTER_TABLE"], Paging(), KEYS)
    assert len(items_of(paging, PERSON)) == 30
    datasets = DatasetItems(aws["REGISTER_TABLE"], Paging(), KEY.version)
    assert datasets.delete_superseded_pushes(BANK, PROVIDER, at(1), lambda: at(1)) == 30
    assert items_of(register, PERSON) == []


# Datasets


def test_dataset_items_are_written_replaced_and_deleted_in_batches(register, aws, datasets):
    """More rows than one batch takes, and deleting what is not there is no error."""
    people = [str(number) for number in range(2 * BATCH_SIZE + 3)]
    keys = [KEY.customer_key(person) for person in people]
    rows = [(key, encode_loans((loan(1),))) for key in keys]

    assert datasets.write_dataset_items(BANK, PROVIDER, "run-1", iter(rows)) == len(people)
    assert register.items_of_many(people) == [[StoredItem(1, DatasetItem(BANK, PROVIDER, (loan(1),)))]] * len(people)
    assert {row["run"]["S"] for row in rows_in(aws)} == {"run-1"}

    datasets.write_dataset_items(BANK, PROVIDER, "run-2", [(keys[0], encode_loans((loan(2), loan(2, 5, "b"))))])
    assert items_of(register, people[0]) == [DatasetItem(BANK, PROVIDER, (loan(2), loan(2, 5, "b")))]

    assert datasets.delete_dataset_items(BANK, PROVIDER, [*keys, KEY.customer_key(PERSON)]) == len(people) + 1
    assert rows_in(aws) == []
    assert datasets.write_dataset_items(BANK, PROVIDER, "run-3", []) == 0


def test_a_customer_who_moves_to_a_new_key_between_two_queries_is_seen(aws, datasets):
    """The old key is asked first: what has gone from under it was written under the new one before."""
    datasets.write_dataset_items(BANK, PROVIDER, "n1", [(KEY.customer_key(PERSON), encode_loans((loan(1),)))])
    under_new_key = Event()
    client = aws_clients.dynamodb()

    class Moving:
        """A client whose query under the old key is slow: the load moves the customer before it is answered."""

        def query(self, **request):
            """The answer, under the old key as late as can be."""
            if request["ExpressionAttributeValues"][":pk"]["S"].startswith("2#"):
                try:
                    return client.query(**request)
                finally:
                    under_new_key.set()
            under_new_key.wait(0.2)  # where both are asked at once
            new = DatasetItems(aws["REGISTER_TABLE"], client, NEW_KEY.version)
            new.write_dataset_items(BANK, PROVIDER, "n2", [(NEW_KEY.customer_key(PERSON), encode_loans((loan(2),)))])
            datasets.delete_dataset_items(BANK, PROVIDER, [KEY.customer_key(PERSON)])
            return client.query(**request)

    reader = Register(aws["REGISTER_TABLE"], Moving(), BOTH_KEYS)
    assert reader.items_of(PERSON) == [StoredItem(2, DatasetItem(BANK, PROVIDER, (loan(2),)))]


def test_a_dataset_leaves_pushes_and_other_datasets_alone(register, datasets):
    """Nightly and pushed data, and the providers' data, are items of their own."""
    register.put_pushes([(PERSON, push(1))], KEY)
    datasets.write_dataset_items(BANK, PROVIDER, "run", [(KEY.customer_key(PERSON), encode_loans((loan(2),)))])
    datasets.write_dataset_items(BANK, OTHER_PROVIDER, "run", [(KEY.customer_key(PERSON), encode_loans((loan(3),)))])

    datasets.delete_dataset_items(BANK, PROVIDER, [KEY.customer_key(PERSON)])

    assert in_order(items_of(register, PERSON)) == [DatasetItem(BANK, OTHER_PROVIDER, (loan(3),)), push(1)]


def test_what_dynamodb_leaves_unprocessed_is_written_again(aws):
    """A throttled batch is tried again with what is left of it, after waits that vary."""
    waits = []
    client = Stubborn(aws_clients.dynamodb(), times=3)
    datasets = DatasetItems(aws["REGISTER_TABLE"], client, KEY.version, wait=waits.append)
    rows = [(KEY.customer_key(str(number)), encode_loans((loan(1),))) for number in range(10)]

    assert datasets.write_dataset_items(BANK, PROVIDER, "run", rows) == 10
    assert client.batches == [10, 9, 8, 7]
    assert len(rows_in(aws)) == 10
    assert len(waits) == 3
    assert all(0 <= wait <= 0.1 for wait in waits)
    assert datasets.delete_dataset_items(BANK, PROVIDER, (key for key, _ in rows)) == 10


def test_a_batch_of_which_nothing_is_taken_is_an_error(aws):
    """After MAX_ATTEMPTS tries in a row the caller hears of it, and the state machine tries again later."""
    waits = []
    client = Busy(aws_clients.dynamodb(), ["some", *THROTTLED * MAX_ATTEMPTS])
    datasets = DatasetItems(aws["REGISTER_TABLE"], client, KEY.version, wait=waits.append)

    with pytest.raises(StoreUnavailableError):
        datasets.write_dataset_items(BANK, PROVIDER, "run", rows_of(BATCH_SIZE))
    assert len(client.batches) == 1 + MAX_ATTEMPTS
    assert sum(waits) <= 72


def test_a_batch_goes_on_as_long_as_something_of_it_is_taken(aws):
    """A table that many loads are at takes an item now and then: that is slow, and no failure."""
    answers = [*THROTTLED * ((MAX_ATTEMPTS - 1) // len(THROTTLED)), "some"] * (BATCH_SIZE - 1)
    client = Busy(aws_clients.dynamodb(), answers)
    datasets = DatasetItems(aws["REGISTER_TABLE"], client, KEY.version, wait=lambda _: None)

    assert datasets.write_dataset_items(BANK, PROVIDER, "run", rows_of(BATCH_SIZE)) == BATCH_SIZE
    assert len(client.batches) == len(answers) + 1
    assert len(rows_in(aws)) == BATCH_SIZE


@pytest.mark.parametrize("code", ["AccessDeniedException", "ValidationException"])
def test_an_error_that_is_no_throttling_is_not_tried_again(aws, code):
    """What does not pass by waiting is told at once."""
    datasets = DatasetItems(aws["REGISTER_TABLE"], Busy(None, [code]), KEY.version, wait=pytest.fail)

    with pytest.raises(ClientError, match=code):
        datasets.write_dataset_items(BANK, PROVIDER, "run", rows_of(1))


def test_batches_are_written_side_by_side_and_each_once(aws):
    """Writers take turns at the rows, which come from one stream, and write at the same time."""
    both, written = Barrier(2), []

    class Meeting(Stubborn):
        def batch_write_item(self, RequestItems):  # noqa: N803 - boto3's name
            both.wait(10)
            written.append([one["PutRequest"]["Item"]["loans"]["B"] for one in RequestItems[aws["REGISTER_TABLE"]]])
            return {"UnprocessedItems": {}}

    datasets = DatasetItems(aws["REGISTER_TABLE"], Meeting(None, 0), KEY.version)
    loans = [number.to_bytes(2) for number in range(40 * BATCH_SIZE)]
    rows = ((KEY.customer_key(str(number)), one) for number, one in enumerate(loans))

    assert datasets.write_dataset_items(BANK, PROVIDER, "run", rows) == len(loans)
    assert len(written) == 40
    assert sorted(one for batch in written for one in batch) == loans


def test_after_an_error_no_batch_is_begun(aws):
    """The state machine tries again from the last position noted: what is written until then is written in vain."""
    failed, begun = Event(), []

    class Failing(Stubborn):
        def batch_write_item(self, RequestItems):  # noqa: N803 - boto3's name
            begun.append(RequestItems)
            if len(begun) == 1:
                failed.set()
                raise EndpointConnectionError(endpoint_url="https://dynamodb")
            failed.wait(10)
            sleep(0.02)
            return {"UnprocessedItems": {}}

    datasets = DatasetItems(aws["REGISTER_TABLE"], Failing(None, 0), KEY.version)
    rows = [(KEY.customer_key(str(number)), b"x") for number in range(400 * BATCH_SIZE)]

    with pytest.raises(EndpointConnectionError):
        datasets.write_dataset_items(BANK, PROVIDER, "run", rows)
    assert len(begun) <= 2 * CONCURRENCY


def test_every_request_is_checked_here(aws):
    """In production the client leaves that to DynamoDB; a fault of ours is seen before."""
    with pytest.raises(ParamValidationError):
        aws_clients.dynamodb().get_item(TableName=aws["REGISTER_TABLE"], Key={"pk": {"S": 1}})


def test_a_customer_that_fits_no_item_is_refused_clearly(register, datasets):
    """DynamoDB's 400 KB are met by a rule of ours, not by its error."""
    with pytest.raises(DatasetRefusedError, match=str(MAX_LOANS_BYTES)):
        datasets.write_dataset_items(BANK, PROVIDER, "run", [(KEY.customer_key(PERSON), bytes(MAX_LOANS_BYTES + 1))])
    assert items_of(register, PERSON) == []


def test_a_customer_larger_than_a_page_is_read_whole(register, datasets):
    """A Query answers with at most 1 MB: the rest is fetched too."""
    big = tuple(RepaymentLoan(f"account {number}", at(1), "x" * 300, 1, 1, 1, 1, 1, 0) for number in range(900))
    for provider in (PROVIDER, OTHER_PROVIDER, "9990:920013015", "9990:985815534"):
        datasets.write_dataset_items(BANK, provider, "run", [(KEY.customer_key(PERSON), encode_loans(big))])

    assert sum(len(item.loans) for item in items_of(register, PERSON)) == 4 * len(big)


# Pseudonymity


def test_the_table_holds_no_number_of_a_person_and_no_account_in_its_keys(register, aws):
    """Keys are keyed hashes, and two borrowers of one account do not share any of them."""
    account = "12345678903"
    register.put_pushes([(person, push(1, account=account)) for person in (PERSON, OTHER_PERSON)], KEY)
    rows = rows_in(aws)

    assert "17912099997" not in str(rows)
    for row in rows:
        assert row["pk"]["S"].startswith("1#")
        assert account not in str({name: value for name, value in row.items() if name != "loans"})
    assert len({row["sk"]["S"] for row in rows}) == 2
    assert HashKey("1", b"x" * 64).customer_key(PERSON) != KEY.customer_key(PERSON)


def test_a_datasets_keys_are_found_without_an_index(aws) -> None:
    """Under all versions of the hash key, in segments that together are the table; nobody else's, and no pushes."""
    client, table = aws_clients.dynamodb(), aws["REGISTER_TABLE"]
    persons = [bytes([number]) * 32 for number in range(40)]
    for version, chosen in (("1", persons[:30]), ("2", persons[20:])):
        items = DatasetItems(table, client, version)
        items.write_dataset_items(BANK, PROVIDER, "run", ((person, b"x") for person in chosen))
        items.write_dataset_items(BANK, OTHER_PROVIDER, "run", ((person, b"x") for person in persons))
        items.write_dataset_items(OTHER_BANK, PROVIDER, "run", ((person, b"x") for person in persons))
    Register(table, client, KEYS).put_pushes([(PERSON, push(1))], KEY)

    found = DatasetItems(table, client, "1").dataset_keys(BANK, PROVIDER, range(8), 8)

    assert len(found) == 8
    assert sorted({key for segment in found for key in segment}) == sorted(
        [*(("1", person) for person in persons[:30]), *(("2", person) for person in persons[20:])]
    )
