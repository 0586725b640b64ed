"""The circuit breaker's state in DynamoDB."""

from datetime import UTC, datetime, timedelta

import pytest

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.breaker_items import RETENTION, BreakerItems
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.services.circuit_breaker import FAILURES, FIRST_PAUSE, TRY_TIME, BreakerState, CircuitBreaker
from gjeldsbro.services.ports import Institution, Provider

FI = "0007:5569622441"
PROVIDER = "9908:920013015"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def items(aws) -> BreakerItems:
    """The store."""
    return BreakerItems(aws["PARTNER_TABLE"], aws_clients.dynamodb())


def another_process(aws) -> CircuitBreaker:
    """With a client and a memory of its own."""
    aws_clients.forget_clients()
    return CircuitBreaker(BreakerItems(aws["PARTNER_TABLE"], aws_clients.dynamodb()), kept=timedelta())


def test_failures_are_counted_one_by_one(items) -> None:
    """Each institution and provider by itself, foreign ones included."""
    assert items.states() == []
    assert items.add_failure(FI, PROVIDER, NOW) == BreakerState(FI, PROVIDER, 1)
    assert items.add_failure(FI, PROVIDER, NOW) == BreakerState(FI, PROVIDER, 2)
    items.add_failure("920013015", PROVIDER, NOW)
    assert items.states() == [BreakerState(FI, PROVIDER, 2), BreakerState("920013015", PROVIDER, 1)]


def test_a_change_is_made_once(items) -> None:
    """Only by whoever has seen the last one; the failures that others counted meanwhile stay."""
    moment, later = from_datetime(NOW), from_datetime(NOW + FIRST_PAUSE)
    opened = BreakerState(FI, PROVIDER, 1, pauses=1, since=moment, until=later)
    assert not items.change(opened, None, NOW)
    items.add_failure(FI, PROVIDER, NOW)
    items.add_failure(FI, PROVIDER, NOW)
    assert items.change(opened, None, NOW)
    assert not items.change(opened, None, NOW)
    assert items.states() == [BreakerState(FI, PROVIDER, 2, pauses=1, since=moment, until=later)]
    tried = BreakerState(FI, PROVIDER, 2, pauses=1, since=moment, until=from_datetime(NOW + TRY_TIME * 2), trying=True)
    assert items.change(tried, later, NOW)
    assert not items.change(tried, later, NOW)
    assert items.states() == [tried]


def test_what_is_removed_is_given_back(items) -> None:
    """So that one of many processes can say that it was open."""
    items.add_failure(FI, PROVIDER, NOW)
    assert items.remove(FI, PROVIDER) == BreakerState(FI, PROVIDER, 1)
    assert items.remove(FI, PROVIDER) is None
    assert items.states() == []


def test_an_item_goes_by_itself(aws, items) -> None:
    """Of a provider that nobody asks any more."""
    items.add_failure(FI, PROVIDER, NOW)
    key = {"pk": {"S": "BREAKER"}, "sk": {"S": f"{FI}#{PROVIDER}"}}
    item = aws_clients.dynamodb().get_item(TableName=aws["PARTNER_TABLE"], Key=key)["Item"]
    assert item["expires"] == {"N": str(int((NOW + RETENTION).timestamp()))}


def test_two_processes_never_try_at_the_same_time(aws, items, monkeypatch) -> None:
    """Both have seen that the pause is over; the store lets one of them have the try."""
    one, other = another_process(aws), another_process(aws)
    for _ in range(FAILURES):
        one.failed(FI, PROVIDER, NOW)
    due = NOW + FIRST_PAUSE
    seen = items.states()
    for breaker in (one, other):
        monkeypatch.setattr(breaker._store, "states", lambda: seen)
    assert [one.may_ask(FI, PROVIDER, due), other.may_ask(FI, PROVIDER, due)] == [True, False]
    monkeypatch.undo()
    assert not other.may_ask(FI, PROVIDER, due)
    one.failed(FI, PROVIDER, due)
    assert not other.may_ask(FI, PROVIDER, due + 2 * FIRST_PAUSE - timedelta(seconds=1))
    assert other.may_ask(FI, PROVIDER, due + 2 * FIRST_PAUSE)
    other.answered(FI, PROVIDER, due + 2 * FIRST_PAUSE)
    assert one.may_ask(FI, PROVIDER, due + 2 * FIRST_PAUSE)
    assert items.states() == []


def test_it_disturbs_nothing_else_in_the_table(items, partners) -> None:
    """Its partition is its own."""
    institution = Institution("920013015", "Testbanken AS", providers=(Provider(PROVIDER),))
    partners.put_institution(institution)
    items.add_failure("920013015", PROVIDER, NOW)
    items.remove("920013015", PROVIDER)
    assert partners.institutions() == [institution]


def test_a_table_that_is_not_there_fails_no_lookup(aws, log_stream) -> None:
    """Real errors of boto3, logged by their class."""
    breaker = CircuitBreaker(BreakerItems("no-such-table", aws_clients.dynamodb()))
    assert breaker.may_ask(FI, PROVIDER, NOW)
    breaker.failed(FI, PROVIDER, NOW)
    assert breaker.may_ask(FI, PROVIDER, NOW)
    assert "ResourceNotFoundException" in log_stream.getvalue()
