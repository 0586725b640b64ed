"""Nights and exports of any size in this process, driven as the state machines do it, with every call of AWS counted.

Functions, adapters and botocore are the real ones; what stands in for AWS answers in the process, and its time is not
counted. The data bucket is a folder and the register a file, so that memory stays flat.
"""

import json
import sqlite3
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from tests.bench.aws import Aws, Objects, Table, _weight
from tests.cloudformation import functions
from tests.country import SHARES, list_file, page_file, provider_of
from tests.executions import Execution, definition_of, snake
from tests.integration.conftest import ENVIRONMENT
from tests.integration.machines import handler_of
from tests.unit.export_world import MemoryFolder

from gjeldsbro.adapters import aws as clients
from gjeldsbro.adapters import receiver_client
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.institution_client import InstitutionClient
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.domain.dataset_index import KEY_SIZE
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.services.night.ports import FetchedPage
from gjeldsbro.services.ports import Institution, Provider, Receiver
from gjeldsbro_cost.night import Dataset

_TABLES = {ENVIRONMENT["REGISTER_TABLE"]: "register", ENVIRONMENT["PARTNER_TABLE"]: "partners"}
_BUCKETS = {ENVIRONMENT["DATA_BUCKET"]: "data", ENVIRONMENT["REPORT_BUCKET"]: "reports"}
_HEAD = 200
RECEIVERS = tuple(institution for _, institution in SHARES)
"""Each institution asks for a package about all its customers."""

_PUBLISHED = b"<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>"


@dataclass
class Tally:
    """What the calls of one function did."""

    invocations: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    """Requests as ``service.Operation/table or bucket``."""
    counts: Counter[str] = field(default_factory=Counter)
    """What ``tests.bench.aws`` counts besides: bytes, write and read units; and items of the register."""
    cpu: float = 0
    """Seconds of ours, without what stands in for AWS."""


class Counted(Aws):
    """AWS in this process, which says what each function asked of it, and how long it took itself."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(weigh=True, **parts)
        self.own_time = 0.0
        """CPU seconds that answering took."""
        self.tally = Tally()
        self._own_lock = Lock()

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """What is done within is no work of ours."""
        began = time.thread_time()
        try:
            yield
        finally:
            with self._own_lock:
                self.own_time += time.thread_time() - began

    def _send(self, request: AWSPreparedRequest, event_name: str, **more: Any) -> AWSResponse:
        with self.not_counted():
            _, service, operation = event_name.split(".")
            if service == "sns":
                answer = AWSResponse(request.url, 200, {}, BytesIO(_PUBLISHED))
                answer._content = _PUBLISHED
                name = f"{service}.{operation}"
            else:
                answer = super()._send(request, event_name, **more)
                name = f"{service}.{operation}{_target(service, request)}"
            with self._own_lock:
                self.tally.requests[name] += 1
        return answer

    def take(self) -> Counter[str]:
        """What was counted since the last time, but for requests."""
        found = Counter({name: number for name, number in self.counts.items() if "." not in name})
        self.counts.clear()
        return found


class Register(Table):
    """The RegisterTable as a file: it may hold millions of items."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._items = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._items.execute("PRAGMA journal_mode = OFF")
        self._items.execute("PRAGMA synchronous = OFF")
        self._items.execute("CREATE TABLE items (pk TEXT, sk TEXT, item BLOB, PRIMARY KEY (pk, sk)) WITHOUT ROWID")
        self._items.execute("BEGIN")

    def close(self) -> None:
        """Let go of the file."""
        self._items.close()

    def weigh(self) -> tuple[int, int]:
        """Bytes of all items as DynamoDB counts them, and of what pages' records hold of them."""
        items = records = 0
        for (stored,) in self._items.execute("SELECT item FROM items"):
            item = msgspec.json.decode(stored)
            items += _weight(item)
            records += KEY_SIZE + len(b64decode(item["loans"]["B"]))
        return items, records

    def answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """A customer's items; or the pushes of a provider, of which there are none."""
        assert operation == "Query", operation
        if "IndexName" in request:
            return {"Items": [], "Count": 0}
        key = request["ExpressionAttributeValues"][":pk"]["S"]
        found = self._items.execute("SELECT item FROM items WHERE pk = ?", (key,)).fetchall()
        return {"Items": [msgspec.json.decode(item) for (item,) in found], "Count": len(found)}

    def write(self, requests: Any) -> None:
        """The part of a BatchWriteItem that is this table's."""
        for one in requests:
            item = one["PutRequest"]["Item"] if "PutRequest" in one else one["DeleteRequest"]["Key"]
            place = (item["pk"]["S"], item["sk"]["S"])
            self.counts["put" if "PutRequest" in one else "deleted"] += 1
            if "PutRequest" in one:
                row = (*place, msgspec.json.encode(item))
                self._items.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", row)
            else:
                self._items.execute("DELETE FROM items WHERE pk = ? AND sk = ?", place)


class Folder(MemoryFolder):
    """A receiver's folder that takes and gives large pieces."""

    def read(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Some bytes of a file."""
        data = memoryview(self.content[name])[start : start + size]
        for at in range(0, len(data), 1 << 18):
            yield bytes(data[at : at + (1 << 18)])

    def write(self, name: str, start: int, pieces: Any) -> int:
        """Write from a byte on."""
        data = bytearray(self.content.get(name, b"")[:start] if start else b"")
        for piece in pieces:
            data += piece
        self.content[name] = bytes(data)
        return len(data)


class Rehearsal:
    """The flows over the pages and lists that ``tests.country`` wrote to ``data``. ``tallies`` are by function."""

    def __init__(self, data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._data = data
        self._night = 0
        self.register = Register(folder / "register.db")
        self.aws = Counted(
            tables={ENVIRONMENT["PARTNER_TABLE"]: Table(), ENVIRONMENT["REGISTER_TABLE"]: self.register},
            objects=Objects(folder / "objects"),
            secrets={
                ENVIRONMENT["HASH_KEY_SECRET"]: json.dumps({"version": "1", "key": "k" * 64}),
                ENVIRONMENT["CLIENT_CERTIFICATE_SECRET"]: "{}",
                "receiver": json.dumps({"password": "x"}),
            },
        )
        for name, value in {**ENVIRONMENT, "ALARM_TOPIC": "arn:aws:sns:eu-north-1:123456789012:alarms"}.items():
            monkeypatch.setenv(name, value)
        self.aws.install()
        self.folders: dict[str, Folder] = {}
        self.tallies: dict[str, Tally] = {}
        self.transitions = 0
        self._limits = {snake(name.removesuffix("Function")): of["Timeout"] for name, of in functions().items()}
        monkeypatch.setattr(InstitutionClient, "fetch_page", self._fetch_page)
        monkeypatch.setattr(receiver_client, "connect", self._connect)
        self._set_up()

    def _set_up(self) -> None:
        partners = self._partners()
        for _, name in SHARES:
            institution = Institution(name, "FI", providers=(Provider(provider_of(name), url=f"https://{name}.fi"),))
            partners.put_institution(institution)
            partners.put_receiver(Receiver(name, "FI", (name,), f"sftp://a@{name}.fi/x", ("ssh-rsa AA",), "receiver"))
            self.folders[name] = Folder()
            self.folders[name].content[f"{name}.txt"] = list_file(self._data, name).read_bytes()

    def night(self, run: str, data: int) -> dict[str, Tally]:
        """A night that fetches the pages of night number ``data``; what each function did."""
        self._night = data
        return self._run("nightly_fetch", run)

    def export(self, run: str) -> dict[str, Tally]:
        """An export; what each function did."""
        return self._run("quarterly_export", run)

    def outcomes(self, run: str) -> dict[str, dict[str, Any]]:
        """What became of each dataset or delivery."""
        return self._partners().outcomes(run)

    def datasets(self, run: str, page: int) -> list[Dataset]:
        """What a night found, as the cost model sees it; of a page ``page`` customers."""
        found = []
        outcomes = self.outcomes(run)
        for _, name in SHARES:
            outcome = outcomes[f"{name}#{provider_of(name)}"]
            stored, deleted = outcome["customers"], outcome["removed"]
            found.append(
                Dataset(
                    customers=self._customers(name),
                    stored=stored,
                    before=outcome["changed"] + outcome["unchanged"] + deleted,
                    put=outcome["added"] + outcome["changed"],  # written in full would be more than the model says
                    deleted=deleted,
                    page=page,
                )
            )
        return found

    def _customers(self, institution: str) -> int:
        """How many were delivered last."""
        pages = page_file(self._data, self._night, institution, 0).name.replace("00000", "*")
        return sum(file.read_bytes().count(b'"customerID"') for file in self._data.glob(pages))

    @staticmethod
    def _partners() -> Partners:
        return Partners(ENVIRONMENT["PARTNER_TABLE"], clients.dynamodb())

    def _run(self, machine: str, run: str) -> dict[str, Tally]:
        self.tallies = {}
        store = DataStore(ENVIRONMENT["DATA_BUCKET"], clients.s3())
        started = from_datetime(datetime.now(UTC))
        execution = Execution(definition_of(machine), run, self._invoke, store.get_json, started_at=started)
        execution.run()
        self.transitions = execution.entered.total()
        return self.tallies

    def _invoke(self, function: str, event: dict[str, Any]) -> Any:
        handler = handler_of(function)  # each call in a new process: nothing is cached
        self.aws.take()
        self.register.counts.clear()
        tally = self.aws.tally = self.tallies.setdefault(function, Tally())
        tally.invocations += 1
        own, cpu = self.aws.own_time, time.process_time()
        context = _Context(lambda: time.process_time() - cpu - (self.aws.own_time - own), self._limits[function])
        try:
            return handler(event, context)
        finally:
            tally.cpu += context.spent()
            tally.counts += self.aws.take() + self.register.counts
            self.aws.tally = Tally()

    def _fetch_page(self, provider: Provider, institution: str, page: int, seconds: float) -> FetchedPage:
        with self.aws.not_counted():
            pages = 1
            while page_file(self._data, self._night, institution, pages).exists():
                pages += 1
            body = page_file(self._data, self._night, institution, page).read_bytes()
        return FetchedPage(body, str(pages), len(body))

    def _connect(self, receiver: Receiver, secret: object) -> AbstractContextManager[Folder]:
        connection: AbstractContextManager[Folder] = self.folders[receiver.receiver].connect(receiver)
        return connection


@contextmanager
def rehearsal(data: Path, folder: Path) -> Iterator[Rehearsal]:
    """Empty stores, and everybody of ``data`` onboarded. ``folder`` is an empty one, to keep what is stored."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = Rehearsal(data, folder, monkeypatch)
        try:
            yield found
        finally:
            found.register.close()
            clients.forget_clients()


class _Context:
    """A Lambda context whose time is the processor time that the call has used."""

    aws_request_id = "00000000-0000-4000-8000-000000000000"

    def __init__(self, spent: Callable[[], float], limit: float) -> None:
        self.spent = spent
        self._limit = limit

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is ended."""
        return int((self._limit - self.spent()) * 1000)


def _target(service: str, request: AWSPreparedRequest) -> str:
    """Which table or bucket, as ``/name``."""
    if service == "dynamodb":
        body = request.body if isinstance(request.body, bytes) else str(request.body).encode()
        found = next(name for name in _TABLES if f'"{name}"'.encode() in body[:_HEAD] or f'"{name}"'.encode() in body)
        return f"/{_TABLES[found]}"
    if service == "s3":
        return f"/{next(short for name, short in _BUCKETS.items() if name in request.url)}"
    return ""
