import gc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.domain.loans import (
    ChargeCard,
    CreditFacility,
    RepaymentLoan,
    account_of,
    content_digest,
    decode_loans,
    encode_loans,
    is_debt,
    to_wire,
)

TIME = "2026-11-22T04:00:00.0000000Z"
REPAYMENT = RepaymentLoan("1", TIME, "Lån", 500, 400, 12, 1020, 0, 2)
FACILITY = CreditFacility("1", TIME, None, 1000, 20, 30, 800, 5, 0)
CARD = ChargeCard("1", TIME, "Kort", 7, 0, 1)

texts = st.text(max_size=25)
amounts = st.integers(0, 10**12 - 1)
loans = st.one_of(
    st.builds(RepaymentLoan, texts, texts, st.none() | texts, *[amounts] * 5, st.integers(0, 2)),
    st.builds(CreditFacility, texts, texts, st.none() | texts, *[amounts] * 5, st.integers(0, 2)),
    st.builds(ChargeCard, texts, texts, st.none() | texts, amounts, amounts, st.integers(0, 2)),
)


@given(st.lists(loans, max_size=5).map(tuple))
def test_stored_loans_come_back(some):
    """Loans are read as they were stored, whatever they hold."""
    assert decode_loans(encode_loans(some)) == some


def test_typical_customer_fits_one_write_unit():
    """Five loans stay far below DynamoDB's write unit of 1 KB."""
    some = tuple(
        msgspec.structs.replace(REPAYMENT, account_id=f"{n:025}", account_name="Forbrukslån") for n in range(5)
    )
    assert len(encode_loans(some)) < 600


@given(st.lists(loans, min_size=1, max_size=4, unique_by=account_of), st.randoms(use_true_random=False), texts)
def test_digest_ignores_order_and_timestamps(some, random, other_time):
    """Two nights that say the same have the same digest, in whatever order and with whatever timestamps."""
    shuffled = [msgspec.structs.replace(loan, timestamp=other_time) for loan in some]
    random.shuffle(shuffled)
    assert content_digest(*some) == content_digest(*shuffled)


def test_digests_stay_what_they_are():
    """Digests lie beside the loans that are stored: with others, each night would write everything again."""
    assert content_digest().hex() == "7a9e3d48316709a334376b83e845f6fb"
    assert content_digest(REPAYMENT, FACILITY, CARD).hex() == "653f9d6414442d608cdf253037976764"


@pytest.mark.parametrize("loan", [REPAYMENT, FACILITY, CARD], ids=lambda loan: type(loan).__name__)
def test_digest_sees_every_other_field(loan):
    """A change in any field but the timestamp changes the digest."""
    for name in loan.__struct_fields__:
        if name != "timestamp":
            value = getattr(loan, name)
            changed = msgspec.structs.replace(loan, **{name: value + 1 if isinstance(value, int) else "other"})
            assert content_digest(changed) != content_digest(loan), name


def test_same_account_of_two_types_is_two_accounts():
    """The type is part of what tells accounts apart."""
    assert len({account_of(loan) for loan in (REPAYMENT, FACILITY, CARD)}) == 3


@pytest.mark.parametrize("source", ["dataset", "push"])
@pytest.mark.parametrize(
    ("loan", "expected"),
    [
        (REPAYMENT, True),
        (msgspec.structs.replace(REPAYMENT, balance=0), False),
        (FACILITY, True),
        (CreditFacility("1", TIME, None, 1, 0, 0, 0, 0, 0), True),
        (CreditFacility("1", TIME, None, 0, 1, 0, 0, 0, 0), True),
        (CreditFacility("1", TIME, None, 0, 0, 1, 0, 0, 0), True),
        (CreditFacility("1", TIME, None, 0, 0, 0, 800, 5, 0), False),
        (CARD, True),
        (ChargeCard("1", TIME, None, 0, 1, 0), True),
    ],
)
def test_what_counts_as_debt(loan, expected, source):
    """The contract's table: a balance, or of a facility its limit."""
    assert is_debt(loan, source) is expected


def test_empty_charge_card_is_hidden_by_a_push_only():
    """A card with nothing on it is debt in a dataset; a push that says so hides it until the next one."""
    empty = ChargeCard("1", TIME, None, 0, 0, 0)
    assert is_debt(empty, "dataset")
    assert not is_debt(empty, "push")


def test_wire_form():
    """SPEC's names, numbers as strings without leading zeros, the caller's timestamp and account id, no name."""
    assert to_wire(REPAYMENT, timestamp="2026-10-01T04:00:12.0000000Z", account_id="77") == {
        "type": "repaymentLoan",
        "timestamp": "2026-10-01T04:00:12Z",
        "accountID": "77",
        "originalBalance": "500",
        "balance": "400",
        "terms": "12",
        "nominalInterestRate": "1020",
        "installmentCharges": "0",
        "installmentChargePeriod": "MONTHLY",
        "coBorrower": "2",
    }
    assert to_wire(CARD, timestamp=TIME, account_id="1", with_name=True)["accountName"] == "Kort"


def test_loans_stay_out_of_garbage_collection():
    """Millions of loans cost the collector nothing."""
    assert not any(gc.is_tracked(loan) for loan in (REPAYMENT, FACILITY, CARD))
