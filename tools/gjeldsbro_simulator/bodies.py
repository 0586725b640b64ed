"""Bodies of answers: pages, the ways to compress them, and the bodies of misbehaving servers."""

import gzip
import zlib
from functools import lru_cache
from itertools import chain
from typing import Any

from gjeldsbro_population.writers import page as make_page
from gjeldsbro_simulator.config import Compression, ServedDataset
from gjeldsbro_simulator.faults import ANOTHER_INSTITUTION, Customer, Fault, spoil
from gjeldsbro_simulator.sources import Source

HTML = b"<!doctype html><html><body><h1>Planlagt vedlikehold</h1></body></html>"


def number_of_pages(source: Source, dataset: ServedDataset, fault: Fault | None) -> int:
    """Pages that the dataset has now; an empty one has one."""
    if dataset.page_size is None:
        return 1
    return max(1, -(-_count(source, dataset, fault) // dataset.page_size))


def page_body(source: Source, dataset: ServedDataset, page: int, fault: Fault | None) -> bytes:
    """A page of the dataset in SPEC 4.2's model, with what the fault does to its content."""
    kind = fault.kind if fault is not None else ""
    if kind == "repeated-page":
        page = 0
    customers = _customers(source, dataset, page, fault)
    if kind == "blank-page" and page == (1 if fault is None or fault.page is None else fault.page):
        customers = []
    if kind in {"duplicate-customer", "split-customer"}:
        customers = _repeat_first(customers, kind, source, dataset, page)
    if fault is not None and page == (fault.page or 0):
        customers = spoil(kind, customers)
    provider = f"9908:{ANOTHER_INSTITUTION}" if kind == "another-provider" else dataset.provider
    return make_page(provider, customers, dataset.numbers)


def _repeat_first(
    customers: list[Customer], kind: str, source: Source, dataset: ServedDataset, page: int
) -> list[Customer]:
    """The page's customers, and on the last page the dataset's first customer again, or the rest of its loans."""
    first = next(iter(source.customers(dataset.institution, dataset.provider, 0, 1)), None)
    if first is None:
        return customers
    if kind == "split-customer" and page == 0:
        customers = [{**first, "loans": first["loans"][:1]}, *customers[1:]]
    if page == number_of_pages(source, dataset, None) - 1:
        customers = [*customers, first if kind == "duplicate-customer" else {**first, "loans": first["loans"][1:]}]
    return customers


def _count(source: Source, dataset: ServedDataset, fault: Fault | None) -> int:
    count = source.count(dataset.institution, dataset.provider)
    match fault.kind if fault is not None else "":
        case "empty":
            return 0
        case "shrink":
            return (count + 1) // 2
    return count


def _customers(source: Source, dataset: ServedDataset, page: int, fault: Fault | None) -> list[Customer]:
    start, stop = 0, _count(source, dataset, fault)
    if dataset.page_size is not None:
        start = page * dataset.page_size
        stop = min(start + dataset.page_size, stop)
    elif page > 0:
        return []
    if fault is not None and fault.kind == "shrink":
        return list(source.customers(dataset.institution, dataset.provider, 2 * start, 2 * stop))[::2]
    return list(source.customers(dataset.institution, dataset.provider, start, stop)) if start < stop else []


def compress(body: bytes, compression: Compression) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body as it is sent and the headers that say how."""
    if compression == "none":
        return body, []
    if compression == "gzip":
        return gzip.compress(body, compresslevel=6, mtime=0), [(b"content-encoding", b"gzip")]
    name = b"encoding" if compression.startswith("spec") else b"content-encoding"
    window = -zlib.MAX_WBITS if "raw" in compression else zlib.MAX_WBITS
    packer = zlib.compressobj(6, zlib.DEFLATED, window)
    return packer.compress(body) + packer.flush(), [(name, b"deflate")]


def oversized(megabytes: int) -> bytes:
    """A JSON document with ``megabytes`` MiB of blanks in it, as it is."""
    return b'{"providerID":%s"","customers":[]}' % (b" " * (megabytes << 20))


@lru_cache(maxsize=2)
def gzip_bomb(megabytes: int) -> bytes:
    """A small gzip member that inflates to a JSON document with ``megabytes`` MiB of blanks in it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    blank = b" " * (1 << 20)
    parts = chain([b'{"providerID":'], (blank for _ in range(megabytes)), [b'"","customers":[]}'])
    return b"".join([*map(packer.compress, parts), packer.flush()])


def single_customer(source: Source, dataset: ServedDataset, customer_id: str) -> dict[str, Any]:
    """The answer to a single lookup. Without debt: an empty customers array (SPEC 6.1), or bare with empty loans."""
    customer = source.customer(dataset.institution, dataset.provider, customer_id)
    if dataset.single == "bare":
        return customer or {
            "customerID": customer_id,
            "financialInstitutionID": dataset.institution,
            "loans": [],
        }
    return {"providerID": dataset.provider, "customers": [customer] if customer else []}
