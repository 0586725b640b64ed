"""What the quarterly export needs of the outside: receivers' folders, the PartnerTable and the data bucket."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from gjeldsbro.services.ports import Receiver

type HasTime = Callable[[], bool]
"""Whether there is time for another piece of work in this invocation."""


class RemoteFile(NamedTuple):
    """A file in a receiver's folder; ``modified`` is in seconds of the receiver's clock."""

    name: str
    size: int
    modified: int


class Folder(Protocol):
    """The one folder of a receiver's server.

    Every call raises ReceiverUnavailableError when the connection fails, and ReceiverRefusedError when the server says
    no; ``code`` is then READ, WRITE, RENAME or FOLDER.
    """

    path: str

    def files(self) -> list[RemoteFile]:
        """The ordinary files of the folder."""
        ...

    def file(self, name: str) -> RemoteFile | None:
        """One file, or None when there is none (or the server does not show it)."""
        ...

    def read(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """``size`` bytes of a file from ``start`` on, in pieces; fewer when the file ends before."""
        ...

    def write(self, name: str, start: int, pieces: Iterable[bytes]) -> int:
        """Write ``pieces`` from byte ``start`` on and return the byte after the last.

        At 0 the file is made anew. When this returns, the server has confirmed everything.
        """
        ...

    def replace(self, source: str, target: str) -> None:
        """Rename a file, in place of one that may be there."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, whether it is there or not."""
        ...


type Connect = Callable[[Receiver], AbstractContextManager[Folder]]
"""Connects to a receiver's folder; raises as Folder does, with the codes HOST_KEY, LOGIN and FOLDER."""


class ExportPartners(Protocol):
    """What the export uses of the PartnerTable."""

    def receiver(self, receiver: str) -> Receiver | None:
        """One receiver."""
        ...

    def receivers(self) -> list[Receiver]:
        """All receivers."""
        ...

    def put_outcome(self, run: str, subject: str, outcome: dict[str, Any], now: datetime) -> None:
        """Store what became of a delivery in a run."""
        ...

    def outcomes(self, run: str) -> dict[str, dict[str, Any]]:
        """The outcomes of a run by subject."""
        ...

    def put_run(self, flow: str, run: str, values: dict[str, Any], now: datetime) -> None:
        """Store what is known of a run."""
        ...

    def run(self, flow: str, run: str) -> dict[str, Any] | None:
        """One run."""
        ...

    def delivery(self, receiver: str, on_behalf_of: str, quarter: str) -> dict[str, Any] | None:
        """The delivery of a quarter's package."""
        ...

    def deliveries(self, quarter: str) -> dict[str, dict[str, Any]]:
        """The deliveries of a quarter by ``receiver#onBehalfOf``."""
        ...

    def claim_delivery(
        self, receiver: str, on_behalf_of: str, quarter: str, run: str, now: datetime, *, again: bool
    ) -> dict[str, Any] | None:
        """Claim a delivery for a run and return what is known of it; None when the package was delivered before.

        Raises DeliveryBusyError while another run gives its package the name.
        """
        ...

    def start_publishing(
        self, receiver: str, on_behalf_of: str, quarter: str, run: str, publishing: dict[str, Any]
    ) -> bool:
        """Announce which package ``run`` is about to give the name; False when it has the claim no more."""
        ...

    def update_delivery(self, receiver: str, on_behalf_of: str, quarter: str, run: str, values: dict[str, Any]) -> bool:
        """Replace what is known of a delivery; False when another run has claimed it."""
        ...


class Writer(Protocol):
    """An object in the making."""

    def write(self, data: bytes) -> None:
        """Add bytes at the end."""
        ...


class Store(Protocol):
    """What the export uses of the data bucket."""

    bucket: str

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        ...

    def put_json(self, key: str, value: Any) -> None:
        """Store a JSON document."""
        ...

    def get(self, key: str) -> bytes:
        """An object. Raises KeyError."""
        ...

    def get_json(self, key: str) -> Any:
        """A JSON document. Raises KeyError."""
        ...

    def open(self, key: str, *, start: int = 0, chunk: int = 1 << 20) -> Iterator[bytes]:
        """An object's bytes from ``start``, in pieces. Raises KeyError."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys under a prefix, sorted."""
        ...

    def delete(self, keys: Iterable[str]) -> int:
        """Delete objects."""
        ...

    def delete_prefix(self, prefix: str) -> int:
        """Delete everything under a prefix."""
        ...

    def writer(self, key: str) -> AbstractContextManager[Writer]:
        """Write an object piece by piece."""
        ...
