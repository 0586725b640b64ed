"""``gjeldsbro revocation``."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from gjeldsbro.domain.timestamps import from_datetime, shorten
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.ports import RevocationList
from gjeldsbro_operator.files import read_revocation
from gjeldsbro_operator.output import Result, Shown, moment
from gjeldsbro_operator.stack import Stack

_ID_DIGITS = 12
"""Digits of an issuer that are shown; any start that only one issuer has will do."""

_FUNCTION = "RefreshRevocationsFunctionName"
_COLUMNS = ("Id", "Name", "Issuer and address", "Revoked", "From and until", "State", "Problem")


def put(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Have an issuer's certificates checked, or change where its list is. Nothing changes when the list is no good."""
    described = read_revocation(arguments.file)
    short = described.issuer[:_ID_DIGITS]
    stack.record("revocation put", f"revocation list {short}", arguments.reason)
    new = {"name": described.name, "url": described.url, "certificate": described.certificate}
    (told,) = stack.invoke(_FUNCTION, {"put": new})["lists"]
    lines = [
        f"{short} {described.name}: in force until {moment(told['nextUpdate'])}, revoked certificates: "
        f"{told['revoked']}. It counts within five minutes."
    ]
    return Result({**told, "url": described.url}, lines=lines)


def show_all(stack: Stack, _: argparse.Namespace) -> Result:
    """List whose certificates are checked, and how fresh each list is."""
    now, grace = datetime.now(UTC), timedelta(days=float(stack.parameter("RevocationGraceDays") or 0))
    lists = stack.revocations.lists()
    rows = [
        (
            found.issuer[:_ID_DIGITS],
            found.name,
            [_issuer_name(found), found.url],
            found.count,
            [moment(_text(found.this_update)), moment(_text(found.next_update))],
            _state(found, now, grace),
            found.problem,
        )
        for found in lists
    ]
    return Result(
        {"lists": [_value(found, now, grace) for found in lists]},
        [Shown("Revocation lists", _COLUMNS, rows)],
        [
            "Certificates of other issuers are not checked for revocation. Whether there are any, the API's logs say: "
            "REVOCATION_NOT_CHECKED, with the issuer's id."
        ],
    )


def remove(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Stop checking an issuer's certificates."""
    found = _find(stack, arguments.id)
    stack.record("revocation remove", f"revocation list {found.issuer[:_ID_DIGITS]}", arguments.reason)
    stack.revocations.remove(found.issuer)
    return Result(
        {"issuer": found.issuer, "state": "removed"},
        lines=[
            f"{found.issuer[:_ID_DIGITS]} {found.name}: removed. Its certificates are not checked from five minutes on."
        ],
    )


def refresh(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Fetch all lists now, or one."""
    chosen = stack.revocations.lists() if arguments.id is None else [_find(stack, arguments.id)]
    if not chosen:
        raise ConfigurationError("no revocation list is configured")
    subject = "all revocation lists" if arguments.id is None else f"revocation list {chosen[0].issuer[:_ID_DIGITS]}"
    stack.record("revocation refresh", subject, arguments.reason)
    told = stack.invoke(_FUNCTION, {} if arguments.id is None else {"issuers": [chosen[0].issuer]})
    lists = told["lists"]
    rows = [
        (
            one["issuer"][:_ID_DIGITS],
            one["name"],
            one["status"],
            one["revoked"],
            moment(one["nextUpdate"]),
            one["problem"],
        )
        for one in lists
    ]
    left = len(chosen) - len(lists)
    return Result(
        told,
        [Shown("", ("Id", "Name", "Status", "Revoked", "Until", "Problem"), rows)],
        [f"The time was not enough for {left} more: refresh again."] if left > 0 else [],
        ok=left <= 0 and all(one["status"] != "failed" for one in lists),
    )


def _find(stack: Stack, start: str) -> RevocationList:
    found = [one for one in stack.revocations.lists() if one.issuer.startswith(start.lower())]
    if not start or not found:
        raise ConfigurationError(f"there is no revocation list {start}")
    if len(found) > 1:
        raise ConfigurationError(f"{start} is the start of {len(found)} lists' ids: give more of it")
    return found[0]


def _state(found: RevocationList, now: datetime, grace: timedelta) -> str:
    if found.next_update is None:
        return "not read yet"
    if now <= found.next_update:
        return "in force"
    closes = found.next_update + grace
    return f"ended, in use until {moment(_text(closes))}" if now <= closes else "too old: callers are answered 503"


def _value(found: RevocationList, now: datetime, grace: timedelta) -> dict[str, Any]:
    return {
        "issuer": found.issuer,
        "name": found.name,
        "issuerName": _issuer_name(found),
        "url": found.url,
        "revoked": found.count,
        "thisUpdate": _text(found.this_update),
        "nextUpdate": _text(found.next_update),
        "usedUntil": _text(None if found.next_update is None else found.next_update + grace),
        "readAt": _text(found.read_at),
        "checkedAt": _text(found.checked_at),
        "problem": found.problem,
        "state": _state(found, now, grace),
    }


def _issuer_name(found: RevocationList) -> str:
    return x509.load_pem_x509_certificate(found.certificate.encode()).subject.rfc4514_string()


def _text(when: datetime | None) -> str | None:
    return None if when is None else shorten(from_datetime(when))
