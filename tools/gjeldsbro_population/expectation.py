"""What a register and its packages must say, worked out without the product's code.

The rules come from the contract: what counts as debt, that the newest statement about an account wins, and that a
package names neither creditor nor account.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from gjeldsbro_population.loans import Loan

PackagedLoan = tuple[tuple[str, str], ...]
"""A loan without what a package leaves out or replaces, as sorted (key, text) pairs."""

_NOT_COMPARED = {"timestamp", "accountID", "accountName"}
_TEXTS = {"type", "timestamp", "accountID", "accountName", "installmentChargePeriod"}


def pushed_loans(messages: Iterable[Mapping[str, Any]], customer_id: str) -> list[tuple[str, Loan]]:
    """(financialInstitutionID, loan) for every loan of this customer in the messages, in order, numbers as int."""
    return [
        (customer["financialInstitutionID"], {k: v if k in _TEXTS else int(v) for k, v in loan.items()})
        for message in messages
        for customer in message["customers"]
        if customer["customerID"] == customer_id
        for loan in customer["loans"]
    ]


def debt(delivered: list[tuple[str, Loan]], pushed: list[tuple[str, Loan]]) -> dict[str, list[Loan]]:
    """The loans that count, per institution: of one account the newest delivery, or else the last push."""
    latest: dict[tuple[str, str, str], tuple[Loan, bool]] = {}
    for institution, loan in sorted(delivered, key=lambda pair: datetime.fromisoformat(pair[1]["timestamp"])):
        latest[institution, loan["type"], loan["accountID"]] = (loan, False)
    for institution, loan in pushed:
        latest[institution, loan["type"], loan["accountID"]] = (loan, True)
    counting: dict[str, list[Loan]] = {}
    for (institution, _, _), (loan, was_pushed) in latest.items():
        if _counts(loan, was_pushed):
            counting.setdefault(institution, []).append(loan)
    return counting


def _counts(loan: Loan, was_pushed: bool) -> bool:
    if loan["type"] == "repaymentLoan":
        return bool(loan["balance"] != 0)
    owed = loan["interestBearingBalance"] + loan["nonInterestBearingBalance"]
    if loan["type"] == "creditFacility":
        return bool(owed + loan["creditLimit"] != 0)
    return not was_pushed or owed != 0


def packaged(loans: Iterable[Loan]) -> list[PackagedLoan]:
    """The loans in a form that can be compared: sorted, numbers as the texts that a package holds."""
    return sorted(
        tuple(sorted((key, str(value)) for key, value in loan.items() if key not in _NOT_COMPARED)) for loan in loans
    )


def package_content(document: Mapping[str, Any]) -> dict[str, list[PackagedLoan]]:
    """A package (the JSON document of SPEC 4.2) per customerID in the form of ``Population.expected_package``.

    Raises ValueError when a customer occurs twice: a package holds one object per number.
    """
    content: dict[str, list[PackagedLoan]] = {}
    for customer in document["customers"]:
        if customer["customerID"] in content:
            raise ValueError("a customer occurs twice in the package")
        content[customer["customerID"]] = packaged(customer["loans"])
    return content


def disclosed(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, PackagedLoan]]:
    """The ``loans`` of a lookup's answer (entries of source and loan) in a form that can be compared, sorted."""
    return sorted((entry["source"], loan) for entry in entries if entry["loan"] for loan in packaged([entry["loan"]]))
