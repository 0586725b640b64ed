"""What reports ask of their surroundings; ``adapters`` and ``pages`` fulfil it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, Protocol

type Report = dict[str, Any]
"""A report: what JSON can hold, and nothing personal."""


FORM = 1
"""The form of reports: earlier ones of another form are left out of trends."""


class ReportStore(Protocol):
    """The report bucket."""

    bucket: str

    def put(self, key: str, data: bytes, content_type: str = ...) -> None:
        """Store an object whole."""
        ...

    def put_json(self, key: str, value: Any) -> None:
        """Store a JSON document."""
        ...

    def get_json(self, key: str) -> Any:
        """A JSON document. Raises KeyError when there is none."""
        ...


class RunRecords(Protocol):
    """What the PartnerTable keeps of runs."""

    def put_run(self, flow: str, run: str, values: dict[str, Any], now: datetime) -> None:
        """Store what is known of a run as a whole."""
        ...

    def run(self, flow: str, run: str) -> dict[str, Any] | None:
        """One run."""
        ...

    def runs(self, flow: str, since: datetime) -> dict[str, dict[str, Any]]:
        """The runs of a flow that were started at that time or later, by name."""
        ...


class Topic(Protocol):
    """Where the people on duty are told."""

    @property
    def region(self) -> str:
        """The Region that the stack is in, for links."""
        ...

    def publish(self, subject: str, text: str) -> None:
        """Tell everybody who listens. ``subject`` has fewer than 100 printable ASCII characters."""
        ...


class Press(NamedTuple):
    """How reports are made: where they are kept, how one becomes a page, and which stack they are of."""

    store: ReportStore
    page: Callable[[Report], str]
    stack: str
