"""An export for a list of any length: a real server, stores on disk, and each step in a process of its own.

The steps are those of the functions, one after another; what they take and need is measured. What is known of persons
comes from a rule, so that the package can be checked as a stream against the list and nothing else.
"""

import gzip
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from json import dumps, loads
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from tests.unit.export_world import MemoryPartners

from gjeldsbro.adapters.receiver_client import connect
from gjeldsbro.adapters.secrets import ReceiverSecret
from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.identity_numbers import is_organisation_number
from gjeldsbro.domain.loans import ChargeCard
from gjeldsbro.domain.register import CurrentLoan
from gjeldsbro.services.export import places
from gjeldsbro.services.export.build import build_package_slice
from gjeldsbro.services.export.deliver import PackageDelivery
from gjeldsbro.services.export.plan import Plan, batches_of, plan_export
from gjeldsbro.services.export.read_lists import ListReader, ListRules
from gjeldsbro.services.ports import Receiver
from gjeldsbro_population.identity import _with_check_digits

RUN, BANK = "export-1", "920013015"
INVALID_EACH, TWICE_EACH = 100, 1000
"""After so many numbers of the list one entry is invalid, and one number comes once more."""

_CUSTOMER = re.compile(rb',?\{"customerID":"(\d{11})","financialInstitutionID":"(\d{9})","loans":\[(.*?)\]\}')
_BALANCE = re.compile(rb'"interestBearingBalance":"(\d+)"')


class Figures(NamedTuple):
    """What a step took: seconds, those of the processor, megabytes at its peak; ``result`` is the step's own."""

    result: Any
    seconds: float
    processor: float
    megabytes: float


def numbers(count: int) -> Iterator[str]:
    """Distinct synthetic numbers, day by day of birth, as lists are that come out of a database."""
    return islice(_numbers(), count)


def _numbers() -> Iterator[str]:
    day = date(1932, 1, 1)
    while True:
        start = 500 if day.year >= 2000 else 0
        for serial in range(start, start + 500):
            nine = f"{day.day:02}{day.month + 80:02}{day.year % 100:02}{serial:03}"
            if (number := _with_check_digits(nine, 0)) is not None:
                yield number
        day += timedelta(days=1)


def write_list(file: Path, count: int) -> int:
    """Write a list of ``count`` numbers, with invalid entries and duplicates; its size in bytes."""
    with file.open("w", encoding="ascii") as out:
        for index, number in enumerate(numbers(count)):
            out.write(f"{number},")
            if index % INVALID_EACH == 0:
                out.write(f"{number[:10]}x,")
            if index % TWICE_EACH == 0:
                out.write(f"{number}\n")
    return file.stat().st_size


def owed(number: str) -> int:
    """What a person owes; every tenth person something."""
    return int(number[:9]) % 1000 + 1 if int(number) % 10 == 0 else 0


class RuleLoans:
    """A register by that rule."""

    def read(self, customer_ids: Sequence[str]) -> Iterator[list[dict[str, list[CurrentLoan]]]]:
        """What it shows of each customer."""
        stamp = "2026-09-30T03:00:00.0000000Z"
        for number in customer_ids:
            loan = ChargeCard("39", stamp, None, owed(number), 0, 0)
            yield [{BANK: [CurrentLoan(loan, stamp, BANK, "dataset")]} if owed(number) else {}]


class DiskStore:
    """The data bucket, as files under a folder."""

    bucket = "bucket"

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        self._file(key).write_bytes(data)

    def put_json(self, key: str, value: Any) -> None:
        """Store a JSON document."""
        self.put(key, dumps(value).encode())

    def get(self, key: str) -> bytes:
        """An object."""
        try:
            return self._file(key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None

    def get_json(self, key: str) -> Any:
        """A JSON document."""
        return loads(self.get(key))

    def open(self, key: str, *, start: int = 0, chunk: int = 1 << 20) -> Iterator[bytes]:
        """An object in pieces."""
        with self._file(key).open("rb") as file:
            file.seek(start)
            while data := file.read(chunk):
                yield data

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys under a prefix, sorted."""
        folder = self._root / prefix
        yield from sorted(str(file.relative_to(self._root)) for file in folder.rglob("*") if file.is_file())

    def delete(self, keys: Any) -> int:
        """Delete objects."""
        return sum(1 for key in keys if self._file(key).unlink(missing_ok=True) is None)

    def delete_prefix(self, prefix: str) -> int:
        """Delete what is under a prefix."""
        return self.delete(list(self.keys(prefix)))

    @contextmanager
    def writer(self, key: str) -> Iterator[Any]:
        """Write an object in pieces."""
        with self._file(key).open("wb") as file:
            yield file

    def _file(self, key: str) -> Path:
        file = self._root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        return file


class Export:
    """One run for one receiver, whose stores are under ``root``."""

    def __init__(self, root: Path, receiver: Receiver, private_key: str) -> None:
        self._root, self._receiver, self._private_key = root, receiver, private_key

    def plan(self) -> None:
        """Plan the run."""
        plan_export(
            run=RUN, started_at=datetime.now(UTC), request={}, partners=self._partners(), store=DiskStore(self._root)
        )

    def read(self) -> bool:
        """Read the list, as ``read_ssn_lists`` does."""
        reader = ListReader(
            plan=Plan.load(DiskStore(self._root), RUN),
            receiver=BANK,
            partners=self._partners(),
            store=DiskStore(self._root),
            rules=ListRules("synthetic", is_organisation_number),
            clock=lambda: datetime.now(UTC),
            has_time=lambda: True,
        )
        return reader.read(self._connect)

    def build(self) -> float:
        """Build all slices, as ``build_slice`` does one after another; the seconds of the slowest."""
        store, slowest = DiskStore(self._root), 0.0
        for batch in range(batches_of(store, RUN, BANK, BANK)):
            began = time.monotonic()
            build_package_slice(
                run=RUN,
                receiver=BANK,
                on_behalf_of=BANK,
                batch=batch,
                store=store,
                loans=RuleLoans(),
                keys=HashKeys.of(HashKey("1", b"k" * 32)),
            )
            slowest = max(slowest, time.monotonic() - began)
        return slowest

    def deliver(self) -> dict[str, Any]:
        """Deliver the package, as ``deliver_package`` does; what is recorded of it."""
        partners = self._partners()
        now = datetime.now(UTC)
        PackageDelivery(
            plan=Plan.load(DiskStore(self._root), RUN),
            receiver=BANK,
            on_behalf_of=BANK,
            provider="9908:983544622",
            partners=partners,
            store=DiskStore(self._root),
            clock=lambda: datetime.now(UTC),
            has_time=lambda: True,
            ends=now + timedelta(minutes=15),
        ).deliver(self._connect)
        outcome: dict[str, Any] = partners.outcomes(RUN)[places.subject(BANK, BANK)]
        return outcome

    def _partners(self) -> MemoryPartners:
        return MemoryPartners(self._receiver)

    def _connect(self, receiver: Receiver) -> Any:
        return connect(receiver, ReceiverSecret(None, self._private_key, None))


def measured(step: Callable[[], Any]) -> Figures:
    """Run a step in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (step,))


def _measure(step: Callable[[], Any]) -> Figures:
    began, worked = time.monotonic(), time.process_time()
    result = step()
    seconds, processor = time.monotonic() - began, time.process_time() - worked
    # Of this program only: what getrusage says begins with the size of the process that started it.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return Figures(result, seconds, processor, int(peak) / 1024)


def check_package(file: Path, count: int) -> None:
    """The package holds each number of the list once, in its order, with what it owes, and nothing else."""
    expected = numbers(count)
    with gzip.open(file) as package:
        head = b'{"providerID":"9908:983544622","customers":['
        assert package.read(len(head)) == head
        rest = b""
        while data := package.read(1 << 20):
            rest += data
            end = 0
            while (customer := _CUSTOMER.match(rest, end)) is not None:
                number, on_behalf_of, held = customer.groups()
                assert number.decode() == next(expected)
                assert on_behalf_of.decode() == BANK
                assert sum(map(int, _BALANCE.findall(held))) == owed(number.decode())
                end = customer.end()
            rest = rest[end:]
    assert rest == b"]}"
    assert next(expected, None) is None
