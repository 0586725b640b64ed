"""``gjeldsbro lender`` and ``gjeldsbro lookups``."""

import argparse
import sys
from typing import Any

from gjeldsbro.domain.identity_numbers import is_customer_id, organisation_identifiers
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.ports import Lender
from gjeldsbro_operator.files import read_lender
from gjeldsbro_operator.output import Result, Shown, moment
from gjeldsbro_operator.stack import Stack

_COLUMNS = ("At", "Who", "On behalf of", "Reference", "Purpose", "As", "Creditors")


def put(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Register a lender, or change it."""
    lender = read_lender(arguments.file)
    known = {one.lender: one for one in stack.partners.lenders()}
    before = known.pop(lender.lender, None)
    _refuse_a_shared_certificate(lender, list(known.values()))
    state = "unchanged" if lender == before else "created" if before is None else "changed"
    if state != "unchanged":
        stack.record("lender put", f"lender {lender.lender}", arguments.reason)
        stack.partners.put_lender(lender)
    return Result(
        {**_value(lender), "state": state},
        lines=[f"{lender.lender} {lender.name}: {state}. May look people up for: {', '.join(lender.purposes)}"],
    )


def _refuse_a_shared_certificate(lender: Lender, others: list[Lender]) -> None:
    """A certificate that is two lenders' would leave it open who asked."""
    for other in others:
        if any(other.is_named_by(name) for name in _names(lender)):
            raise ConfigurationError(
                f"the certificate of {lender.lender} would be that of the lender {other.lender} too"
            )


def _names(lender: Lender) -> list[str]:
    return sorted({*lender.certificates, *organisation_identifiers(lender.lender)})


def show_all(stack: Stack, _: argparse.Namespace) -> Result:
    """List the lenders."""
    lenders = stack.partners.lenders()
    columns = ("Lender", "Name", "On behalf of", "Purposes", "Certificates name")
    rows = [(one.lender, one.name, one.on_behalf_of, one.purposes, _names(one)) for one in lenders]
    return Result({"lenders": [_value(lender) for lender in lenders]}, [Shown("Lenders", columns, rows)])


def remove(stack: Stack, arguments: argparse.Namespace) -> Result:
    """End a lender: no more lookups. The record of those that it made stays."""
    lender = next((one for one in stack.partners.lenders() if one.lender == arguments.id), None)
    if lender is None:
        raise ConfigurationError(f"there is no lender {arguments.id}")
    stack.record("lender remove", f"lender {arguments.id}", arguments.reason)
    stack.partners.remove_lender(arguments.id)
    return Result(
        {"lender": arguments.id, "state": "removed"},
        lines=[f"{arguments.id} {lender.name}: removed. It may look nobody up from half a minute from now on."],
    )


def _value(lender: Lender) -> dict[str, Any]:
    return {
        "lender": lender.lender,
        "name": lender.name,
        "onBehalfOf": list(lender.on_behalf_of),
        "purposes": list(lender.purposes),
        "certificates": list(lender.certificates),
    }


def lookups(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Who looked a person up. The function leaves the trail, so that nobody can look without one."""
    number = sys.stdin.readline().strip() if arguments.number == "-" else arguments.number
    if not is_customer_id(number, "format"):
        raise ConfigurationError("an identity number has 11 digits")
    payload = {"customerID": number, "operator": stack.operator, "reason": arguments.reason}
    shown = stack.invoke("ShowLookupsFunctionName", payload)
    rows = [
        (
            moment(record["at"]),
            _named(record["lender"], record.get("lenderName")),
            record["onBehalfOf"],
            record["referenceID"],
            record["purpose"],
            record["role"],
            [_creditor(creditor) for creditor in record["creditors"]],
        )
        for record in shown["lookups"]
    ]
    count = len(rows)
    lines = [f"{count} lookup{'' if count == 1 else 's'}. A record of yours was kept."]
    return Result(shown, [Shown("Lookups, the newest first", _COLUMNS, rows)] if rows else [], lines)


def _named(identifier: str, name: str | None) -> str:
    return f"{identifier} {name or ''}".rstrip()


def _creditor(creditor: dict[str, Any]) -> str:
    said = {"institution": "answered", "register": "from the register", "none": "unknown"}[creditor["source"]]
    if not creditor["answered"]:
        said = f"did not answer, {said}"
    return f"{_named(creditor['institution'], creditor.get('name'))}: {said}"
