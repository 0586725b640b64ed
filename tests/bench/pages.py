"""A page of a dataset, from its bytes to what is stored of its customers."""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from itertools import batched
from pathlib import Path

import msgspec
from tests.bench.measure import Row, Work, memory, speed

from gjeldsbro.domain.customer_keys import HashKey
from gjeldsbro.domain.dataset_page import read_page
from gjeldsbro.domain.fields import spec_name
from gjeldsbro.domain.loans import content_digest
from gjeldsbro.domain.page_records import PageRecords
from gjeldsbro_population.population import Population
from gjeldsbro_population.writers import page

CUSTOMERS, MANY = 20_000, 100_000
NOW = datetime(2026, 11, 22, 5, 5, tzinfo=UTC)
KEY = HashKey("1", b"k" * 64)
STRINGS = "strings"
"""The usual page: numbers are strings without leading zeros."""

_TYPED = ("msgspec typed decode, no rules", "pages.msgspec_typed")
_RULES = ("pydantic, same rules", "pages.pydantic_rules")
ROWS = (
    Row("page of 20,000 customers to records", "pages.ours", *_TYPED, (speed(0.7),), repeats=5),
    Row("only the calls that it cannot do without", "pages.floor", *_TYPED, repeats=5),
    Row("page of 20,000 customers to records", "pages.ours", *_RULES, (speed(3),), repeats=5),
    Row("the same", "pages.ours", "pydantic, no rules", "pages.pydantic_bare", repeats=5),
    Row(
        "page of 100,000 customers to records",
        "pages.ours:many",
        "pydantic, same rules",
        "pages.pydantic_rules:many",
        (speed(3), memory(0.25)),
        rounds=3,
        repeats=3,
    ),
    *(
        Row(
            f"20,000 customers, {manner}",
            f"pages.ours:{name}",
            "msgspec typed decode, no rules",
            f"pages.msgspec_typed:{name}",
            rounds=3,
            repeats=5,
        )
        for name, manner in (
            ("distinct", "every timestamp another"),
            ("padded", "numbers with leading zeros"),
            ("integers", "numbers as integers"),
        )
    ),
    Row(
        "keys and digests of 20,000 customers",
        "pages.keys",
        "hmac and blake2b alone",
        "pages.bare_keys",
        (speed(1 / 1.3),),
        repeats=5,
    ),
)


def write_data(folder: Path) -> None:
    """Make pages in the manners of institutions."""
    population = Population(1, 150_000, 1)
    institution, provider = population.datasets[0]
    customers = list(population.customers(institution, provider, 0, MANY))
    (folder / "page.meta").write_text(json.dumps([institution, provider]), encoding="utf-8")
    (folder / "many.json").write_bytes(page(provider, customers))
    few = customers[:CUSTOMERS]
    for numbers in (STRINGS, "padded", "integers"):
        (folder / f"{numbers}.json").write_bytes(page(provider, few, numbers))
    loans = [loan for customer in few for loan in customer["loans"]]
    for number, loan in enumerate(loans):
        loan["timestamp"] = (NOW - timedelta(seconds=number)).isoformat().replace("+00:00", f".{number:07}Z")
    (folder / "distinct.json").write_bytes(page(provider, few))


class _Loan(msgspec.Struct, rename=spec_name):
    type: str
    timestamp: str
    account_id: str
    co_borrower: str | int
    account_name: str | None = None
    original_balance: str | int = 0
    balance: str | int = 0
    terms: str | int = 0
    credit_limit: str | int = 0
    interest_bearing_balance: str | int = 0
    non_interest_bearing_balance: str | int = 0
    nominal_interest_rate: str | int = 0
    installment_charges: str | int = 0
    installment_charge_period: str = ""


class _Customer(msgspec.Struct, rename=spec_name):
    customer_id: str
    financial_institution_id: str
    loans: list[_Loan]


class _Split(msgspec.Struct, rename=spec_name):
    customers: list[msgspec.Raw]


class _Page(msgspec.Struct, rename=spec_name):
    provider_id: str
    customers: list[_Customer]


def _page(folder: Path, name: str = STRINGS) -> tuple[bytes, str, str]:
    institution, provider = json.loads((folder / "page.meta").read_text(encoding="utf-8"))
    return (folder / f"{name}.json").read_bytes(), institution, provider


def ours(folder: Path, name: str = STRINGS) -> Work:
    """A page to keys, digests and records of its customers, validated: what a fetch does before it sorts."""
    body, institution, provider = _page(folder, name)

    def work() -> object:
        records = PageRecords(KEY)
        result = read_page(
            body, institution=institution, provider=provider, accepts="synthetic", now=NOW, keep=records.of
        )
        assert records.customers == len(result.kept) >= CUSTOMERS
        return result

    return work


def floor(folder: Path) -> Work:
    """The library calls alone that no code of ours could do without: split, decode, hash twice, encode."""
    body, *_ = _page(folder)
    split = msgspec.json.Decoder(_Split)
    decoder = msgspec.json.Decoder(list[_Customer])
    encoder = msgspec.msgpack.Encoder()
    inner, outer, plain = hashlib.sha256(b"i" * 64), hashlib.sha256(b"o" * 64), hashlib.blake2b(digest_size=16)

    def work() -> object:
        found = []
        for texts in batched(split.decode(body).customers, 256, strict=False):
            for customer in decoder.decode(b"[" + b",".join(texts) + b"]"):
                first, key = inner.copy(), outer.copy()
                first.update(customer.customer_id.encode())
                key.update(first.digest())
                record = encoder.encode(customer.loans)
                digest = plain.copy()
                digest.update(record)
                found.append((key.digest(), digest.digest(), record))
        return found

    return work


def msgspec_typed(folder: Path, name: str = STRINGS) -> Work:
    """A page decoded into typed structs, with no rule of ours."""
    body, *_ = _page(folder, name)
    decoder = msgspec.json.Decoder(_Page)
    return lambda: decoder.decode(body)


def pydantic_bare(folder: Path) -> Work:
    """A page as a pydantic model that knows types only."""
    return _pydantic(folder, "BarePage", STRINGS)


def pydantic_rules(folder: Path, name: str = STRINGS) -> Work:
    """A page as a pydantic model with SPEC's rules."""
    return _pydantic(folder, "Page", name)


def _pydantic(folder: Path, model: str, name: str) -> Work:
    from tests.bench import pydantic_pages  # here, because its memory is not ours

    body, *_ = _page(folder, name)
    validate = getattr(pydantic_pages, model).model_validate_json
    return lambda: validate(body)


def keys(folder: Path) -> Work:
    """Customer keys and content digests of a page's customers."""
    body, institution, provider = _page(folder)
    customers = read_page(
        body, institution=institution, provider=provider, accepts="synthetic", now=NOW, keep=list
    ).kept
    return lambda: [(KEY.customer_key(c.customer_id), content_digest(*c.loans)) for c in customers]


def bare_keys(folder: Path) -> Work:
    """The hash functions alone, on as many bytes."""
    body, institution, provider = _page(folder)
    customers = read_page(
        body, institution=institution, provider=provider, accepts="synthetic", now=NOW, keep=list
    ).kept
    data = [(c.customer_id.encode(), msgspec.msgpack.encode(c.loans)) for c in customers]
    secret = KEY.secret
    return lambda: [
        (hmac.digest(secret, number, "sha256"), hashlib.blake2b(loans, digest_size=16).digest())
        for number, loans in data
    ]
