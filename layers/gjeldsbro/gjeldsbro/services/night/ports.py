"""What the nightly fetch asks of its surroundings; ``adapters`` fulfil it."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from gjeldsbro.services.ports import Dataset, Institution, Provider


class FetchedPage(NamedTuple):
    """A page as the institution's server gave it: inflated body, ``numberOfPages`` header, bytes on the wire."""

    body: bytes
    pages: str | None
    received: int


class PageSource(Protocol):
    """Institutions' servers."""

    def fetch_page(self, provider: Provider, institution: str, page: int, seconds: float) -> FetchedPage:
        """One page, within ``seconds``. Raises InstitutionUnavailableError, DatasetRefusedError, ConfigurationError."""
        ...

    def fetch_customers(self, provider: Provider, institution: str, seconds: float) -> FetchedPage:
        """The list of an institution's customers, within ``seconds``; ``pages`` has no meaning. Raises likewise."""
        ...


class ObjectWriter(Protocol):
    """An object that is being written."""

    def write(self, data: bytes) -> None:
        """Add bytes at the end."""
        ...


class Objects(Protocol):
    """The data bucket."""

    @property
    def bucket(self) -> str:
        """Its name."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Store an object whole."""
        ...

    def put_json(self, key: str, value: Any) -> None:
        """Store a JSON document."""
        ...

    def get_json(self, key: str) -> Any:
        """A JSON document. Raises KeyError when there is none."""
        ...

    def open(self, key: str, *, start: int = 0, chunk: int = 1 << 20) -> Iterator[bytes]:
        """The bytes from ``start`` on, in ranged reads. Raises KeyError when there is no such object."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys under a prefix, sorted."""
        ...

    def delete(self, keys: Iterable[str]) -> int:
        """Delete objects, whether they exist or not."""
        ...

    def delete_prefix(self, prefix: str) -> int:
        """Delete everything under a prefix."""
        ...

    def writer(self, key: str) -> AbstractContextManager[ObjectWriter]:
        """Write an object piece by piece; it appears when the block ends without an error."""
        ...


class NightRecords(Protocol):
    """What the PartnerTable keeps of institutions, datasets and runs."""

    def institution(self, institution: str) -> Institution | None:
        """One institution, ended or not."""
        ...

    def institutions(self) -> list[Institution]:
        """All institutions."""
        ...

    def drop_provider(self, institution: Institution, provider: str) -> bool:
        """Forget an ended provider; False when the institution has changed since it was read."""
        ...

    def dataset(self, institution: str, provider: str) -> Dataset:
        """What is known of a dataset."""
        ...

    def datasets(self, institution: str | None = None) -> list[Dataset]:
        """All datasets, or those of one institution."""
        ...

    def take_lease(self, institution: str, provider: str, run: str, now: datetime, seconds: int) -> Dataset:
        """Take or renew the lease. Raises DatasetBusyError while another run has it."""
        ...

    def update_dataset(self, dataset: Dataset, run: str, /, **changes: Any) -> Dataset:
        """Change fields while ``run`` has the lease. Raises DatasetBusyError when it has not."""
        ...

    def remove_dataset(self, dataset: Dataset, run: str) -> None:
        """Forget a dataset while ``run`` has the lease. Raises DatasetBusyError when it has not."""
        ...

    def put_outcome(self, run: str, subject: str, outcome: dict[str, Any], now: datetime) -> None:
        """Store what a run did with one dataset."""
        ...

    def outcomes(self, run: str) -> dict[str, dict[str, Any]]:
        """The outcomes of a run by subject."""
        ...

    def put_run(self, flow: str, run: str, values: dict[str, Any], now: datetime) -> None:
        """Store what is known of a run as a whole."""
        ...

    def run(self, flow: str, run: str) -> dict[str, Any] | None:
        """One run."""
        ...

    def runs(self, flow: str, since: datetime) -> dict[str, dict[str, Any]]:
        """The runs of a flow that were started at that time or later, by name."""
        ...
