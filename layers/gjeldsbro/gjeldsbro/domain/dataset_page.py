"""Reading a page of a dataset, up to 100 MB and more, where time and memory count; and a push, where a cold start does.

The page is split into the text of its customers without looking inside them; these are read together, many at a time
(``customer_texts``). Whatever does not come through cleanly is read again by ``messages``, which has the last word and
names the places. So the quick way may refuse too much, never too little.

``messages`` is imported at the first fault: its models take pydantic, and with it a good part of a cold start (decision
record 0020).
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import batched
from typing import NamedTuple, NoReturn

import msgspec

from gjeldsbro.domain import fields, strict_json
from gjeldsbro.domain.customer_texts import CustomerTexts, has_escaped_colons
from gjeldsbro.domain.fields import Circumstances
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.domain.loans import CustomerLoans, Message
from gjeldsbro.domain.rules import Rule
from gjeldsbro.domain.violations import MAX_VIOLATIONS, Violations
from gjeldsbro.errors import InvalidMessageError, Violation

_TOGETHER = 128
"""Customers that are read together: enough for a call to cost little, few enough for a processor's cache."""


class PageResult[Kept](NamedTuple):
    """What a page says. With violations (the first of them, and their total) nothing of it is kept."""

    kept: list[Kept]
    violations: list[Violation]
    total_violations: int


class _Page(msgspec.Struct, rename=fields.spec_name):
    provider_id: str
    customers: list[msgspec.Raw]


_READ = msgspec.Raw()
_PAGE = msgspec.json.Decoder(_Page)
_OUTSIDE, _NAME_MORE = b'{"providerID":"","customers":[]}', b',"customers":[]'
"""The shortest text around customers, and the shortest that could be added to say something twice."""

_PAGE_NAMES = tuple(fields.spec_name(name) for name in _Page.__struct_fields__)


def read_page[Kept](
    body: bytes,
    *,
    institution: str,
    provider: str,
    accepts: Accepts,
    now: datetime,
    keep: Callable[[Sequence[CustomerLoans]], Iterable[Kept]],
    limit: int = MAX_VIOLATIONS,
) -> PageResult[Kept]:
    """Read one page of the dataset that ``provider`` delivers for ``institution`` (SPEC 3.1.2 and 4.2).

    ``keep`` is given the customers in the page's order, some at a time, and turns them into what is kept, so that a
    page's customers are never all in memory. A page without customers is valid: institutions hand over to each other
    that way. ``now`` is aware. The first ``limit`` faults are listed; a page whose outside is broken says only that.
    """
    try:
        page = _open_page(body)
    except InvalidMessageError as exc:
        return PageResult([], list(exc.violations[:limit]), exc.total)
    violations = Violations(limit)
    if page.provider_id != provider:
        violations.add(Violation("/providerID", Rule.OTHER_PROVIDER))
    reader = _PageReader(body, institution, Circumstances.at(now, accepts), violations)
    kept: list[Kept] = []
    for start in range(0, len(page.customers), _TOGETHER):
        texts = page.customers[start : start + _TOGETHER]
        page.customers[start : start + _TOGETHER] = [_READ] * len(texts)  # lets go of them
        customers = reader.read(texts, start)
        if not violations:
            kept += keep(customers)
    return PageResult([] if violations else kept, violations.first, violations.total)


class _PageReader:
    """Reads the customers of one page, and notes what is wrong with them."""

    def __init__(self, body: bytes, institution: str, circumstances: Circumstances, violations: Violations) -> None:
        self._institution = institution
        self._circumstances = circumstances
        self._violations = violations
        self._texts = CustomerTexts(circumstances, body)
        self._seen: set[str] = set()

    def read(self, texts: Sequence[msgspec.Raw], start: int) -> list[CustomerLoans]:
        """The customers in order of the page's ``texts`` from place ``start`` on, without those that are wrong.

        Texts that are not all in order are halved, until what is wrong or out of the ordinary stands alone.
        """
        customers = self._texts.read(texts)
        if customers is not None and self._are_new(customers):
            return customers
        if len(texts) > 1:
            middle = len(texts) // 2
            return self.read(texts[:middle], start) + self.read(texts[middle:], start + middle)
        try:
            return [self._read_strictly(texts[0], f"/customers/{start}")]
        except InvalidMessageError as exc:
            self._violations.take(exc)
            return []

    def _are_new(self, customers: Sequence[CustomerLoans]) -> bool:
        """Whether all are the institution's, and come for the first time; notes them if so."""
        numbers = {customer.customer_id for customer in customers}
        if len(numbers) < len(customers) or not self._seen.isdisjoint(numbers):
            return False
        if any(customer.financial_institution_id != self._institution for customer in customers):
            return False
        self._seen |= numbers
        return True

    def _read_strictly(self, text: msgspec.Raw, place: str) -> CustomerLoans:
        """The customer that lies at ``place``; raises InvalidMessageError with all its faults."""
        from gjeldsbro.domain.messages import read_customer  # noqa: PLC0415 - see above

        customer = read_customer(strict_json.parse(bytes(text), place), place, self._circumstances)
        if customer.financial_institution_id != self._institution:
            raise InvalidMessageError([Violation(f"{place}/financialInstitutionID", Rule.OTHER_INSTITUTION)])
        if customer.customer_id in self._seen:
            raise InvalidMessageError([Violation(place, Rule.CUSTOMER_TWICE)])
        self._seen.add(customer.customer_id)
        return customer


def read_push(body: bytes, *, accepts: Accepts, now: datetime) -> Message:
    """Read a message of SPEC 4.2 that was pushed. ``now`` is aware; raises InvalidMessageError as ``messages`` does."""
    message = _read_push_quickly(body, Circumstances.at(now, accepts))
    if message is None:
        from gjeldsbro.domain.messages import parse_organization  # noqa: PLC0415 - see above

        message = parse_organization(body, accepts=accepts, now=now)
    return message


def _read_push_quickly(body: bytes, circumstances: Circumstances) -> Message | None:
    """The message, or None where anything about it is wrong or out of the ordinary."""
    try:
        page = _PAGE.decode(body)
        provider = fields.provider(page.provider_id)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    colons = sum(bytes(raw).count(b":") for raw in page.customers) + provider.count(":") + len(_PAGE_NAMES)
    if body.count(b":") != colons or has_escaped_colons(body):  # see customer_texts
        return None
    customers = CustomerTexts(circumstances, body).read(page.customers)
    if not customers:
        return None
    different = {(customer.customer_id, customer.financial_institution_id) for customer in customers}
    return Message(provider, tuple(customers)) if len(different) == len(customers) else None


def _open_page(body: bytes) -> _Page:
    """The page with its customers as text; raises InvalidMessageError."""
    try:
        page = _PAGE.decode(body)
    except msgspec.ValidationError:
        _explain(body)
    except RecursionError:
        raise InvalidMessageError([Violation("", Rule.JSON_DEPTH)]) from None
    except UnicodeDecodeError:
        raise InvalidMessageError([Violation("", Rule.UTF_8)]) from None
    except msgspec.DecodeError:
        rule = Rule.UTF_8 if body.startswith(strict_json.BYTE_ORDER_MARKS) else Rule.JSON
        raise InvalidMessageError([Violation("", rule)]) from None
    if _has_name_twice(body, page):
        raise InvalidMessageError([Violation("", Rule.JSON_NAMES)])
    return page


def _has_name_twice(body: bytes, page: _Page) -> bool:
    """Whether one of the page's own names occurs twice."""
    inside = sum(len(b",".join(texts)) + 1 for texts in batched(page.customers, _TOGETHER, strict=False)) - 1
    if len(body) - inside < len(_OUTSIDE) + len(page.provider_id) + len(_NAME_MORE):
        return False  # there is no room for one; looking would take longer than splitting the page did
    for name in _PAGE_NAMES:
        quoted = b'"%b"' % name.encode()
        found = body.count(quoted)
        # The name may occur inside customers too. Only when there is more than one is it worth looking.
        if found > 1 and found - sum(bytes(raw).count(quoted) for raw in page.customers) > 1:
            return True
    return False


def _explain(body: bytes) -> NoReturn:
    """Raise InvalidMessageError for a page that is JSON, but not an object with the names and types of SPEC 4.2.1."""
    try:
        outside = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise InvalidMessageError([Violation("", Rule.OBJECT)]) from None
    data: dict[str, object] = {}
    for name in _PAGE_NAMES:
        if name in outside:
            # Customers are not looked at here: an empty array stands for any array.
            is_array = bytes(memoryview(outside[name])[:1]) == b"["
            data[name] = [] if is_array else strict_json.parse(bytes(outside[name]), f"/{name}")
    from gjeldsbro.domain.messages import read_envelope  # noqa: PLC0415 - see above

    read_envelope(data)
    # Each name's last value is right, so there was another one before it.
    raise InvalidMessageError([Violation("", Rule.JSON_NAMES)])
