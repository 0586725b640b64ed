"""The ASGI application: SPEC 3.1.2's endpoints, and ``/admin`` to steer them.

Institutions answer at ``/debt-information/v1/...``; where two providers deliver for one institution, each has
``/{providerID}/debt-information/v1/...`` too.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from gjeldsbro_population.writers import page as make_page
from gjeldsbro_simulator import bodies
from gjeldsbro_simulator.admin import administer
from gjeldsbro_simulator.answers import Answer, Request, SpecError
from gjeldsbro_simulator.config import ServedDataset
from gjeldsbro_simulator.faults import Fault
from gjeldsbro_simulator.world import ServedRequest, World

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SERVICE = ("debt-information", "v1")
_MAX_CACHED_PAGES = 32
_CONTENT_FREE = {"status", "redirect", "html", "html-as-json", "gzip-bomb", "oversized"}


class ConnectionCut(Exception):  # noqa: N818 - not an error: how a server that dies in the middle looks
    """Raised into the server to make it close the connection."""


class InstitutionApp:
    """Serves the world's datasets; ``admin`` opens ``/admin``."""

    def __init__(self, world: World, *, admin: bool = True) -> None:
        self.world = world
        self._admin = admin
        self._cache: dict[tuple[str, str, int], bytes] = {}
        self._cache_version = -1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http":
            return
        request = await _read(scope, receive)
        try:
            answer = await self._answer(request)
        except SpecError as error:
            answer = error.answer()
        shown = {name: value for name, value in request.headers.items() if name != "customerid"}
        self.world.remember(ServedRequest(request.method, request.path, request.query, shown, answer.status))
        await _send(answer, receive, send)

    async def _answer(self, request: Request) -> Answer:
        segments = request.path.strip("/").split("/")
        if segments[0] == "admin" and self._admin:
            return await asyncio.to_thread(administer, self.world, segments[1:], request)
        provider = None
        if tuple(segments[1:3]) == SERVICE:
            provider, *segments = segments
        if tuple(segments[:2]) != SERVICE:
            raise SpecError(404, "Unknown path")
        if request.method != "GET":
            raise SpecError(405, "Only GET is supported here")
        match segments[2:]:
            case ["loans", institution]:
                return await self._page(request, self._dataset(institution, provider))
            case ["loans", institution, "customer"]:
                return await self._customer(request, self._dataset(institution, provider))
            case ["ssn", institution]:
                return await self._ssn(self._dataset(institution, provider))
        raise SpecError(404, "Unknown path")

    def _dataset(self, institution: str, provider: str | None) -> ServedDataset:
        dataset = self.world.dataset(institution, provider)
        if dataset is None:
            raise SpecError(403, "Not allowed to access this institution")
        return dataset

    async def _page(self, request: Request, dataset: ServedDataset) -> Answer:
        text = parse_qs(request.query).get("page", ["0"])[-1]
        if not text.isascii() or not text.isdigit():
            raise SpecError(400, "page is not a whole number")
        page = int(text)
        fault = self.world.take_fault(dataset, page)
        if fault is not None and fault.kind in _CONTENT_FREE:
            return _instead(fault)
        source = self.world.source
        body = await self._body(dataset, page, fault)
        answer = _encoded(body, dataset, fault)
        if dataset.page_size is not None and dataset.announce_pages:
            count = await asyncio.to_thread(bodies.number_of_pages, source, dataset, fault)
            if fault is not None and fault.kind == "page-count":
                count += 1 + page
            answer.headers.append((b"numberofpages", str(count).encode()))
        return answer

    async def _body(self, dataset: ServedDataset, page: int, fault: Fault | None) -> bytes:
        """The page's body, kept for the next request while nothing changes: real institutions send prepared files."""
        version, source = self.world.version, self.world.source
        if version != self._cache_version:
            self._cache.clear()
            self._cache_version = version
        key = (dataset.institution, dataset.provider, page)
        if fault is None and key in self._cache:
            return self._cache[key]
        body = await asyncio.to_thread(bodies.page_body, source, dataset, page, fault)
        if fault is None:
            while len(self._cache) >= _MAX_CACHED_PAGES:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = body
        return body

    async def _customer(self, request: Request, dataset: ServedDataset) -> Answer:
        customer_id = request.headers.get("customerid", "")
        if len(customer_id) != 11 or not customer_id.isascii() or not customer_id.isdigit():
            raise SpecError(400, "customerID is not 11 digits")
        fault = self.world.take_fault(dataset, None)
        if fault is not None and fault.kind in _CONTENT_FREE:
            return _instead(fault)
        document = await asyncio.to_thread(bodies.single_customer, self.world.source, dataset, customer_id)
        if "customers" in document:
            body = make_page(dataset.provider, document["customers"], dataset.numbers)
        else:
            body = json.dumps(
                json.loads(make_page(dataset.provider, [document], dataset.numbers))["customers"][0]
            ).encode()
        return _encoded(body, dataset, fault)

    async def _ssn(self, dataset: ServedDataset) -> Answer:
        fault = self.world.take_fault(dataset, None)
        if fault is not None and fault.kind in _CONTENT_FREE:
            return _instead(fault)
        customers = await asyncio.to_thread(
            lambda: list(self.world.source.customers(dataset.institution, dataset.provider))
        )
        stamps = [loan["timestamp"] for customer in customers for loan in customer["loans"]]
        document = {
            "providerID": dataset.provider,
            # SPEC appendix E: without the prefix of a foreign institution, unlike in the datasets
            "financialInstitutionID": dataset.institution.rpartition(":")[2],
            "timestamp": min(stamps, default=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")),
            "customers": [customer["customerID"] for customer in customers],
        }
        return _encoded(json.dumps(document).encode(), dataset, fault)


def _instead(fault: Fault) -> Answer:
    """The answer of a server that does not even get to its data."""
    if fault.kind == "status":
        answer = SpecError(fault.status, "Simulated failure").answer()
        if fault.status == 429:
            answer.headers.append((b"retry-after", b"1"))
        return answer
    if fault.kind == "redirect":
        return Answer(302, b"", [(b"location", b"http://127.0.0.1:1/")], "text/plain")
    if fault.kind == "html":
        return Answer(200, bodies.HTML, [], "text/html; charset=utf-8")
    if fault.kind == "html-as-json":
        return Answer(200, bodies.HTML)
    if fault.kind == "oversized":
        return Answer(200, bodies.oversized(fault.megabytes))
    return Answer(200, bodies.gzip_bomb(fault.megabytes), [(b"content-encoding", b"gzip")])


def _encoded(body: bytes, dataset: ServedDataset, fault: Fault | None) -> Answer:
    """The body as this dataset's server sends it."""
    content_type = "application/json"
    kind = fault.kind if fault is not None else ""
    if kind == "truncated-json":
        body = body[: len(body) // 2]
    elif kind == "invalid-json":
        body = body[:-1] + b",}"
    elif kind in {"wrong-charset", "undeclared-charset"}:
        body = body.decode().encode("iso-8859-1", errors="replace")
        content_type = "application/json" + ("; charset=iso-8859-1" if kind == "wrong-charset" else "")
    packed, headers = bodies.compress(body, dataset.compression)
    answer = Answer(200, packed, headers, content_type)
    if fault is not None:
        answer.delay = fault.seconds if kind == "slow" else 0.0
        answer.seconds_a_byte = fault.seconds if kind == "byte-a-second" else 0.0
        answer.cut = kind == "cut"
    return answer


async def _read(scope: Scope, receive: Receive) -> Request:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), headers, body)


async def _send(answer: Answer, receive: Receive, send: Send) -> None:
    if answer.delay and await _left_within(answer.delay, receive):
        return
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.cut:
        await send(_part(answer.body[: len(answer.body) // 2]))
        raise ConnectionCut
    if answer.seconds_a_byte:
        for offset in range(len(answer.body)):
            await send(_part(answer.body[offset : offset + 1]))
            if await _left_within(answer.seconds_a_byte, receive):
                return
    await send({"type": "http.response.body", "body": b"" if answer.seconds_a_byte else answer.body})


def _part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _left_within(seconds: float, receive: Receive) -> bool:
    """Wait; True as soon as the client has gone."""
    try:
        async with asyncio.timeout(seconds):
            await receive()
    except TimeoutError:
        return False
    return True
