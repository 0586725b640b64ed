"""What the register shows, for tests that look at what a message or a night left in it."""

from typing import Any

from gjeldsbro.domain.register import CurrentLoan, merge
from gjeldsbro.services.customer_lookup import LookupRegister, dataset_times, items_of_many


def loans_shown(register: LookupRegister, partners: Any, customer_id: str) -> dict[str, list[CurrentLoan]]:
    """A customer's current loans per institution, as ``show-customer`` shows them."""
    datasets = partners.datasets()
    times = dataset_times(partners.institutions(), datasets)
    (items,) = items_of_many([customer_id], register, datasets)
    return merge(items, times).loans
