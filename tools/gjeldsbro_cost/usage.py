"""What functions take of AWS."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Work:
    """What the calls of one function do."""

    calls: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    """By ``service.Operation/table or bucket``, as ``tests/rehearsal.py`` counts them."""
    written: int = 0
    """Items of the register that are put."""
    deleted: int = 0
    read_units: float = 0
    """Of the tables; a consistent read of up to 4 KB is one."""
    cpu: float = 0
    """Seconds on the machine of the measurement."""
    fetched: float = 0
    """Bytes that come from institutions, as JSON."""
    delivered: float = 0
    """Bytes that go to receivers."""

    def add(self, other: "Work") -> None:
        """Add what others do."""
        self.calls += other.calls
        self.requests += other.requests
        self.written += other.written
        self.deleted += other.deleted
        self.read_units += other.read_units
        self.cpu += other.cpu
        self.fetched += other.fetched
        self.delivered += other.delivered

    @property
    def write_units(self) -> float:
        """Of the tables: nearly all of what we write is at most 1 KB."""
        singly = sum(self.requests[name] for name in _WRITES_OF_ONE)
        return self.written + self.deleted + singly


_WRITES_OF_ONE = ("dynamodb.PutItem/partners", "dynamodb.UpdateItem/partners")


@dataclass
class Flow:
    """What one execution does, by function, and the state transitions that it takes."""

    works: dict[str, Work] = field(default_factory=dict)
    transitions: int = 0

    def add(self, function: str, *works: Work) -> None:
        """Add what a function does."""
        for work in works:
            self.works.setdefault(function, Work()).add(work)

    def total(self) -> Work:
        """All functions together."""
        return together(self.works.values())


def together(works: Iterable[Work]) -> Work:
    """The sum of some."""
    total = Work()
    for work in works:
        total.add(work)
    return total


def pieces(size: float, chunk: int) -> int:
    """Into how many pieces of ``chunk`` something is cut; nothing is none."""
    return -(-int(size) // chunk)


def opened(size: float, chunk: int, bucket: str = "data") -> Counter[str]:
    """Requests of ``DataStore.open``, read to its end."""
    return Counter({f"s3.HeadObject/{bucket}": 1, f"s3.GetObject/{bucket}": pieces(size, chunk)})


def written(size: float, part: int) -> Counter[str]:
    """Requests of ``DataStore.writer``."""
    if size < part:
        return Counter({"s3.PutObject/data": 1})
    return Counter(
        {
            "s3.CreateMultipartUpload/data": 1,
            "s3.UploadPart/data": pieces(size, part),
            "s3.CompleteMultipartUpload/data": 1,
        }
    )


def deleted(objects: int) -> Counter[str]:
    """Requests of ``DataStore.delete_prefix``; keys are listed and deleted a thousand at a time."""
    return Counter(
        {"s3.ListObjectsV2/data": max(1, pieces(objects, 1000)), "s3.DeleteObjects/data": pieces(objects, 1000)}
    )
