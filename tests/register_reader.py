"""What the register shows, for tests that look at what a message or a night left in it."""

from typing import Any

from gjeldsbro.domain.register import CurrentLoan, merge
from gjeldsbro.services.customer_lookup import LookupRegister, dataset_times


def loans_shown(register: LookupRegister, partners: Any, customer_key: bytes) -> dict[str, list[CurrentLoan]]:
    """A customer's current loans per institution, as ``show-customer`` shows them."""
    times = dataset_times(partners.institutions(), partners.datasets())
    (items,) = register.items_of_many([customer_key])
    return merge(items, times).loans
