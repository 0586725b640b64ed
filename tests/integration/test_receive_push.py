"""The push function on moto: from the API Gateway event to the register, and every refusal."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from botocore.exceptions import EndpointConnectionError
from functions.receive_push import receive_push
from tests.client_certificates import BANK, OTHER_BANK, PUSH_PATH, request, seid_2
from tests.register_reader import loans_shown

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.partner_cache import PUSHED_EVERY, TIMES_SECONDS, PushPartners
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import Register
from gjeldsbro.adapters.secrets import HashKeyStore
from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.identity_numbers import with_check_digits
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import StoreUnavailableError
from gjeldsbro.services.ports import Institution, Provider
from gjeldsbro.settings import forget_settings

EVENT = json.loads((Path(__file__).parents[2] / "events" / "receive_push.json").read_text(encoding="utf-8"))
PERSON = "17912099997"
PROVIDER = f"9908:{BANK}"
KEY = HashKey("1", b"k" * 64)


@pytest.fixture
def push(aws, partners):
    """Sends an event to the function; Testbanken and its provider are registered."""
    receive_push._secrets.cache_clear()
    partners.put_institution(Institution(BANK, "Testbanken AS", providers=(Provider(PROVIDER, url="https://x"),)))

    def send(event):
        context = SimpleNamespace(aws_request_id=str(uuid4()), get_remaining_time_in_millis=lambda: 29_000)
        answer = receive_push.lambda_handler(event, context)
        assert answer["headers"]["Content-Type"] == "application/json"
        body = json.loads(answer["body"])
        names = {"timestamp", "uuid"} if answer["statusCode"] == 200 else {"errorMessage", "timestamp", "uuid"}
        assert set(body) == names
        assert body["uuid"] == context.aws_request_id
        assert re.fullmatch(r"[0-9T:-]{19}(\.[0-9]{1,3})?Z", body["timestamp"])
        return answer["statusCode"], body.get("errorMessage")

    return send


@pytest.fixture
def register(aws) -> Register:
    """The RegisterTable."""
    return Register(aws["REGISTER_TABLE"], aws_clients.dynamodb(), HashKeys.of(KEY))


def a_loan(**changed):
    """A valid credit facility on the wire."""
    return {
        "type": "creditFacility",
        "timestamp": "2026-11-20T10:00:00Z",
        "accountID": "4002",
        "creditLimit": "5000000",
        "interestBearingBalance": "0",
        "nonInterestBearingBalance": "100",
        "nominalInterestRate": "000800",
        "installmentCharges": "0",
        "installmentChargePeriod": "MONTHLY",
        "coBorrower": "0",
        **changed,
    }


def a_message(*loans, person=PERSON, provider=PROVIDER, institution=BANK):
    """A message about one person."""
    customer = {"customerID": person, "financialInstitutionID": institution, "loans": list(loans)}
    return {"providerID": provider, "customers": [customer]}


def rows_in(aws):
    """Everything in the register."""
    return aws_clients.dynamodb().scan(TableName=aws["REGISTER_TABLE"])["Items"]


def shown(register, partners, person=PERSON):
    """(accountID, first balance) of all current loans, per institution."""
    return {
        institution: [current.loan.account_id for current in loans]
        for institution, loans in loans_shown(register, partners, person).items()
    }


def test_the_sample_event_is_in_the_register_when_it_is_answered(push, register, partners):
    """200 means that a lookup sees it: SPEC 6.4."""
    assert push(EVENT) == (200, None)
    assert shown(register, partners) == {BANK: ["4002", "4001"]}


def test_a_base64_body_is_the_same_message(push, register, partners):
    """The API passes every body in base64, byte for byte."""
    body = base64.b64encode(EVENT["body"].encode()).decode()

    assert push({**EVENT, "body": body, "isBase64Encoded": True}) == (200, None)
    assert shown(register, partners) == {BANK: ["4002", "4001"]}


def test_resent_and_older_messages_are_answered_with_200_and_change_nothing(push, aws):
    """The table stays byte for byte what it was."""
    push(request(a_message(a_loan()), pem=seid_2(BANK)))
    before = rows_in(aws)

    assert push(request(a_message(a_loan()), pem=seid_2(BANK))) == (200, None)
    older = a_loan(timestamp="2026-11-20T09:59:59.9999999Z", creditLimit="1")
    assert push(request(a_message(older), pem=seid_2(BANK))) == (200, None)
    assert push(request(a_message(), pem=seid_2(BANK))) == (200, None)
    assert rows_in(aws) == before


def test_the_seventh_fractional_digit_decides(push, aws, register, partners):
    """Timestamps are compared with all their digits."""
    for digits, limit in (("0000002", "7"), ("0000001", "8"), ("0000003", "9")):
        loan = a_loan(timestamp=f"2026-11-20T10:00:00.{digits}Z", creditLimit=limit)
        assert push(request(a_message(loan), pem=seid_2(BANK)))[0] == 200
    (current,) = loans_shown(register, partners, PERSON)[BANK]

    assert current.loan.credit_limit == 9


def test_a_push_under_a_new_hash_key_takes_away_the_one_under_the_old(push, aws):
    """The new item cannot replace the old one, and both would be a history of debt."""
    assert push(request(a_message(a_loan()), pem=seid_2(BANK)))[0] == 200
    new = HashKey("2", b"n" * 64, "2026-11-20T00:00:00.0000000Z")
    HashKeyStore("hash-key", aws_clients.secretsmanager()).replace(HashKeys.of(KEY, new))
    receive_push._secrets.cache_clear()

    assert push(request(a_message(a_loan(timestamp="2026-11-20T11:00:00Z")), pem=seid_2(BANK)))[0] == 200
    assert [row["pk"]["S"] for row in rows_in(aws)] == [new.partition_of(PERSON)]


def test_a_push_older_than_the_dataset_changes_nothing(push, aws, partners):
    """A late push does not bring back what a newer dataset replaced."""
    now = datetime.now(UTC)
    dataset = partners.take_lease(BANK, PROVIDER, "run", now, 60)
    partners.update_dataset(dataset, "run", as_of=from_datetime(datetime(2026, 11, 21, tzinfo=UTC)))

    assert push(request(a_message(a_loan()), pem=seid_2(BANK))) == (200, None)
    assert rows_in(aws) == []
    newer = a_loan(timestamp="2026-11-21T00:00:00.0000001Z")
    assert push(request(a_message(newer), pem=seid_2(BANK))) == (200, None)
    assert len(rows_in(aws)) == 1


def test_a_provider_that_is_dropped_is_refused_at_once(push, partners):
    """Also by a process that has just taken a push of it: a lost key must be worth nothing any more."""
    assert push(EVENT) == (200, None)
    partners.put_institution(
        Institution(BANK, "Testbanken AS", providers=(Provider(PROVIDER, url="https://x", ended=True),))
    )

    assert push(EVENT)[0] == 403


def test_one_push_after_the_other_asks_only_for_what_may_have_changed(push):
    """Throttle, entitlement and register each time; datasets and the time of the last push once in a while."""
    asked = []

    def count(event_name, **_):
        asked.append(event_name.rpartition(".")[2])

    aws_clients.dynamodb().meta.events.register("before-call", count)
    loans = [a_loan(timestamp=f"2026-11-20T10:00:0{number}Z") for number in range(3)]
    assert [push(request(a_message(one), pem=seid_2(BANK)))[0] for one in loans] == [200, 200, 200]

    asked.remove("GetItem")  # the certificate's revocation, for five minutes
    burst = ["UpdateItem", "GetItem", "Query", "PutItem"]
    assert asked == ["UpdateItem", "GetItem", "Query", "Query", "PutItem", "PutItem", *burst, *burst]


def test_datasets_are_kept_for_two_seconds_and_the_last_push_for_ten(partners):
    """Each institution's own, and each provider's; what could not be recorded is recorded by the next push."""
    seconds, now = [100.0], datetime(2026, 11, 22, 12, tzinfo=UTC)
    kept = PushPartners(partners, clock=lambda: seconds[0])
    assert kept.datasets(BANK) == []
    partners.take_lease(BANK, PROVIDER, "run", now, 60)
    partners.take_lease(OTHER_BANK, PROVIDER, "run", now, 60)
    seconds[0] += TIMES_SECONDS - 0.1
    assert (kept.datasets(BANK), len(kept.datasets(OTHER_BANK))) == ([], 1)
    seconds[0] += 0.1
    assert len(kept.datasets(BANK)) == 1

    def pushed(after: timedelta, institution: str = BANK) -> str | None:
        kept.record_push(institution, PROVIDER, now + after)
        return partners.last_push(institution, PROVIDER)

    first = pushed(timedelta())
    assert first == from_datetime(now)
    assert pushed(PUSHED_EVERY - timedelta(microseconds=1)) == first
    assert pushed(timedelta(seconds=1), OTHER_BANK) == from_datetime(now + timedelta(seconds=1))
    assert pushed(PUSHED_EVERY) == from_datetime(now + PUSHED_EVERY)
    assert pushed(timedelta()) == first  # a clock that was put back


def test_a_last_push_that_could_not_be_recorded_is_recorded_next_time(partners, monkeypatch):
    """Only what was written need not be written again."""
    kept, now = PushPartners(partners), datetime(2026, 11, 22, 12, tzinfo=UTC)
    with monkeypatch.context() as broken:
        broken.setattr(Partners, "record_push", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            kept.record_push(BANK, PROVIDER, now)
    kept.record_push(BANK, PROVIDER, now)

    assert partners.last_push(BANK, PROVIDER) == from_datetime(now)


def test_a_repaid_loan_is_no_longer_shown(push, register, partners):
    """SPEC 6.5: everything 0, and the register shows no debt."""
    push(EVENT)
    closed = dict.fromkeys(("creditLimit", "interestBearingBalance", "nonInterestBearingBalance"), "0")
    assert push(request(a_message(a_loan(**closed)), pem=seid_2(BANK))) == (200, None)

    assert shown(register, partners) == {BANK: ["4001"]}


@pytest.mark.parametrize(
    ("event", "status", "place"),
    [
        pytest.param({"pem": None}, 401, "", id="no certificate"),
        pytest.param({"pem": seid_2("920013014")}, 401, "", id="no organisation"),
        pytest.param({"pem": seid_2(OTHER_BANK)}, 403, "/providerID", id="another's provider"),
        pytest.param({"body": "{"}, 400, "/", id="no JSON"),
        pytest.param({"body": None}, 400, "/", id="no body"),
        pytest.param({"headers": {"Content-Type": "text/xml"}}, 415, "", id="not declared as JSON"),
        pytest.param({"body": " " * ((1 << 20) + 1)}, 413, "", id="over 1 MiB"),
        pytest.param({"method": "GET"}, 405, "", id="another method"),
        pytest.param({"path": "/debt-information/v1/nothing"}, 404, "", id="another path"),
        pytest.param(
            {"body": a_message(a_loan(), institution=OTHER_BANK)},
            403,
            "/customers/0/financialInstitutionID",
            id="an institution that the provider is not registered for",
        ),
        pytest.param(
            {"body": {"providerID": PROVIDER, "customers": [{}] * 1001}},
            413,
            "",
            id="over 1,000 customers",
        ),
        pytest.param(
            {"body": a_message(a_loan(timestamp=(datetime.now(UTC) + timedelta(hours=1)).isoformat()))},
            400,
            "/customers/0/loans/0/timestamp",
            id="from the future",
        ),
        pytest.param({"body": a_message(a_loan(), person="17912099998")}, 400, "/customers/0/customerID", id="number"),
        pytest.param({"body": a_message(a_loan(accountID="x" * 26))}, 400, "/customers/0/loans/0/accountID", id="id"),
    ],
)
def test_refusals_name_the_place_and_store_nothing(push, aws, log_stream, *, event, status, place):
    """Every answer of the contract, in SPEC's model, and without a value of the message in answer or log."""
    given = {"body": a_message(a_loan()), "pem": seid_2(BANK), **event}
    answered, text = push(request(given.pop("body"), **given))

    assert answered == status
    assert place in text
    assert rows_in(aws) == []
    for value in ("1791209999", "4002", "x" * 26):
        assert value not in text
        assert value not in log_stream.getvalue()


def test_twenty_places_are_listed_and_the_rest_counted(push):
    """A message with hundreds of faults gets an answer of bearable length."""
    body = a_message(*(a_loan(accountID=str(number), coBorrower="3") for number in range(25)))
    status, text = push(request(body, pem=seid_2(BANK)))

    assert status == 400
    assert text.count("coBorrower") == 20
    assert "/customers/0/loans/19/coBorrower" in text
    assert text.endswith("and 5 more")


def test_a_full_message_is_stored_whole(push, aws):
    """A thousand customers in one message are a thousand items."""
    numbers = [number for serial in range(999, 0, -1) if (number := with_check_digits(f"178120{serial:03d}"))]
    numbers += [number for serial in range(999, 0, -1) if (number := with_check_digits(f"188120{serial:03d}"))]
    customers = [a_message(a_loan(), person=number)["customers"][0] for number in numbers[:1000]]

    assert push(request({"providerID": PROVIDER, "customers": customers}, pem=seid_2(BANK))) == (200, None)
    pages = aws_clients.dynamodb().get_paginator("scan").paginate(TableName=aws["REGISTER_TABLE"])
    assert sum(page["Count"] for page in pages) == len(customers) == 1000


@pytest.mark.parametrize(
    "error",
    [StoreUnavailableError("x"), EndpointConnectionError(endpoint_url="https://dynamodb")],
    ids=["exhausted", "no connection"],
)
def test_a_store_that_fails_is_503_and_the_message_can_come_again(push, monkeypatch, register, partners, error):
    """The sender is told to try again, and then everything is stored."""
    with monkeypatch.context() as broken:

        def fail(*_):
            raise error

        broken.setattr(Register, "put_pushes", fail)
        assert push(EVENT)[0] == 503
    assert push(EVENT)[0] == 200
    assert shown(register, partners) == {BANK: ["4002", "4001"]}


def test_a_missing_setting_is_500_and_tells_nothing(push, monkeypatch):
    """What is wrong with our own set-up is no business of the sender's."""
    monkeypatch.delenv("REGISTER_TABLE")
    forget_settings()

    assert push(EVENT) == (500, "internal error; send the message again later")


def test_the_functions_routes_are_those_of_the_contract():
    """A route that is added must be added here, and is then asked without a certificate too."""
    assert receive_push.api.routes == [("POST", PUSH_PATH)]


def test_the_log_says_what_happened_without_persons(push, log_stream):
    """One line tells provider, caller and counts."""
    push(EVENT)
    line = json.loads(log_stream.getvalue().splitlines()[-1])

    assert line["message"] == "PUSH_RECEIVED"
    assert (line["provider"], line["caller"], line["customers"], line["stored"]) == (PROVIDER, f"NTRNO-{BANK}", 1, 2)
    assert PERSON not in log_stream.getvalue()
