"""What the deployed stack says was asked of it: its audit log (CloudTrail), and the logs of its functions."""

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gjeldsbro_local.stack import LocalStack

_OURS = "test"
"""The access key of whoever is not a function: operators and tests."""
_AT_ONCE = 50


class Audit:
    """What happened while it was ``recorded``.

    ``requests`` of functions are named ``service.Operation``, or what the log has instead; ``calls`` are by function.
    """

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self.requests: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    @contextmanager
    def recorded(self, *functions: str) -> Iterator[None]:
        """Record what is asked of the stack, and how often these functions are called (by logical id)."""
        began = int(time.time() * 1000)
        self._switch(on=True)
        try:
            yield
        finally:
            self._switch(on=False)
        self.requests = Counter(_name(event) for event in self._events() if event["Username"] != _OURS)
        resources = self._stack.resources()
        self.calls = Counter({name: self._starts(resources[f"{name}LogGroup"], began) for name in functions})

    def _starts(self, group: str, since: int) -> int:
        pages = self._stack.client("logs").get_paginator("filter_log_events")
        found = pages.paginate(logGroupName=group, startTime=since)
        return sum(event["message"].startswith("START ") for page in found for event in page["events"])

    def _switch(self, *, on: bool) -> None:
        body = json.dumps({"cloudtrail._recording_enabled": on}).encode()
        request = urllib.request.Request(f"{self._stack.endpoint_url}/_ministack/config", body, method="POST")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            assert json.loads(answer.read())["applied"]

    def _events(self) -> list[dict[str, Any]]:
        """All that was recorded; a lookup gives the newest ones before a moment, and never more than some."""
        trail, found, until = self._stack.client("cloudtrail"), {}, None
        while True:
            asked = {} if until is None else {"EndTime": until}
            events = trail.lookup_events(MaxResults=_AT_ONCE, **asked)["Events"]
            new = {event["EventId"]: event for event in events if event["EventId"] not in found}
            if not new:
                return list(found.values())
            found |= new
            until = events[-1]["EventTime"]


def _name(event: dict[str, Any]) -> str:
    service = json.loads(event["CloudTrailEvent"])["eventSource"].partition(".")[0]
    return f"{service}.{event['EventName']}"
