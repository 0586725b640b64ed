"""A push by the function's handler in this process, beside the writes alone that it makes; AWS answers at once.

Of each push the processor's time is taken: nothing waits, and so it is not that of whatever else the machine does.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from functions.receive_push import receive_push
from tests.bench.aws import Aws, Sink, Table
from tests.bench.measure import Counts, Row, Work, count

from gjeldsbro.adapters import aws as clients
from gjeldsbro.adapters.partner_cache import push_partners
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import Register
from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.dataset_page import read_push
from gjeldsbro.domain.register import PushItem
from gjeldsbro.services.ports import Institution, Provider

PUSHES = 1000
_ROOT = Path(__file__).parents[2]
_BANK = "920013015"
_SECRET = "k" * 64
_ENVIRONMENT = {
    "REGISTER_TABLE": "register",
    "PARTNER_TABLE": "partners",
    "HASH_KEY_SECRET": "hash-key",
    "IDENTITY_NUMBERS": "synthetic",
    "REQUESTS_PER_CALLER": "1000000000",
    "REVOCATION_GRACE_DAYS": "3",
    "POWERTOOLS_LOG_LEVEL": "INFO",
}

_LITTLE = count("overhead under 1 ms at p50", lambda ours, other: ours["p50 ms"] - other["p50 ms"] < 1)
ROWS = (
    Row("push, one customer, one after the other", "pushes.in_a_row", "its writes alone", "pushes.writes", (_LITTLE,)),
    Row("the same, by a process that has not had one lately", "pushes.alone", "its writes alone", "pushes.writes"),
)


def write_data(folder: Path) -> None:
    """The sample event is all that is needed."""


def in_a_row(folder: Path) -> Work:
    """Pushes that follow within a moment."""
    push, aws = _push()
    return lambda: _timed(push, aws, lambda: None)


def alone(folder: Path) -> Work:
    """Pushes that find nothing kept of the one before, but the hash key and that the certificate is not revoked."""
    push, aws = _push()
    return lambda: _timed(push, aws, push_partners.cache_clear)


def writes(folder: Path) -> Work:
    """The same loans put by the same client under the same condition."""
    aws = _account()
    body = _event()["body"].encode()
    message = read_push(body, accepts="synthetic", now=datetime.now(UTC))
    key = HashKey("1", _SECRET.encode())
    register = Register("register", clients.dynamodb(), HashKeys.of(key))
    items = [
        (customer.customer_id, PushItem(customer.financial_institution_id, message.provider, loan))
        for customer in message.customers
        for loan in customer.loans
    ]

    def put() -> None:
        assert register.put_pushes(items, key) == len(items)

    return lambda: _timed(put, aws, lambda: None)


def _event() -> dict[str, Any]:
    """The sample push with the first of its loans: most pushes tell of one."""
    event: dict[str, Any] = json.loads((_ROOT / "events" / "receive_push.json").read_text(encoding="utf-8"))
    body = json.loads(event["body"])
    (customer,) = body["customers"]
    customer["loans"] = customer["loans"][:1]
    return {**event, "body": json.dumps(body)}


def _account() -> Aws:
    os.environ.update(_ENVIRONMENT)
    secret = json.dumps({"version": "1", "key": _SECRET})
    aws = Aws({"partners": Table(), "register": Sink()}, secrets={"hash-key": secret})
    aws.install()
    provider = Provider(f"9908:{_BANK}", url="https://bank.example.no")
    Partners("partners", clients.dynamodb()).put_institution(Institution(_BANK, "Bank", providers=(provider,)))
    return aws


def _push() -> tuple[Callable[[], None], Aws]:
    aws, event = _account(), _event()

    def push() -> None:
        context: Any = SimpleNamespace(aws_request_id=str(uuid4()), get_remaining_time_in_millis=lambda: 29_000)
        assert receive_push.lambda_handler(event, context)["statusCode"] == 200

    return push, aws


def _timed(work: Callable[[], None], aws: Aws, before_each: Callable[[], None]) -> Counts:
    for _ in range(20):
        work()
    aws.counts.clear()
    seconds = []
    for _ in range(PUSHES):
        before_each()
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    calls = sum(number for name, number in aws.counts.items() if name.startswith("dynamodb."))
    return Counts({"p50 ms": statistics.median(seconds) * 1000, "calls each": calls / PUSHES})
