from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.domain import page_records
from gjeldsbro.domain.customer_keys import HashKey
from gjeldsbro.domain.loans import ChargeCard, CustomerLoans, content_digest, decode_loans
from gjeldsbro.domain.page_records import PageRecords

KEY = HashKey("1", b"k" * 32)
TIMES = [f"2026-11-{day}T04:00:00.0000000Z" for day in (20, 21, 22)]


def customer(number, *times):
    """A customer with a card for each of these timestamps."""
    cards = tuple(ChargeCard(f"{place}", time, None, 0, 1, 0) for place, time in enumerate(times))
    return CustomerLoans(f"{number:011}", "920013015", cards)


@given(st.lists(st.lists(st.lists(st.sampled_from(TIMES), max_size=3), max_size=4), max_size=4))
def test_records_of_a_page_in_parts(parts):
    """A page that comes in parts has a key, a digest and a record for each customer, and its figures, as one part."""
    customers = [[customer(10 * n + m, *times) for m, times in enumerate(part)] for n, part in enumerate(parts)]
    records = PageRecords(KEY)
    found = [record for part in customers for record in records.of(part)]
    everybody = [each for part in customers for each in part]
    assert [key for key, *_ in found] == [KEY.customer_key(each.customer_id) for each in everybody]
    for each, (key, digest, record) in zip(everybody, found, strict=True):
        if each.loans:
            assert digest == content_digest(*each.loans)
            assert record[:32] == key
            assert decode_loans(record[32:]) == each.loans
        else:
            assert (digest, record) == (b"", b"")
    times = sorted(loan.timestamp for each in everybody for loan in each.loans)
    assert records.customers == len(everybody)
    assert records.with_loans == sum(bool(each.loans) for each in everybody)
    assert records.times == ((times[0], times[-1]) if times else None)
    assert records.too_large == []


def test_customers_whose_loans_are_too_large(monkeypatch):
    """They are named by their places in the whole page."""
    monkeypatch.setattr(page_records, "MAX_LOANS_BYTES", 100)
    records = PageRecords(KEY)
    records.of([customer(1), customer(2, *TIMES)])
    records.of([customer(3, TIMES[0]), customer(4, *TIMES)])
    assert records.too_large == [1, 3]
