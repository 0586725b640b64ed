"""What is kept of lookups, for who writes it and who reads it; without what a lookup itself needs."""

from typing import Literal, NamedTuple

Role = Literal["applicant", "coBorrower"]


class AskedCreditor(NamedTuple):
    """An institution on a person's record: whether it answered, and where its data came from. No debt."""

    institution: str
    answered: bool
    source: Literal["institution", "register", "none"]


class LookupRecord(NamedTuple):
    """What is kept of a lookup of one person, for the person's right to know: no debt, and no number of loans.

    ``customer`` is the person's partition key under the hash key of that time. ``at`` is in the fixed form of
    ``domain.timestamps``; ``on_behalf_of`` is None when the lender acts for itself.
    """

    customer: str
    lookup_id: str
    at: str
    lender: str
    on_behalf_of: str | None
    reference: str
    purpose: str
    role: Role
    creditors: tuple[AskedCreditor, ...]
