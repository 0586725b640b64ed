"""Quarterly packages: packed from their customers' texts, and made from loans to a file in the receiver's folder.

Packing is what gzip does too: slices of 5,000 customers are deflated, flushed and put together as one member. Making is
all of an export but for the register and the network: the steps of the functions, one after another, with a bucket and
a folder on disk. What is known of customers is that of a population, in memory before; each person of it stands for
several customers, thousands of numbers apart, where deflate, which looks back 32 KiB, no longer sees the others.
"""

import gzip
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import batched, islice
from pathlib import Path
from typing import Any

import msgspec
from tests.bench.lists import valid_numbers
from tests.bench.measure import Counts, Row, Work, count, memory, speed
from tests.integration.long_lists import DiskStore
from tests.unit.export_world import MemoryPartners

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import ChargeCard, CreditFacility, Loan, RepaymentLoan, decode_loans, encode_loans
from gjeldsbro.domain.package import Package, build_slice
from gjeldsbro.domain.register import CurrentLoan
from gjeldsbro.domain.timestamps import normalise
from gjeldsbro.services.export import places
from gjeldsbro.services.export.build import build_package_slice
from gjeldsbro.services.export.deliver import PackageDelivery
from gjeldsbro.services.export.loans import LoansOf
from gjeldsbro.services.export.plan import Plan, plan_export
from gjeldsbro.services.export.ports import RemoteFile
from gjeldsbro.services.export.read_lists import BATCH_SIZE
from gjeldsbro.services.ports import Receiver
from gjeldsbro_population.population import Population

SIZES = {10_000: 5, 100_000: 3, 1_000_000: 1}
"""Numbers of a package, and how often it is measured."""

PEOPLE = 4 * BATCH_SIZE
RUN, BANK, PROVIDER = "export-1", "920013015", "9908:983544622"
KEYS = HashKeys.of(HashKey("1", b"k" * 64))
TYPES = {"repaymentLoan": RepaymentLoan, "creditFacility": CreditFacility, "chargeCard": ChargeCard}

_SMALL = count("package at most 1.15 times as large", lambda ours, other: ours["bytes"] <= 1.15 * other["bytes"])
_SMALLEST = min(SIZES)
ROWS = (
    *(
        Row(
            f"package of {size:,} numbers, packed",
            f"packages.packed:{size}",
            "gzip of the finished JSON",
            f"packages.gzipped:{size}",
            (speed(2), _SMALL),
            rounds=rounds,
        )
        for size, rounds in SIZES.items()
    ),
    *(
        Row(
            f"package of {size:,} numbers, from loans to the receiver's folder",
            f"packages.made:{size}",
            "gzip of the finished JSON",
            f"packages.gzipped:{size}",
            rounds=rounds,
        )
        for size, rounds in SIZES.items()
    ),
    *(
        Row(
            f"package of {size:,} numbers, from loans to the receiver's folder",
            f"packages.made:{size}",
            f"package of {_SMALLEST:,} numbers",
            f"packages.made:{_SMALLEST}",
            (memory(1.1),),
            rounds=1,
        )
        for size in SIZES
        if size > _SMALLEST
    ),
)


class _Document(msgspec.Struct):
    customers: list[msgspec.Raw]


def write_data(folder: Path) -> None:
    """Note what is known of customers, and make each package once for its document."""
    population = Population(1, PEOPLE)
    for number, group in enumerate(batched(population.customer_ids, BATCH_SIZE, strict=True)):
        known = [
            {institution: encode_loans(tuple(map(_loan, loans))) for institution, loans in by_institution.items()}
            for by_institution in map(population.expected_loans, group)
        ]
        (folder / f"known-{number}").write_bytes(msgspec.msgpack.encode(known))
    for number, group in enumerate(batched(islice(valid_numbers(), max(SIZES)), BATCH_SIZE, strict=True)):
        (folder / f"numbers-{number}").write_text("\n".join(group), encoding="ascii")
    known = _known(folder)
    for size in SIZES:
        _make(known, folder, size, lambda file, size=size: _unpack(file, folder / f"package-{size}.json"))
    document = msgspec.json.decode((folder / f"package-{max(SIZES)}.json").read_bytes(), type=_Document)
    for number, group in enumerate(batched(document.customers, BATCH_SIZE, strict=True)):
        (folder / f"texts-{number}").write_bytes(b"\n".join(group))


def _loan(wire: dict[str, Any]) -> Loan:
    members = {name: normalise(value) if name == "timestamp" else value for name, value in wire.items()}
    kind = TYPES[members.pop("type")]
    members.pop("installmentChargePeriod", None)
    return kind(*(members.get(name) for name in map(_camel, kind.__struct_fields__)))


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join("ID" if part == "id" else part.title() for part in others)


def _unpack(package: Path, document: Path) -> None:
    with gzip.open(package) as packed, document.open("wb") as plain:
        shutil.copyfileobj(packed, plain)


def packed(folder: Path, size: str) -> Work:
    """A package of so many customers, of their texts."""

    def work() -> Counts:
        with tempfile.TemporaryFile(dir=folder) as file:
            slices = []
            for number in range(int(size) // BATCH_SIZE):
                texts = (folder / f"texts-{number}").read_text(encoding="utf-8").split("\n")
                data, described = build_slice(texts, first=not number)
                file.write(data)
                slices.append(described)
            return Counts(bytes=Package(PROVIDER, slices).size)

    return work


def made(folder: Path, size: str) -> Work:
    """A package of so many customers, from what is known of them to the receiver's folder."""
    known = _known(folder)
    return lambda: _make(known, folder, int(size))


def gzipped(folder: Path, size: str) -> Work:
    """The finished JSON through the standard library's gzip."""
    document = folder / f"package-{size}.json"
    return lambda: Counts(bytes=len(gzip.compress(document.read_bytes())))


def _known(folder: Path) -> list[list[LoansOf]]:
    """What is known of the customers of some batches, as the register shows it."""
    stamp = "2026-09-30T03:00:00.0000000Z"
    return [
        [
            {
                institution: [CurrentLoan(loan, stamp, PROVIDER, "dataset") for loan in decode_loans(stored)]
                for institution, stored in by_institution.items()
            }
            for by_institution in msgspec.msgpack.decode((folder / f"known-{number}").read_bytes())
        ]
        for number in range(PEOPLE // BATCH_SIZE)
    ]


def _make(
    known: list[list[LoansOf]], folder: Path, size: int, look: Callable[[Path], object] = lambda _: None
) -> Counts:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        export = _Export(Path(name))
        export.build(known, folder, size)
        file = export.deliver()
        look(file)
        return Counts(bytes=file.stat().st_size)


class _Export:
    """One run for one receiver."""

    def __init__(self, root: Path) -> None:
        self._store, self._folder = DiskStore(root / "store"), _DiskFolder(root / "receiver")
        self._partners = MemoryPartners(Receiver(BANK, "Bank", (BANK,), "", (), ""))
        self._now = datetime(2026, 10, 1, 4, 0, 12, tzinfo=UTC)

    def build(self, known: list[list[LoansOf]], numbers: Path, size: int) -> None:
        """Plan the run, put batches of numbers there as the reading of a list does, and build their slices."""
        plan_export(run=RUN, started_at=self._now, request={}, partners=self._partners, store=self._store)
        for batch in range(size // BATCH_SIZE):
            self._store.put(places.batch_key(RUN, BANK, BANK, batch), (numbers / f"numbers-{batch}").read_bytes())
            build_package_slice(
                run=RUN,
                receiver=BANK,
                on_behalf_of=BANK,
                batch=batch,
                store=self._store,
                loans=_Known(known[batch % len(known)]),
                keys=KEYS,
            )

    def deliver(self) -> Path:
        """Deliver the package: the file in the receiver's folder."""
        PackageDelivery(
            plan=Plan.load(self._store, RUN),
            receiver=BANK,
            on_behalf_of=BANK,
            provider=PROVIDER,
            partners=self._partners,
            store=self._store,
            clock=lambda: self._now,
            has_time=lambda: True,
            ends=self._now + timedelta(minutes=15),
        ).deliver(lambda _: nullcontext(self._folder))
        return self._folder.root / f"{BANK}.gzip"


class _Known:
    """What the register shows of a batch of customers."""

    def __init__(self, loans: list[LoansOf]) -> None:
        self._loans = loans

    def read(self, customer_ids: Sequence[str]) -> Iterator[list[LoansOf]]:
        """Of some customers at a time."""
        assert len(customer_ids) == len(self._loans)
        for group in batched(self._loans, 500, strict=False):
            yield list(group)


class _DiskFolder:
    """A receiver's folder."""

    path = "/"

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.root = root

    def files(self) -> list[RemoteFile]:
        """All files."""
        return [RemoteFile(file.name, file.stat().st_size, 0) for file in self.root.iterdir()]

    def file(self, name: str) -> RemoteFile | None:
        """One file."""
        return next((file for file in self.files() if file.name == name), None)

    def read(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Part of a file."""
        with (self.root / name).open("rb") as file:
            file.seek(start)
            while size and (piece := file.read(min(size, 1 << 18))):
                size -= len(piece)
                yield piece

    def write(self, name: str, start: int, pieces: Iterable[bytes]) -> int:
        """Write a file anew, or go on with it."""
        with (self.root / name).open("r+b" if start else "wb") as file:
            file.seek(start)
            for piece in pieces:
                file.write(piece)
            return file.tell()

    def replace(self, source: str, target: str) -> None:
        """Rename a file."""
        (self.root / source).replace(self.root / target)

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self.root / name).unlink(missing_ok=True)
