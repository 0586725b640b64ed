"""``gjeldsbro show-customer``, ``check-list``, ``certificate`` and ``trail``."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gjeldsbro.domain.identity_numbers import Accepts, is_customer_id, is_organisation_number
from gjeldsbro.domain.ssn_list import SsnList
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError, SsnListError
from gjeldsbro.services.ports import Credential
from gjeldsbro_operator.keys import read_client_certificate
from gjeldsbro_operator.output import Result, Shown, moment
from gjeldsbro_operator.stack import Stack

_PIECE = 1 << 20
_SHOWN_ENTRIES = 20
_LOAN_COLUMNS = (
    "Type",
    "Account",
    "Name",
    "Limit or original",
    "Balance",
    "Rate",
    "Co-borrower",
    "Provider",
    "Source",
    "At",
)
_BALANCES = ("balance", "interestBearingBalance", "nonInterestBearingBalance")


def show_customer(stack: Stack, arguments: argparse.Namespace) -> Result:
    """What the register holds of a person. The function leaves the trail, so that nobody can look without one."""
    number = sys.stdin.readline().strip() if arguments.number == "-" else arguments.number
    if not is_customer_id(number, "format"):
        raise ConfigurationError("an identity number has 11 digits")
    payload = {"customerID": number, "operator": stack.operator, "reason": arguments.reason}
    shown = stack.invoke("ShowCustomerFunctionName", payload)
    tables = [
        Shown(
            f"{institution['financialInstitutionID']} {institution.get('name') or ''}{_mark(institution)}",
            _LOAN_COLUMNS,
            [_loan(loan) for loan in institution["loans"]],
        )
        for institution in shown["institutions"]
    ]
    debts = len(shown["institutionsWithDebt"])
    lines = [f"Debt at {debts} institution{'' if debts == 1 else 's'}. A record of this look-up was kept."]
    return Result(shown, tables, lines)


def _mark(institution: dict[str, Any]) -> str:
    return " (customer; loans only the institution knows)" if institution.get("indexOnly") else ""


def _loan(loan: dict[str, Any]) -> tuple[Any, ...]:
    role = {"0": "no", "1": "is one", "2": "has one"}.get(str(loan["coBorrower"]))
    rate = loan.get("nominalInterestRate")
    return (
        loan["type"],
        loan["accountID"],
        loan.get("accountName"),
        _kroner(loan.get("creditLimit") or loan.get("originalBalance")),
        _kroner(sum(int(loan.get(name, 0)) for name in _BALANCES)),
        None if rate is None else f"{int(rate) / 100:.2f} %",
        role,
        loan.get("providerID"),
        loan.get("source"),
        moment(loan["timestamp"]),
    )


def _kroner(amount: Any) -> str | None:
    """An amount in øre as kroner, without going through floating point."""
    if amount is None:
        return None
    kroner, ore = divmod(int(amount), 100)
    return f"{kroner:,}.{ore:02d}".replace(",", " ")


def check_list(arguments: argparse.Namespace, stack: Callable[[], Stack] | None) -> Result:
    """Check an SSN list as the export would read it, without any server.

    Which numbers are valid depends on the stack; without one, real and synthetic numbers both are.
    """
    accepts = arguments.accepts
    if accepts is None and stack is not None:
        accepts = "synthetic" if arguments.local else stack().accepts
    file: Path = arguments.file
    organisation = file.name.removesuffix(".txt")
    name_ok = file.name.endswith(".txt") and is_organisation_number(organisation)
    value: dict[str, Any] = {"file": str(file), "fileNameIsOrganisation": name_ok}
    invalid: list[str] = []
    duplicates: list[str] = []
    try:
        with file.open("rb") as stream:
            ssn_list = SsnList(file.stat().st_size, *_kinds(accepts))
            while piece := stream.read(_PIECE):
                findings = ssn_list.feed(piece)
                invalid += findings.invalid[: _SHOWN_ENTRIES - len(invalid)]
                duplicates += findings.duplicates[: _SHOWN_ENTRIES - len(duplicates)]
            findings = ssn_list.finish()
            invalid += findings.invalid[: _SHOWN_ENTRIES - len(invalid)]
            duplicates += findings.duplicates[: _SHOWN_ENTRIES - len(duplicates)]
    except OSError as exc:
        raise ConfigurationError(f"{file} cannot be read ({type(exc).__name__})") from None
    except SsnListError as exc:
        return Result({**value, "error": exc.code, "detail": exc.detail}, lines=[f"{exc.code}: {exc.detail}"], ok=False)
    value |= {
        "numbersInList": ssn_list.entries,
        "numbersInPackage": ssn_list.numbers,
        "invalidNumbers": ssn_list.invalid,
        "duplicateNumbers": ssn_list.duplicates,
        "firstInvalid": invalid,
        "firstDuplicates": duplicates,
    }
    lines = [
        f"Numbers in list: {ssn_list.entries}",
        f"Numbers in package: {ssn_list.numbers}",
        f"Invalid numbers: {ssn_list.invalid}",
        *_some(invalid, ssn_list.invalid),
        f"Duplicate numbers: {ssn_list.duplicates}",
        *_some(duplicates, ssn_list.duplicates),
    ]
    if not name_ok:
        lines.append("On the server the file must be named {organisation number}.txt; this name is not of that form.")
    return Result(value, lines=lines)


def _kinds(accepts: Accepts | None) -> tuple[Accepts, ...]:
    return ("production", "synthetic") if accepts is None else (accepts,)


def _some(entries: list[str], total: int) -> list[str]:
    more = total - len(entries)
    return [*(f"  {entry}" for entry in entries), *([f"  and {more} more"] if more else [])]


def put_certificate(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Store the client certificate with which institutions know us."""
    certificate = read_client_certificate(arguments.certificate, arguments.key, datetime.now(UTC))
    secret = stack.output("ClientCertificateSecretName")
    stack.record("certificate put", f"certificate {certificate.fingerprint}", arguments.reason)
    text = json.dumps({"certificate": certificate.certificate, "privateKey": certificate.private_key})
    stack.secrets.put_secret_value(SecretId=secret, SecretString=text)
    now, ends = from_datetime(datetime.now(UTC)), from_datetime(certificate.not_after)
    stack.partners.put_credential(Credential("our client certificate", now, ends, certificate.fingerprint))
    until = f"{certificate.not_after:%Y-%m-%d}"
    return Result(
        {"subject": certificate.subject, "sha256": certificate.fingerprint, "notAfter": until},
        lines=[
            f"Stored the certificate of {certificate.subject}, valid until {until}. It is used within five minutes."
        ],
    )


def trail(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Who changed or looked at what, when and why."""
    records = stack.partners.trail(datetime.now(UTC) - timedelta(days=arguments.days))
    columns = ("At", "Who", "Action", "Subject", "Reason")
    rows = [(moment(r["at"]), r.get("who"), r.get("action"), r.get("subject"), r.get("reason")) for r in records]
    return Result({"trail": records}, [Shown(f"The last {arguments.days} days", columns, rows)])
