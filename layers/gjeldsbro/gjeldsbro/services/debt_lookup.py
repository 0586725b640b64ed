"""A lender looks a person up: who may, what is recorded and announced, and what is disclosed (decision 0015).

Nothing is disclosed before it is on the person's record and on its way to the notice: if either fails, the lookup does.
All that decides what a lender is told stands in ``_disclosed`` below. Knows nothing of HTTP.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from gjeldsbro.domain import loans
from gjeldsbro.domain.customer_keys import HashKeys
from gjeldsbro.domain.loans import Loan
from gjeldsbro.domain.package import Pseudonyms
from gjeldsbro.domain.purposes import BUREAUS_PURPOSE
from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.domain.search_messages import (
    CreditorEntry,
    DisclosedChargeCard,
    DisclosedCreditFacility,
    DisclosedLoan,
    DisclosedRepaymentLoan,
    LoanEntry,
    PersonDebt,
    SearchRequest,
    SearchResponse,
)
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import NotEntitledError
from gjeldsbro.services.customer_debt import CreditorDebt
from gjeldsbro.services.lookup_records import AskedCreditor, LookupRecord
from gjeldsbro.services.ports import Lender


class LookupLenders(Protocol):
    """Who may look people up."""

    def lenders(self) -> list[Lender]:
        """All lenders. May be half a minute old."""
        ...


class Debts(Protocol):
    """What customers owe now: ``services.customer_debt.CustomerDebt``."""

    def of_many(self, customer_ids: Sequence[str], *, deadline: float, now: datetime) -> list[list[CreditorDebt]]:
        """Each customer's debt per institution, in their order; institutions are asked until ``deadline``."""
        ...


class LookupNotice(NamedTuple):
    """What a notification service needs to give one person notice of a lookup.

    ``customer_id`` is the plain number: whoever puts this anywhere encrypts it first.
    """

    customer_id: str
    lookup_id: str
    at: str
    lender: str
    lender_name: str
    on_behalf_of: str | None
    reference: str
    purpose: str
    message: str | None
    notice_required: bool


class LookupRecords(Protocol):
    """Where lookups are recorded."""

    def record(self, records: Sequence[LookupRecord]) -> None:
        """Record all persons of one lookup. Returns only when all are stored; raises otherwise."""
        ...


class LookupAnnouncements(Protocol):
    """Where the lookups of one request are announced."""

    def prepare(self, lookup_id: str, customer_ids: Sequence[str]) -> None:
        """Begin with what need not wait for the institutions' answers. Announces nothing, and raises nothing."""
        ...

    def announce(self, notices: Sequence[LookupNotice]) -> None:
        """Announce all persons that were prepared for. Returns only when all are accepted; raises otherwise."""
        ...


class NothingFound(NamedTuple):
    """The result of a lookup in which nobody has a loan and no creditor is missing: recorded and announced as any."""

    lookup_id: str


@dataclass(frozen=True)
class DebtLookup:
    """Looks people up for lenders. ``clock`` is the clock of deadlines."""

    lenders: LookupLenders
    debts: Debts
    records: LookupRecords
    announcements: LookupAnnouncements
    hash_keys: HashKeys
    clock: Callable[[], float] = time.monotonic

    def look_up(
        self, request: SearchRequest, organisation: str, *, lookup_id: str, now: datetime, deadline: float
    ) -> SearchResponse | NothingFound:
        """What the lender whose certificate names ``organisation`` is told.

        Institutions have until ``request.max_time_to_wait`` from now, but not beyond ``deadline`` (of ``clock``), which
        is how long the caller's own connection lasts. ``lookup_id`` is a UUID. Raises NotEntitledError before anything
        is read; any other error comes of a store that failed, and nothing is disclosed then.
        """
        deadline = min(deadline, self.clock() + request.max_time_to_wait / 1000)
        lender = self._entitled(request, organisation)
        self.announcements.prepare(lookup_id, request.persons)
        found = self.debts.of_many(request.persons, deadline=deadline, now=now)
        at = from_datetime(now.replace(microsecond=now.microsecond // 1000 * 1000))
        hash_key = self.hash_keys.at(now)
        on_behalf_of = request.on_behalf_of_organization
        if on_behalf_of == lender.lender:
            on_behalf_of = None
        self.records.record(
            [
                LookupRecord(
                    customer=hash_key.partition_of(person),
                    lookup_id=lookup_id,
                    at=at,
                    lender=lender.lender,
                    on_behalf_of=on_behalf_of,
                    reference=request.reference_id,
                    purpose=request.purpose,
                    role="coBorrower" if number else "applicant",
                    creditors=tuple(AskedCreditor(debt.institution, debt.answered, debt.source) for debt in debts),
                )
                for number, (person, debts) in enumerate(zip(request.persons, found, strict=True))
            ]
        )
        self.announcements.announce(
            [
                LookupNotice(
                    customer_id=person,
                    lookup_id=lookup_id,
                    at=at,
                    lender=lender.lender,
                    lender_name=lender.name,
                    on_behalf_of=on_behalf_of,
                    reference=request.reference_id,
                    purpose=request.purpose,
                    message=request.message_to_customer,
                    notice_required=request.purpose != BUREAUS_PURPOSE,
                )
                for person in request.persons
            ]
        )
        pseudonyms = Pseudonyms.of(self.hash_keys, on_behalf_of or lender.lender, Quarter.of(now))
        first, *others = (
            _disclosed(person, debts, timestamp=at, pseudonyms=pseudonyms)
            for person, debts in zip(request.persons, found, strict=True)
        )
        if not any(person.creditors for person in (first, *others)):
            return NothingFound(lookup_id)
        return SearchResponse(
            timestamp=at,
            uuid=UUID(lookup_id),
            reference_id=request.reference_id,
            co_borrowers=others,
            **dict(first),
        )

    def _entitled(self, request: SearchRequest, organisation: str) -> Lender:
        """The lender that may make this request with a certificate of ``organisation``."""
        named = [lender for lender in self.lenders.lenders() if lender.is_named_by(organisation)]
        if not named:
            raise NotEntitledError("the organisation in the client certificate is not registered as a lender")
        wanted = request.on_behalf_of_organization
        acting = [lender for lender in named if wanted in {None, lender.lender, *lender.on_behalf_of}]
        if not acting:
            raise NotEntitledError("/onBehalfOfOrganization: the lender is not registered as acting for it")
        entitled = [lender for lender in acting if request.purpose in lender.purposes]
        if not entitled:
            raise NotEntitledError("/purpose: the lender is not registered for this purpose")
        return entitled[0]


def _disclosed(person: str, debts: Iterable[CreditorDebt], *, timestamp: str, pseudonyms: Pseudonyms) -> PersonDebt:
    """What a lender is told of one person: debt, never whose, and never who shares it (design decision 11).

    Account ids are keyed hashes over the person too, so that nothing but what the loans themselves say is the same for
    two borrowers of one account; accounts have no name; all loans bear one time, because their own would tell one
    institution's delivery from another's. What comes of one institution is nowhere together: loans are sorted by
    account id, creditors by what is said of them. An institution that said "nothing", or of which nothing is shown, is
    not in it: that it was asked would tell that there was debt once.
    """
    entries: list[LoanEntry] = []
    creditors: list[CreditorEntry] = []
    for debt in debts:
        if debt.answered and not debt.loans:
            continue
        entries += [
            LoanEntry(
                source=debt.source_of(current),
                loan=_disclosed_loan(
                    current.loan, timestamp, pseudonyms.account_id(person, debt.institution, current.loan)
                ),
            )
            for current in debt.loans
        ]
        if debt.source == "none":
            entries.append(LoanEntry(source="none", loan=None))
        creditors.append(CreditorEntry(answered=debt.answered, source=debt.source, number_of_loans=len(debt.loans)))
    entries.sort(key=lambda entry: (entry.loan is None, "" if entry.loan is None else entry.loan.account_id))
    creditors.sort(key=lambda entry: (not entry.answered, entry.source, entry.number_of_loans))
    answered = sum(entry.answered for entry in creditors)
    return PersonDebt(
        ssn=person,
        loans=entries,
        creditors=creditors,
        number_of_creditors_answered=answered,
        number_ofcreditors_missing=len(creditors) - answered,
    )


def _disclosed_loan(loan: Loan, timestamp: str, account_id: str) -> DisclosedLoan:
    match loan:
        case loans.RepaymentLoan():
            return DisclosedRepaymentLoan(
                type="repaymentLoan",
                timestamp=timestamp,
                account_id=account_id,
                original_balance=loan.original_balance,
                balance=loan.balance,
                terms=loan.terms,
                nominal_interest_rate=loan.nominal_interest_rate,
                installment_charges=loan.installment_charges,
                installment_charge_period="MONTHLY",
                co_borrower=loan.co_borrower,
            )
        case loans.CreditFacility():
            return DisclosedCreditFacility(
                type="creditFacility",
                timestamp=timestamp,
                account_id=account_id,
                credit_limit=loan.credit_limit,
                interest_bearing_balance=loan.interest_bearing_balance,
                non_interest_bearing_balance=loan.non_interest_bearing_balance,
                nominal_interest_rate=loan.nominal_interest_rate,
                installment_charges=loan.installment_charges,
                installment_charge_period="MONTHLY",
                co_borrower=loan.co_borrower,
            )
        case loans.ChargeCard():
            return DisclosedChargeCard(
                type="chargeCard",
                timestamp=timestamp,
                account_id=account_id,
                interest_bearing_balance=loan.interest_bearing_balance,
                non_interest_bearing_balance=loan.non_interest_bearing_balance,
                co_borrower=loan.co_borrower,
            )
