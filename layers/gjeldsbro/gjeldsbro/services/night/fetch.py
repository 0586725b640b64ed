"""Fetches, checks and sorts the pages of one dataset (SPEC 3.1.2), as far as the time of one invocation goes.

Nothing of a page is kept but keyed hashes, digests and encoded loans: identity numbers stay in memory. Of an
institution that is always asked (``dataset: ssn``) the list of its customers is fetched instead, and goes the same way:
each of them is stored without loans, which says "customer, ask"; a page's customer without loans is not stored at all.
"""

import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import batched
from typing import Any

from gjeldsbro.domain.customer_keys import FIRST_VERSION, HashKey, HashKeys
from gjeldsbro.domain.dataset_index import Duplicates, page_files
from gjeldsbro.domain.dataset_page import read_page
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.domain.loans import content_digest, encode_loans
from gjeldsbro.domain.page_records import PageRecords
from gjeldsbro.domain.register import MAX_LOANS_BYTES
from gjeldsbro.domain.ssn_dataset import read_customer_list
from gjeldsbro.domain.timestamps import from_datetime, to_datetime
from gjeldsbro.errors import (
    ConfigurationError,
    DatasetBusyError,
    DatasetRefusedError,
    InstitutionUnavailableError,
    Violation,
)
from gjeldsbro.log import logger
from gjeldsbro.services.night.common import (
    FLOW,
    VIOLATIONS_SHOWN,
    Clock,
    Job,
    Remaining,
    after_close,
    close,
    is_closed,
    leased,
    outcome,
    refusal,
)
from gjeldsbro.services.night.leases import released
from gjeldsbro.services.night.ports import NightRecords, Objects, PageSource
from gjeldsbro.services.night.records import groups_due, merge, merge_next_group
from gjeldsbro.services.ports import Dataset, DatasetKind, Provider

MAX_PAGES = 10_000
"""FUNC-08: a page has at least 50 MB, so no institution can have so many; a header beyond it is a mistake."""

PAGE_SECONDS = 600
"""TECH-04 allows ten minutes for the whole dataset, so a page may take as long."""

RESERVE_SECONDS = 90
"""Kept back for checking, sorting and storing the page that was fetched last."""

LIST_RESERVE_SECONDS = 240
"""The same for a list of customers, which comes in one piece: five million of them were measured to take 40 seconds to
check and sort, and 530 MB."""

LIST_PART = 200_000
"""Customers of a list that are sorted and stored together, like a page, so that memory stays flat."""

FETCH_HOURS = 6
"""After so long since the run began no page is asked for any more. TECH-04 allows an institution ten minutes; and a
group of the Map, which has four fetches at a time, stays within the 25,000 events of its execution's history."""

MERGE_SECONDS = 300
"""A merge is begun with at least this much time: it cannot be continued by a later invocation."""

_HOLE = "must hold customers when those of a later page do"
_NO_LOANS = encode_loans(())
_NO_LOANS_DIGEST = content_digest()


@dataclass(frozen=True)
class Fetcher:
    """What fetching needs."""

    records: NightRecords
    objects: Objects
    source: PageSource
    hash_keys: HashKeys
    accepts: Accepts
    clock: Clock
    remaining: Remaining


@dataclass
class _Cursor:
    """How far a fetch is, as kept with the dataset. Times in the fixed form; violations as [place, rule].

    The parts in which a list of customers is stored are its ``pages``. All of a fetch is under one version of the hash
    key (``keyVersion``), also when a new one comes into force between two of its pages.
    """

    run: str
    start: str
    kind: DatasetKind = "loans"
    keyVersion: str = FIRST_VERSION  # noqa: N815 - the names under which it is stored
    withdraw: bool = False
    ready: bool = False
    nextPage: int = 0  # noqa: N815 - as above
    pages: int = 1
    customers: int = 0
    withLoans: int = 0  # noqa: N815 - as above
    received: int = 0
    earliest: str = ""
    latest: str = ""
    blankPage: int | None = None  # noqa: N815 - as above
    violations: list[list[str]] | None = None
    totalViolations: int = 0  # noqa: N815 - as above
    storedBy: list[list[Any]] = field(default_factory=list)  # noqa: N815 - as above; see night.records
    groups: list[str] = field(default_factory=list)
    until: str = ""
    scratch: bool = False

    def refuse(self, violations: list[Violation], total: int) -> None:
        kept = self.violations or []
        kept += [list(violation) for violation in violations[: VIOLATIONS_SHOWN - len(kept)]]
        self.violations = kept
        self.totalViolations += total

    def store_as(self, token: str) -> None:
        """Have the next page stored by the invocation with that token."""
        if not self.storedBy or self.storedBy[-1][1] != token:
            self.storedBy = [*self.storedBy, [self.nextPage, token]]

    def stored(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


def fetch_pages(job: Job, action: str, tools: Fetcher, *, scratch: bool = False) -> bool:
    """Fetch what is missing of a dataset; True when nothing more is to be fetched, False to be called again.

    ``scratch`` has the load find out by itself what the register holds of the dataset (decision record 0023).
    Afterwards the dataset's ``fetch`` is ready, with the merged rows stored; or the dataset has an outcome: refused, or
    busy because another run works on it. Raises InstitutionUnavailableError, or ConfigurationError when the provider is
    not set up for datasets any more.
    """
    if action == "withdraw" and not _is_known(job, tools):
        now = tools.clock()
        result = outcome(job, "unchanged", now, reason="another run has withdrawn it")
        tools.records.put_outcome(job.run, job.subject, result, now)
        return True
    with ExitStack() as stack:
        try:
            dataset = stack.enter_context(leased(job, tools.records, tools.clock))
        except DatasetBusyError:
            now = tools.clock()
            busy = outcome(job, "busy", now, reason="another run works on this dataset")
            tools.records.put_outcome(job.run, job.subject, busy, now)
            return True
        return _fetch(job, action, dataset, tools, scratch=scratch)


def _fetch(job: Job, action: str, dataset: Dataset, tools: Fetcher, *, scratch: bool) -> bool:
    if is_closed(job, dataset):
        assert dataset.last_run is not None
        now = tools.clock()
        tools.records.update_dataset(dataset, job.run, lease=released(dataset.lease, now))
        after_close(job, dataset.last_run, records=tools.records, objects=tools.objects, now=now)
        return True
    if dataset.fetch is not None and dataset.fetch["run"] == job.run:
        if dataset.fetch["ready"]:
            return True  # the load may have begun, and keeps more in it
        cursor = _Cursor(**dataset.fetch)
    else:
        now = tools.clock()
        start, withdraw = from_datetime(now), action == "withdraw"
        key = _key_for(dataset, tools.hash_keys.at(now), tools)
        until = from_datetime(to_datetime(_run_start(job, tools) or start) + timedelta(hours=FETCH_HOURS))
        # One that died from scratch has found nothing that can be trusted: whoever comes next looks too.
        scratch = scratch or bool(dataset.fetch and dataset.fetch.get("scratch"))
        cursor = _Cursor(job.run, start, keyVersion=key.version, withdraw=withdraw, until=until, scratch=scratch)
        cursor.ready = cursor.withdraw
        dataset = tools.records.update_dataset(dataset, job.run, fetch=cursor.stored())
    if cursor.ready:
        return True
    try:
        if not _fetch_missing(job, cursor, dataset, tools):
            return False
    except _TooSlowError as exc:
        now = tools.clock()
        failed = outcome(job, "failed", now, reason=str(exc), error=InstitutionUnavailableError.__name__)
        close(job, dataset, records=tools.records, objects=tools.objects, result=failed, now=now)
        logger.warning("NIGHT_DATASET_TOO_SLOW", extra={"dataset": job.subject, "pages": cursor.nextPage})
        return True
    if not cursor.totalViolations:
        _merge(job, cursor, tools)
    if cursor.totalViolations:
        _refuse(job, cursor, dataset, tools)
    else:
        cursor.ready = True
        tools.records.update_dataset(dataset, job.run, fetch=cursor.stored())
        counts = {"customers": cursor.customers, "withLoans": cursor.withLoans, "pages": cursor.pages}
        logger.info("NIGHT_DATASET_FETCHED", extra={"dataset": job.subject, **counts})
    return True


def _key_for(dataset: Dataset, in_force: HashKey, tools: Fetcher) -> HashKey:
    """The key to fetch a dataset under: never older than what is stored of it, though a clock may have gone back."""
    stored = [dataset.key_version, None if dataset.rekey is None else dataset.rekey["version"]]
    known = [tools.hash_keys.of_version(version) for version in stored if version is not None]
    return max([in_force, *known], key=lambda key: key.number)


def _fetch_missing(job: Job, cursor: _Cursor, dataset: Dataset, tools: Fetcher) -> bool:
    provider = _provider(job, tools)
    began_at = cursor.nextPage
    if began_at == 0:
        cursor.kind = provider.dataset
    elif cursor.kind != provider.dataset:
        raise ConfigurationError("the provider was set up for another kind of dataset during the fetch")
    fetch_next = _fetch_list if cursor.kind == "ssn" else _fetch_one
    assert dataset.lease is not None
    by = dataset.lease.token or ""
    while cursor.totalViolations < VIOLATIONS_SHOWN:
        merges = not cursor.totalViolations and len(cursor.groups) < groups_due(vars(cursor))
        if not merges and cursor.nextPage == cursor.pages:
            break
        if cursor.nextPage > began_at and tools.remaining() < PAGE_SECONDS + RESERVE_SECONDS:
            return False
        if merges:
            _merge_group(job, cursor, by, tools)
        else:
            _check_time(cursor, tools)
            cursor.store_as(by)
            try:
                fetch_next(job, cursor, provider, tools)
            except DatasetRefusedError as exc:
                cursor.refuse(list(exc.violations), exc.total)
                return True
            cursor.nextPage += 1
        tools.records.update_dataset(dataset, job.run, fetch=cursor.stored())
    # All are there. The merge gets an invocation of its own when this one has not much time left.
    return cursor.nextPage == began_at or cursor.totalViolations > 0 or tools.remaining() >= MERGE_SECONDS


class _TooSlowError(Exception):
    """A fetch has taken as long as it may."""


def _check_time(cursor: _Cursor, tools: Fetcher) -> None:
    if not cursor.until or from_datetime(tools.clock()) < cursor.until:
        return
    missing = "the list" if cursor.kind == "ssn" else f"page {cursor.nextPage}"
    of = f" of {cursor.pages}" if cursor.nextPage else ""
    raise _TooSlowError(f"too slow: {missing}{of} had not come {FETCH_HOURS} hours after the run began")


def _run_start(job: Job, tools: Fetcher) -> str | None:
    run = tools.records.run(FLOW, job.run)
    return None if run is None else run.get("startedAt")


def _fetch_one(job: Job, cursor: _Cursor, provider: Provider, tools: Fetcher) -> None:
    page = cursor.nextPage
    seconds = max(1.0, tools.remaining() - RESERVE_SECONDS)
    fetched = tools.source.fetch_page(provider, job.institution, page, seconds)
    pages = number_of_pages(fetched.pages, page)
    if page == 0:
        cursor.pages = 1 if pages is None else pages
    elif pages is not None and pages != cursor.pages:
        raise DatasetRefusedError([Violation(f"page {page}", "numberOfPages must be the same on all pages")])
    cursor.received += fetched.received
    records = PageRecords(tools.hash_keys.of_version(cursor.keyVersion))
    result = read_page(
        fetched.body,
        institution=job.institution,
        provider=job.provider,
        accepts=tools.accepts,
        now=tools.clock(),
        keep=records.of,
        limit=VIOLATIONS_SHOWN,
    )
    del fetched
    violations = [Violation(f"page {page} {found.place}".rstrip(), found.rule) for found in result.violations]
    cursor.refuse(violations, result.total_violations)
    if result.kept and cursor.blankPage is not None:
        # All blank is an empty dataset, and a blank one at the end a matter of taste; a hole is data that is missing.
        cursor.refuse([Violation(f"page {cursor.blankPage} /customers", _HOLE)], 1)
    elif not result.kept and not result.total_violations and cursor.blankPage is None:
        cursor.blankPage = page
    for number in () if result.violations else records.too_large:
        place = f"page {page} /customers/{number}/loans"
        cursor.refuse([Violation(place, f"one customer's loans must take at most {MAX_LOANS_BYTES} bytes")], 1)
    if cursor.totalViolations:
        return
    cursor.customers += records.customers
    cursor.withLoans += records.with_loans
    if records.times is not None:
        earliest, latest = records.times
        cursor.earliest = min(cursor.earliest or earliest, earliest)
        cursor.latest = max(cursor.latest, latest)
    page_rows, stored = page_files(result.kept)
    by = cursor.storedBy[-1][1]
    tools.objects.put(job.records_key(page, by), stored)
    tools.objects.put(job.rows_key(page, by), page_rows)


def _fetch_list(job: Job, cursor: _Cursor, provider: Provider, tools: Fetcher) -> None:
    """Fetch the list of customers and store it in parts, all of them before the cursor moves on."""
    seconds = max(1.0, tools.remaining() - LIST_RESERVE_SECONDS)
    fetched = tools.source.fetch_customers(provider, job.institution, seconds)
    cursor.received = fetched.received
    result = read_customer_list(
        fetched.body,
        institution=job.institution,
        provider=job.provider,
        accepts=tools.accepts,
        now=tools.clock(),
        limit=VIOLATIONS_SHOWN,
    )
    del fetched
    if result.total_violations:
        violations = [Violation(f"list {found.place}".rstrip(), found.rule) for found in result.violations]
        cursor.refuse(violations, result.total_violations)
        return
    cursor.customers = cursor.withLoans = len(result.customers)
    cursor.earliest = cursor.latest = result.timestamp
    cursor.pages, by = 1, cursor.storedBy[-1][1]
    hash_key = tools.hash_keys.of_version(cursor.keyVersion)
    for part, customers in enumerate(batched(result.customers, LIST_PART, strict=False)):
        cursor.pages = part + 1
        keys = hash_key.customer_keys(customers)
        page_rows, records = page_files((key, _NO_LOANS_DIGEST, key + _NO_LOANS) for key in keys)
        tools.objects.put(job.records_key(part, by), records)
        tools.objects.put(job.rows_key(part, by), page_rows)
    if not result.customers:
        tools.objects.put(job.rows_key(0, by), b"")
    cursor.nextPage = cursor.pages - 1


def _merge(job: Job, cursor: _Cursor, tools: Fetcher) -> None:
    duplicates = Duplicates(VIOLATIONS_SHOWN)
    merge(job, vars(cursor), tools.objects, duplicates)
    _refuse_duplicates(cursor, duplicates)


def _merge_group(job: Job, cursor: _Cursor, by: str, tools: Fetcher) -> None:
    duplicates = Duplicates(VIOLATIONS_SHOWN)
    merge_next_group(job, vars(cursor), by, tools.objects, duplicates)
    cursor.groups = [*cursor.groups, by]
    _refuse_duplicates(cursor, duplicates)


def _refuse_duplicates(cursor: _Cursor, duplicates: Duplicates) -> None:
    if duplicates.total:
        repeated = _twice_in_list if cursor.kind == "ssn" else _on_two_pages
        cursor.refuse([repeated(*places) for places in duplicates.first], duplicates.total)


def _on_two_pages(page: int, number: int, earlier_page: int, earlier_number: int) -> Violation:
    rule = f"a customer must come once; this one came before, on page {earlier_page} as /customers/{earlier_number}"
    return Violation(f"page {page} /customers/{number}", rule)


def _twice_in_list(part: int, number: int, earlier_part: int, earlier_number: int) -> Violation:
    earlier = earlier_part * LIST_PART + earlier_number
    rule = f"a customer must come once; this one came before, as /customers/{earlier}"
    return Violation(f"list /customers/{part * LIST_PART + number}", rule)


def _refuse(job: Job, cursor: _Cursor, dataset: Dataset, tools: Fetcher) -> None:
    now = tools.clock()
    violations = [Violation(place, rule) for place, rule in cursor.violations or []]
    fields = refusal(violations, cursor.totalViolations)
    result = outcome(job, "refused", now, dataset=cursor.kind, pages=cursor.nextPage, **fields)
    close(job, dataset, records=tools.records, objects=tools.objects, result=result, now=now)
    logger.warning("NIGHT_DATASET_REFUSED", extra={"dataset": job.subject, "violations": cursor.totalViolations})


def _provider(job: Job, tools: Fetcher) -> Provider:
    institution = tools.records.institution(job.institution)
    provider = None if institution is None or institution.ended else institution.provider(job.provider)
    if provider is None or provider.ended or not provider.delivers_datasets:
        raise ConfigurationError("the provider is no longer set up to deliver datasets")
    return provider


def _is_known(job: Job, tools: Fetcher) -> bool:
    """Whether the institution still has the provider, ended or not: without, nobody would look for its record again."""
    institution = tools.records.institution(job.institution)
    return institution is not None and institution.provider(job.provider) is not None


def number_of_pages(header: str | None, page: int) -> int | None:
    """SPEC's ``numberOfPages`` response header; None when it is missing, which means one page.

    Raises DatasetRefusedError unless it is a whole number from 1 to MAX_PAGES.
    """
    if header is None:
        return None
    text = header.strip()
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_PAGES:
        raise DatasetRefusedError(
            [Violation(f"page {page}", f"numberOfPages must be a whole number, 1 to {MAX_PAGES}")]
        )
    return int(text)
