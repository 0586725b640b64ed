"""Every request passes here: identity, front door, and only then the route; every answer leaves in SPEC's model.

A table of routes of our own instead of Powertools' resolver: a handful of fixed paths need no more, the checks in front
cannot be left out of a route, and a cold start imports 0.15 s less.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID, uuid4

from gjeldsbro.api.errors import UnknownMethodError, UnknownPathError, error_answer
from gjeldsbro.api.identity import caller_of
from gjeldsbro.api.operations import Operation
from gjeldsbro.api.requests import Request, receipt
from gjeldsbro.domain.callers import Caller
from gjeldsbro.log import LambdaContext, known_error, logger

Route = Callable[[Request], dict[str, Any] | None]
"""Answers a request with the body of a 200, or None for 204; refuses by raising an error of ours."""


class Door(Protocol):
    """What every caller passes before any route (``services.front_door``)."""

    def admit(self, caller: Caller, now: datetime) -> None:
        """Return when the caller may go on; raise an error of ours when not."""
        ...


class Described(NamedTuple):
    """A route with its description."""

    method: str
    path: str
    route: Route
    operation: Operation | None


def _now() -> datetime:
    return datetime.now(UTC)


class Api:
    """The routes of one function, behind one door: there are none without it.

    ``door`` is asked for at each request, because the environment that it is built from is read at the first one.
    """

    def __init__(self, *, door: Callable[[], Door], now: Callable[[], datetime] = _now) -> None:
        self._door = door
        self._now = now
        self._routes: dict[str, dict[str, Described]] = {}

    @property
    def routes(self) -> list[tuple[str, str]]:
        """(method, path) of every route."""
        return [(described.method, described.path) for described in self.described]

    @property
    def described(self) -> list[Described]:
        """Every route with its description."""
        return [described for methods in self._routes.values() for described in methods.values()]

    def get(self, path: str, operation: Operation | None = None) -> Callable[[Route], Route]:
        """Decorate the function that answers GET at ``path``."""
        return self._register("GET", path, operation)

    def post(self, path: str, operation: Operation | None = None) -> Callable[[Route], Route]:
        """Decorate the function that answers POST at ``path``."""
        return self._register("POST", path, operation)

    def _register(self, method: str, path: str, operation: Operation | None) -> Callable[[Route], Route]:
        def register(route: Route) -> Route:
            self._routes.setdefault(path, {})[method] = Described(method, path, route, operation)
            return route

        return register

    def handle(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Answer an API Gateway request (REST API, proxy event). Raises nothing."""
        received, uuid = self._now(), _message_uuid(context)
        logger.append_keys(uuid=uuid)
        try:
            caller = caller_of(event, received)
            logger.append_keys(caller=caller.organisation)
            self._door().admit(caller, received)
            route = self._route(event)
            body = route(Request(event, caller, received, uuid))
            return _nothing() if body is None else _answer(200, body, {})
        except Exception as exc:  # noqa: BLE001 - the edge: whatever it is, the caller gets SPEC's error model
            answer = error_answer(known_error(exc))
            model = {"errorMessage": answer.message, **receipt(received, uuid)}
            return _answer(answer.status, model, answer.headers)
        finally:
            logger.remove_keys(["uuid", "caller"])

    def _route(self, event: dict[str, Any]) -> Route:
        # The resource is the template's own path, whatever base path the domain puts before it.
        methods = self._routes.get(event.get("resource") or "") or self._routes.get(event.get("path") or "")
        if methods is None:
            raise UnknownPathError("there is nothing at this path")
        described = methods.get(event.get("httpMethod") or "")
        if described is None:
            raise UnknownMethodError(sorted(methods))
        return described.route


def _message_uuid(context: LambdaContext) -> str:
    """The invocation's own id, so that the answer can be found in the log; a fresh one where that is no UUID."""
    try:
        return str(UUID(context.aws_request_id))
    except ValueError:
        return str(uuid4())


def _answer(status: int, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json", "Cache-Control": "no-store", **headers},
        "body": json.dumps(body, ensure_ascii=False),
        "isBase64Encoded": False,
    }


def _nothing() -> dict[str, Any]:
    """204: a body, and so a type of one, is not allowed in it."""
    return {"statusCode": 204, "headers": {"Cache-Control": "no-store"}, "body": "", "isBase64Encoded": False}
