"""What is measured, and what it is measured against: pairs of functions that do the same work on the same data.

A case is made ready outside the measured time and returns the work to time. References are what a user would take
instead, or the limit of the machine.
"""

import csv
import gzip
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import batched, islice
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from gjeldsbro.domain.customer_keys import HashKey
from gjeldsbro.domain.dataset_page import read_page
from gjeldsbro.domain.fields import spec_name
from gjeldsbro.domain.identity_numbers import is_customer_id
from gjeldsbro.domain.loans import content_digest
from gjeldsbro.domain.package import Package, build_slice
from gjeldsbro.domain.ssn_list import SsnList
from gjeldsbro_population.identity import customer_ids
from gjeldsbro_population.population import Population
from gjeldsbro_population.seeds import stream
from gjeldsbro_population.writers import page

Work = Callable[[], object]

PAGE_CUSTOMERS = 20_000
LIST_NUMBERS = 400_000
PACKAGE_CUSTOMERS = 20_000
NOW = datetime(2026, 11, 22, 5, 5, tzinfo=UTC)
KEY = HashKey("1", b"k" * 64)


def write_data(folder: Path) -> None:
    """Make the data that the cases read: one page, one SSN list, one package's document."""
    population = Population(1, 30_000, 1)
    institution, provider = population.datasets[0]
    customers = list(population.customers(institution, provider, 0, PAGE_CUSTOMERS))
    (folder / "page.json").write_bytes(page(provider, customers))
    (folder / "page.meta").write_text(json.dumps([institution, provider]), encoding="utf-8")
    numbers = islice(customer_ids(stream(1, "list")), LIST_NUMBERS)
    (folder / "list.txt").write_text(",".join(numbers), encoding="ascii")
    strings = json.loads(page(provider, customers[:PACKAGE_CUSTOMERS]))
    (folder / "package.json").write_bytes(json.dumps(strings, separators=(",", ":")).encode())


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


def page_ours(folder: Path) -> Work:
    """A page to validated customers."""
    body, institution, provider = _page(folder)

    def work() -> object:
        result = read_page(body, institution=institution, provider=provider, accepts="synthetic", now=NOW)
        assert result.total_violations == 0
        return result

    return work


def page_msgspec(folder: Path) -> Work:
    """A page decoded into typed structs, with no rule of ours."""
    body, *_ = _page(folder)
    decoder = msgspec.json.Decoder(_Page)
    return lambda: decoder.decode(body)


def page_pydantic(folder: Path) -> Work:
    """A page as a pydantic model."""
    body, *_ = _page(folder)
    return lambda: _PydanticPage.model_validate_json(body)


def keys_ours(folder: Path) -> Work:
    """Customer keys and content digests of a page's customers."""
    body, institution, provider = _page(folder)
    customers = read_page(body, institution=institution, provider=provider, accepts="synthetic", now=NOW).customers
    return lambda: [(KEY.customer_key(c.customer_id), content_digest(*c.loans)) for c in customers]


def keys_bare(folder: Path) -> Work:
    """The hash functions alone, on as many bytes."""
    body, institution, provider = _page(folder)
    customers = read_page(body, institution=institution, provider=provider, accepts="synthetic", now=NOW).customers
    data = [(c.customer_id.encode(), msgspec.msgpack.encode(c.loans)) for c in customers]
    secret = KEY.secret
    return lambda: [
        (hmac.digest(secret, number, "sha256"), hashlib.blake2b(loans, digest_size=16).digest())
        for number, loans in data
    ]


def list_ours(folder: Path) -> Work:
    """An SSN list, validated, duplicates found."""
    path = folder / "list.txt"

    def work() -> object:
        ssn_list = SsnList(path.stat().st_size, lambda text: is_customer_id(text, "synthetic"))
        for piece in _pieces(path):
            ssn_list.feed(piece)
        ssn_list.finish()
        assert ssn_list.entries == LIST_NUMBERS
        return ssn_list

    return work


def list_set(folder: Path) -> Work:
    """The file, split at commas into a set."""
    path = folder / "list.txt"
    return lambda: set(next(csv.reader([path.read_text(encoding="ascii")])))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def _customers(folder: Path) -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads((folder / "package.json").read_bytes())
    return list(document["customers"])


def package_ours(folder: Path) -> Work:
    """Customers to a package, in slices of 5,000."""
    customers = _customers(folder)

    def work() -> object:
        slices = [
            build_slice(group, first=not number) for number, group in enumerate(batched(customers, 5000, strict=False))
        ]
        return Package("9908:920013015", [described for _, described in slices]).size

    return work


def package_gzip(folder: Path) -> Work:
    """The finished JSON document through the standard library's gzip."""
    document = (folder / "package.json").read_bytes()
    return lambda: gzip.compress(document, compresslevel=6, mtime=0)


CASES: dict[str, Callable[[Path], Work]] = {
    case.__name__: case
    for case in (
        page_ours,
        page_msgspec,
        page_pydantic,
        keys_ours,
        keys_bare,
        list_ours,
        list_set,
        package_ours,
        package_gzip,
    )
}

ROWS = (
    ("page of 20,000 customers, validated", "page_ours", "msgspec typed decode", "page_msgspec"),
    ("the same", "page_ours", "pydantic, whole page", "page_pydantic"),
    ("keys and digests of 20,000 customers", "keys_ours", "hmac and blake2b alone", "keys_bare"),
    ("SSN list of 400,000 numbers, validated", "list_ours", "split into a set", "list_set"),
    ("package of 20,000 customers", "package_ours", "gzip of the finished JSON", "package_gzip"),
)
"""What is shown: name, ours, name of the reference, reference."""
