"""What the register shows, for tests that look at what a message or a night left in it."""

from collections.abc import Iterable
from typing import Any

from gjeldsbro.domain.register import CurrentLoan, merge
from gjeldsbro.services.customer_lookup import LookupRegister, dataset_times, items_of_many

Loans = dict[tuple[str, str], int]
"""What the register shows of one institution: (customerID, accountID) to balance."""


def everything_shown(register: LookupRegister, partners: Any, people: Iterable[str]) -> dict[str, Loans]:
    """What a reader sees of these people, per institution; an institution to which none of them owes is not in it."""
    numbers = tuple(people)
    datasets = partners.datasets()
    times = dataset_times(partners.institutions(), datasets)
    found: dict[str, Loans] = {}
    for person, items in zip(numbers, items_of_many(numbers, register, datasets), strict=True):
        for institution, loans in merge(items, times).loans.items():
            told = found.setdefault(institution, {})
            for current in loans:
                loan: Any = current.loan
                assert (person, loan.account_id) not in told, "a loan is shown once"
                told[person, loan.account_id] = loan.balance
    return found


def loans_shown(register: LookupRegister, partners: Any, customer_id: str) -> dict[str, list[CurrentLoan]]:
    """A customer's current loans per institution, as ``show-customer`` shows them."""
    datasets = partners.datasets()
    times = dataset_times(partners.institutions(), datasets)
    (items,) = items_of_many([customer_id], register, datasets)
    return merge(items, times).loans
