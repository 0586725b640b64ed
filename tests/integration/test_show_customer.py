"""What an authorised operator sees of one person, and the trail that this leaves."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from functions.show_customer import show_customer

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.register import DatasetItems, Register
from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import ChargeCard, RepaymentLoan, encode_loans
from gjeldsbro.domain.register import PushItem
from gjeldsbro.errors import InvalidMessageError, StoreUnavailableError
from gjeldsbro.services.ports import Institution, Provider

EVENT = json.loads((Path(__file__).parents[2] / "events" / "show_customer.json").read_text(encoding="utf-8"))
CONTEXT = SimpleNamespace(aws_request_id="0b9cf2a5-5f5c-4a3e-8a3c-0b1f7c9d2e11", get_remaining_time_in_millis=lambda: 1)
KEY = HashKey("1", b"k" * 64)
PERSON = EVENT["customerID"]
BANK, OTHER_BANK = "920013015", "985815534"
PROVIDER = f"9908:{BANK}"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def at(tick: int) -> str:
    """The tick-th minute of an hour."""
    return f"2026-11-22T05:{tick:02d}:00.0000000Z"


@pytest.fixture
def show(aws, partners):
    """Invokes the function: one bank with a dataset as of 05:10, one that only pushes."""
    show_customer._secrets.cache_clear()
    partners.put_institution(Institution(BANK, "Testbanken AS", providers=(Provider(PROVIDER, url="https://x"),)))
    partners.put_institution(Institution(OTHER_BANK, "Andrebanken AS", providers=(Provider(f"9908:{OTHER_BANK}"),)))
    dataset = partners.take_lease(BANK, PROVIDER, "run", datetime.now(UTC), 60)
    partners.update_dataset(dataset, "run", as_of=at(10))
    loans = (
        RepaymentLoan("4001", at(1), "Forbrukslån", 1000, 900, 12, 1020, 50, 2),
        RepaymentLoan("4003", at(1), None, 1000, 500, 12, 1020, 0, 0),
    )
    items = DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), KEY.version)
    items.write_dataset_items(BANK, PROVIDER, "run", [(KEY.customer_key(PERSON), encode_loans(loans))])
    repaid = RepaymentLoan("4003", at(20), None, 0, 0, 0, 0, 0, 0)
    old = RepaymentLoan("4001", at(9), None, 1000, 950, 13, 1020, 0, 0)
    card = ChargeCard("5001", at(20), "Kort", 0, 700, 0)
    Register(aws["REGISTER_TABLE"], aws_clients.dynamodb(), HashKeys.of(KEY)).put_pushes(
        [
            (PERSON, PushItem(BANK, PROVIDER, repaid)),
            (PERSON, PushItem(BANK, PROVIDER, old)),
            (PERSON, PushItem(OTHER_BANK, f"9908:{OTHER_BANK}", card)),
        ],
        KEY,
    )
    return lambda event: show_customer.lambda_handler(event, CONTEXT)


def test_an_operator_sees_current_loans_and_what_they_were_made_of(show):
    """Per institution the loans that count now, with their effective time, and every item with its fate."""
    shown = show(EVENT)

    assert shown["institutionsWithDebt"] == [BANK, OTHER_BANK]
    assert shown["conflicts"] == 0
    bank, other = shown["institutions"]
    assert (bank["financialInstitutionID"], bank["name"]) == (BANK, "Testbanken AS")
    assert bank["loans"] == [
        {
            "type": "repaymentLoan",
            "timestamp": "2026-11-22T05:10:00Z",
            "accountID": "4001",
            "accountName": "Forbrukslån",
            "originalBalance": "1000",
            "balance": "900",
            "terms": "12",
            "nominalInterestRate": "1020",
            "installmentCharges": "50",
            "installmentChargePeriod": "MONTHLY",
            "coBorrower": "2",
            "providerID": PROVIDER,
            "source": "dataset",
        },
    ]
    assert [(loan["accountID"], loan["source"]) for loan in other["loans"]] == [("5001", "push")]
    dataset = next(source for source in bank["sources"] if source["source"] == "dataset")
    pushes = {source["loans"][0]["accountID"]: source["counts"] for source in bank["sources"] if "counts" in source}
    assert dataset["asOf"] == "2026-11-22T05:10:00Z"
    assert [(loan["accountID"], loan["timestamp"]) for loan in dataset["loans"]] == [
        ("4001", "2026-11-22T05:01:00Z"),
        ("4003", "2026-11-22T05:01:00Z"),
    ]
    assert pushes == {"4003": True, "4001": False}
    json.dumps(shown)


def test_an_index_is_told_from_no_debt(show, aws):
    """Of a customer that only a list named, the register knows no loans: an operator must not read that as none."""
    items = DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), KEY.version)
    items.write_dataset_items(BANK, PROVIDER, "run", [(KEY.customer_key("29822099635"), encode_loans(()))])

    shown = show({**EVENT, "customerID": "29822099635"})

    assert shown["institutionsWithDebt"] == []
    (bank,) = shown["institutions"]
    assert (bank["loans"], bank["indexOnly"]) == ([], True)
    assert [institution["indexOnly"] for institution in show(EVENT)["institutions"]] == [False, False]


def test_whoever_looks_leaves_a_trail_without_the_number(show, partners, aws, log_stream):
    """Who, when and why are recorded; the customer is a keyed hash, there and in the log."""
    show(EVENT)
    (entry,) = partners.trail(LONG_AGO)

    assert (entry["who"], entry["action"], entry["reason"]) == ("kari.nordmann", "show-customer", EVENT["reason"])
    assert entry["subject"] == f"customer {KEY.partition_of(PERSON)}"
    everything = str(aws_clients.dynamodb().scan(TableName=aws["PARTNER_TABLE"])["Items"]) + log_stream.getvalue()
    assert EVENT["customerID"] not in everything
    assert "4001" not in log_stream.getvalue()


def test_the_trail_comes_before_the_look(show, partners, monkeypatch):
    """A look that fails half-way was a look."""

    def fail(*_):
        raise StoreUnavailableError("throttled")

    monkeypatch.setattr(Register, "items_of_many", fail)
    with pytest.raises(StoreUnavailableError):
        show(EVENT)
    assert len(partners.trail(LONG_AGO)) == 1


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"customerID": "17912099998"}, "/customerID"),
        ({"customerID": "00000000000"}, "/customerID"),
        ({"customerID": None}, "/customerID"),
        ({"operator": " "}, "/operator"),
        ({"operator": None}, "/operator"),
        ({"reason": "asked by 179120 99997"}, "/reason"),
        ({"reason": ""}, "/reason"),
        ({"reason": " \t"}, "/reason"),
    ],
)
def test_without_a_number_or_an_operator_nobody_looks(show, partners, log_stream, changed, place):
    """A wrong number, no operator, a reason that is empty or holds a number: the refusal does not repeat the value."""
    with pytest.raises(InvalidMessageError, match=place) as refused:
        show({**EVENT, **changed})

    assert partners.trail(LONG_AGO) == []
    assert str(changed.get("customerID")) not in str(refused.value) + log_stream.getvalue()


def test_a_person_without_debt_is_an_empty_answer(show):
    """Nothing known is an answer too."""
    assert show({**EVENT, "customerID": "29822099635"}) == {
        "institutionsWithDebt": [],
        "conflicts": 0,
        "institutions": [],
    }
