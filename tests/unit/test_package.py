"""The package's bytes: one gzip member whatever the slices, and what a customer looks like in it."""

import gzip
import io
import json
import subprocess
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.domain.customer_keys import HashKey
from gjeldsbro.domain.loans import ChargeCard, CreditFacility, RepaymentLoan, account_of, to_wire
from gjeldsbro.domain.package import Package, Pseudonyms, build_slice, combine_crc32, customer_text

PROVIDER = "9908:983544622"
CUSTOMERS = st.lists(
    st.fixed_dictionaries({"customerID": st.text("0123456789", min_size=11, max_size=11), "loans": st.just([])}),
    min_size=1,
    max_size=12,
)
STAMP = "2026-10-01T04:00:12.0000000Z"
PSEUDONYMS = Pseudonyms(HashKey("1", b"k" * 32), "920013015", "2026-4")


def assemble(slices: list[list[dict[str, object]]], offset: int = 0) -> bytes:
    """The bytes of a package of these slices, from ``offset`` on."""
    built = [build_slice([json.dumps(c) for c in some], first=number == 0) for number, some in enumerate(slices)]
    package = Package(PROVIDER, [entry for _, entry in built])
    parts = []
    for number, data, skip in package.pieces_from(offset):
        parts.append(data if number is None else built[number][0][skip:])
    whole = b"".join(parts)
    assert len(whole) == package.size - offset
    return whole


@given(st.lists(CUSTOMERS, min_size=1, max_size=6))
def test_any_split_into_slices_is_one_gzip_member_of_the_same_document(slices):
    """However customers are cut into slices, the file holds one document with all of them, in order."""
    data = assemble(slices)
    reader = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # reads one member and stops
    plain = reader.decompress(data)
    assert reader.eof
    assert reader.unused_data == b""
    document = {"providerID": PROVIDER, "customers": [customer for part in slices for customer in part]}
    assert json.loads(plain) == document
    assert gzip.decompress(data) == plain


@given(st.lists(CUSTOMERS, min_size=1, max_size=4), st.data())
def test_reading_may_start_at_any_byte(slices, data):
    """What follows an offset is exactly the rest of the file."""
    whole = assemble(slices)
    offset = data.draw(st.integers(0, len(whole)))
    assert assemble(slices, offset) == whole[offset:]


def test_the_same_customers_give_the_same_bytes():
    """Nothing in the file depends on when or where it was built."""
    slices = [[{"customerID": "17912099997", "loans": []}]]
    assert assemble(slices) == assemble(slices)


def test_gzip_reads_the_file():
    """The command-line program, which checks CRC and length, accepts the file and finds nothing after it."""
    slices = [[{"customerID": f"{number:011}", "loans": []}] * 50 for number in range(20)]
    result = subprocess.run(["gzip", "-dc"], input=assemble(slices), capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert len(json.loads(result.stdout)["customers"]) == 1000


def test_a_slice_compresses_and_ends_on_a_byte_boundary():
    """A slice ends with the empty stored block of a full flush and reads without what came before it."""
    data, entry = build_slice(['{"customerID":"17912099997"}'] * 1000, first=True)
    assert data.endswith(b"\x00\x00\xff\xff")
    assert entry.size == len(data) < entry.plain_size / 20
    assert zlib.decompressobj(-zlib.MAX_WBITS).decompress(data).startswith(b'{"customerID"')


def test_a_slice_without_customers_is_refused():
    """An empty slice would leave a comma with nothing after it."""
    with pytest.raises(ValueError, match="without customers"):
        build_slice([], first=False)


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_combined_crc_is_that_of_both(first, second):
    """Two check sums and a length are enough."""
    assert combine_crc32(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


def test_length_beyond_four_gigabytes_is_kept_modulo():
    """The format keeps the plain length modulo 2 to the 32nd, and the sum of sizes does not overflow."""
    _, entry = build_slice(['{"customerID":"1"}'], first=True)
    package = Package(PROVIDER, [entry._replace(plain_size=5 << 30)])
    assert int.from_bytes(package.tail[-4:], "little") == package.plain_size % (1 << 32) < package.plain_size


def repayment(account: str, stamp: str = "2026-09-01T00:00:00.0000000Z") -> RepaymentLoan:
    """A loan with a co-borrower."""
    return RepaymentLoan(account, stamp, "Forbrukslån", 50000, 20000, 20, 1200, 0, 2)


def test_a_customer_names_no_creditor_account_or_time():
    """Design decision 11: our customer's organisation, a keyed hash for the account, no name, one timestamp."""
    loans = [
        ("920013015", repayment("12345678901")),
        ("985815534", CreditFacility("47", "2026-08-01T00:00:00.0000000Z", "Kort", 500000, 10000, 2000, 1200, 5000, 0)),
        ("985815534", ChargeCard("492556******1234", "2026-07-01T00:00:00.0000000Z", None, 0, 100, 1)),
    ]
    text = customer_text(
        "17912099997",
        loans,
        on_behalf_of="971171324",
        timestamp=STAMP,
        pseudonyms=PSEUDONYMS,
    )
    customer = json.loads(text)
    assert customer["financialInstitutionID"] == "971171324"
    for hidden in ("920013015", "985815534", "12345678901", "492556", "Kort", "lån", "accountName"):
        assert hidden not in text
    assert {loan["timestamp"] for loan in customer["loans"]} == {"2026-10-01T04:00:12Z"}
    accounts = [loan["accountID"] for loan in customer["loans"]]
    assert accounts == sorted(accounts)
    assert all(len(account) == 24 and account.isdigit() for account in accounts)
    assert {loan["type"]: loan["coBorrower"] for loan in customer["loans"]} == {
        "repaymentLoan": "2",
        "creditFacility": "0",
        "chargeCard": "1",
    }


def test_the_order_of_loans_does_not_follow_the_institutions():
    """Whatever order the register gives, the loans come out the same."""
    loans = [("920013015", repayment("1")), ("985815534", repayment("1")), ("985815534", repayment("2"))]
    both = [
        customer_text("17912099997", order, on_behalf_of="971171324", timestamp=STAMP, pseudonyms=PSEUDONYMS)
        for order in (loans, loans[::-1])
    ]
    assert both[0] == both[1]
    assert len({loan["accountID"] for loan in json.loads(both[0])["loans"]}) == 3


@pytest.mark.parametrize(
    "other",
    [
        replace(PSEUDONYMS, receiver="985815534"),
        replace(PSEUDONYMS, quarter="2027-1"),
        replace(PSEUDONYMS, key=HashKey("1", b"x" * 32)),
    ],
    ids=["receiver", "quarter", "key"],
)
def test_account_ids_mean_nothing_outside_one_receiver_and_quarter(other):
    """Two receivers, or one receiver over two quarters, cannot match accounts."""
    ids = {names.account_id("17912099997", "920013015", repayment("1")) for names in (PSEUDONYMS, other)}
    assert len(ids) == 2


def test_account_ids_stay_those_of_the_quarter():
    """An account id is the account's key, over all that it depends on: a package that is made again repeats it."""
    key = PSEUDONYMS.key.account_key(
        *("package", "920013015", "2026-4", "17912099997", "985815534", "repaymentLoan", "40")
    )
    made = PSEUDONYMS.account_id("17912099997", "985815534", repayment("40"))
    assert made == f"{int.from_bytes(key) % 10**24:024}" == "447240181383846490363444"


def test_account_ids_link_no_borrowers():
    """The same account of two customers has two ids."""
    ids = {PSEUDONYMS.account_id(number, "920013015", repayment("1")) for number in ("17912099997", "29822099635")}
    assert len(ids) == 2


def test_a_customer_without_debt_has_an_empty_array():
    """No debt is said with an empty loans array."""
    text = customer_text("17912099997", [], on_behalf_of="971171324", timestamp=STAMP, pseudonyms=PSEUDONYMS)
    customer = {"customerID": "17912099997", "financialInstitutionID": "971171324", "loans": []}
    assert json.loads(text) == customer


FIGURES = st.integers(0, 10**15 - 1)
TEXTS = st.text(max_size=20)
LOANS = st.one_of(
    st.builds(RepaymentLoan, TEXTS, st.just(STAMP), TEXTS, *[FIGURES] * 5, st.integers(0, 2)),
    st.builds(CreditFacility, TEXTS, st.just(STAMP), TEXTS, *[FIGURES] * 5, st.integers(0, 2)),
    st.builds(ChargeCard, TEXTS, st.just(STAMP), st.none(), *[FIGURES] * 2, st.integers(0, 2)),
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["920013015", "0007:5500259014"]), LOANS),
        max_size=6,
        unique_by=lambda held: (held[0], *account_of(held[1])),
    ),
    st.sampled_from([STAMP, "2027-01-01T00:00:00.1230000Z"]),
)
def test_a_customer_is_written_as_any_loan_is(loans, stamp):
    """The text of a customer is what `to_wire` says of its loans, to the byte, whatever is in them."""
    text = customer_text("17912099997", loans, on_behalf_of="971171324", timestamp=stamp, pseudonyms=PSEUDONYMS)
    wires = [
        to_wire(loan, timestamp=stamp, account_id=PSEUDONYMS.account_id("17912099997", institution, loan))
        for institution, loan in loans
    ]
    assert [list(wire.items()) for wire in json.loads(text)["loans"]] == sorted(
        (list(wire.items()) for wire in wires), key=lambda wire: dict(wire)["accountID"]
    )
    customer = {"customerID": "17912099997", "financialInstitutionID": "971171324", "loans": json.loads(text)["loans"]}
    assert text == json.dumps(customer, separators=(",", ":"))


def test_python_gzip_streams_the_file():
    """A reader that streams gets the whole document."""
    data = assemble([[{"customerID": "17912099997", "loans": []}]] * 3)
    with gzip.open(io.BytesIO(data)) as stream:
        assert len(json.load(stream)["customers"]) == 3
