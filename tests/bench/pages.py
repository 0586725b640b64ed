"""A page of a dataset, from its bytes to what is stored of its customers."""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from pydantic import BaseModel, ConfigDict
from tests.bench.measure import Row, Work, memory, speed

from gjeldsbro.domain.customer_keys import HashKey
from gjeldsbro.domain.dataset_page import read_page
from gjeldsbro.domain.fields import spec_name
from gjeldsbro.domain.loans import content_digest
from gjeldsbro.domain.page_records import PageRecords
from gjeldsbro_population.population import Population
from gjeldsbro_population.writers import page

CUSTOMERS = 20_000
NOW = datetime(2026, 11, 22, 5, 5, tzinfo=UTC)
KEY = HashKey("1", b"k" * 64)

ROWS = (
    Row(
        "page of 20,000 customers, validated",
        "pages.ours",
        "msgspec typed decode",
        "pages.msgspec_typed",
        (speed(0.7),),
    ),
    Row("the same", "pages.ours", "pydantic, whole page", "pages.pydantic_whole", (speed(3), memory(0.25))),
    Row("keys and digests of 20,000 customers", "pages.keys", "hmac and blake2b alone", "pages.bare_keys"),
)


def write_data(folder: Path) -> None:
    """Make a page."""
    population = Population(1, 30_000, 1)
    institution, provider = population.datasets[0]
    customers = list(population.customers(institution, provider, 0, CUSTOMERS))
    (folder / "page.json").write_bytes(page(provider, customers))
    (folder / "page.meta").write_text(json.dumps([institution, provider]), encoding="utf-8")


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


class _Page(msgspec.Struct, rename=spec_name):
    provider_id: str
    customers: list[_Customer]


class _PydanticModel(BaseModel):
    model_config = ConfigDict(alias_generator=spec_name)


class _PydanticLoan(_PydanticModel):
    type: str
    timestamp: datetime
    account_id: str
    co_borrower: int
    account_name: str | None = None
    original_balance: int = 0
    balance: int = 0
    terms: int = 0
    credit_limit: int = 0
    interest_bearing_balance: int = 0
    non_interest_bearing_balance: int = 0
    nominal_interest_rate: int = 0
    installment_charges: int = 0
    installment_charge_period: str = ""


class _PydanticCustomer(_PydanticModel):
    customer_id: str
    financial_institution_id: str
    loans: list[_PydanticLoan]


class _PydanticPage(_PydanticModel):
    provider_id: str
    customers: list[_PydanticCustomer]


def _page(folder: Path) -> tuple[bytes, str, str]:
    institution, provider = json.loads((folder / "page.meta").read_text(encoding="utf-8"))
    return (folder / "page.json").read_bytes(), institution, provider


def ours(folder: Path) -> Work:
    """A page to validated customers."""
    body, institution, provider = _page(folder)

    def work() -> object:
        records = PageRecords(KEY)
        result = read_page(
            body, institution=institution, provider=provider, accepts="synthetic", now=NOW, keep=records.of
        )
        assert records.customers == len(result.kept) == CUSTOMERS
        return result

    return work


def msgspec_typed(folder: Path) -> Work:
    """A page decoded into typed structs, with no rule of ours."""
    body, *_ = _page(folder)
    decoder = msgspec.json.Decoder(_Page)
    return lambda: decoder.decode(body)


def pydantic_whole(folder: Path) -> Work:
    """A page as a pydantic model."""
    body, *_ = _page(folder)
    return lambda: _PydanticPage.model_validate_json(body)


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
