"""A push: a provider tells what changed (SPEC 3.1.3), and it is in the register when the answer is 200."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.dataset_page import read_push
from gjeldsbro.domain.identity_numbers import Accepts, organisation_identifiers
from gjeldsbro.domain.loans import Message, account_of
from gjeldsbro.domain.register import (
    DatasetTimes,
    PushItem,
    StoredItem,
    cover_of,
    dataset_loan_times,
    in_force,
    outdated_pushes,
    push_counts,
    push_version,
)
from gjeldsbro.errors import MessageTooLargeError, NotEntitledError
from gjeldsbro.services.customer_lookup import dataset_times, key_versions
from gjeldsbro.services.ports import Dataset, Institution

MAX_CUSTOMERS = 1000
"""Customers of one message (contract); whoever has more to tell sends several."""


class PushRegister(Protocol):
    """What a push needs of the register of debt."""

    def items_of_many(self, customer_ids: Sequence[str]) -> list[list[StoredItem]]:
        """All that is stored of each customer, in their order."""
        ...

    def put_pushes(self, pushes: Iterable[tuple[str, PushItem]], key: HashKey) -> int:
        """Store (customerID, push) under a key, each unless a newer or the same one is there; how many were stored."""
        ...

    def delete_pushes(self, pushes: Iterable[tuple[str, StoredItem]]) -> int:
        """Delete (customerID, push), each if it still is as it was read; how many were deleted."""
        ...


class PushPartners(Protocol):
    """What a push needs to know of institutions and their datasets."""

    def institution(self, institution: str) -> Institution | None:
        """One institution, ended or not."""
        ...

    def datasets(self, institution: str) -> list[Dataset]:
        """The datasets of one institution; never newer than what the register is read for after it."""
        ...

    def record_push(self, institution: str, provider: str, now: datetime) -> None:
        """Remember when a provider last pushed for an institution."""
        ...


class Receipt(NamedTuple):
    """How many loans of a message were stored, and how many told nothing new."""

    stored: int
    unchanged: int


class _CustomersOnly(msgspec.Struct):
    customers: list[msgspec.Raw] = []


def read_message(body: bytes, *, accepts: Accepts, now: datetime) -> Message:
    """The message of a push.

    Raises MessageTooLargeError, or InvalidMessageError with the places that break SPEC's rules.
    """
    if _count_customers(body) > MAX_CUSTOMERS:
        raise MessageTooLargeError(f"a message holds at most {MAX_CUSTOMERS} customers")
    return read_push(body, accepts=accepts, now=now)


@dataclass(frozen=True)
class PushService:
    """Takes pushes into the register."""

    partners: PushPartners
    register: PushRegister
    hash_keys: HashKeys

    def receive(self, message: Message, organisation: str, now: datetime) -> Receipt:
        """Put every loan of ``message`` into the register that is newer than what it holds.

        ``organisation`` is what the caller's certificate names (``domain.callers``). Raises NotEntitledError when it
        may not report this, before anything is stored. Any other error leaves some loans stored: the same message can
        be sent again, because what is there already is left as it is. ``now`` is what a provider is told of its last
        push (``services.connection_check``).
        """
        times, datasets = self._entitled(message, organisation)
        key = self.hash_keys.at(now)
        loans = sum(len(customer.loans) for customer in message.customers)
        pushes: list[tuple[str, PushItem]] = []
        outdated: list[tuple[str, StoredItem]] = []
        found = self.register.items_of_many([customer.customer_id for customer in message.customers])
        for customer, all_stored in zip(message.customers, found, strict=True):
            institution = customer.financial_institution_id
            stored = [one for one in all_stored if one.item.institution == institution]
            of_institution = in_force(stored, key_versions(datasets))
            cover = cover_of(message.provider, times[institution])
            in_datasets = dataset_loan_times(of_institution, times[institution])
            known = {
                account_of(item.loan): push_version(item.loan)
                for item in of_institution
                if isinstance(item, PushItem) and item.provider == message.provider
            }
            new = [
                PushItem(institution, message.provider, loan)
                for loan in customer.loans
                if push_counts(loan, cover, in_datasets) and known.get(account_of(loan), "") < push_version(loan)
            ]
            pushes += [(customer.customer_id, push) for push in new]
            outdated += [(customer.customer_id, push) for push in outdated_pushes(stored, new, key.number)]
        written = self.register.put_pushes(pushes, key)
        self.register.delete_pushes(outdated)  # no history of debt, also where a new push cannot replace an old one
        for institution in times:
            self.partners.record_push(institution, message.provider, now)
        return Receipt(written, loans - written)

    def _entitled(self, message: Message, organisation: str) -> tuple[dict[str, DatasetTimes], list[Dataset]]:
        """The dataset times of each institution in the message, when ``organisation`` may report all of them.

        And the datasets' records themselves.
        """
        times: dict[str, DatasetTimes] = {}
        datasets: list[Dataset] = []
        for number, customer in enumerate(message.customers):
            name = customer.financial_institution_id
            if name in times:
                continue
            institution = self.partners.institution(name)
            provider = None if institution is None else institution.provider(message.provider)
            known = organisation in organisation_identifiers(message.provider)
            if not known and (provider is None or not provider.is_named_by(organisation)):
                raise NotEntitledError("/providerID: is not the organisation in the client certificate (SPEC 4.2.1)")
            if institution is None or not institution.may_report(message.provider):
                place = f"/customers/{number}/financialInstitutionID"
                raise NotEntitledError(f"{place}: this providerID is not registered for the institution")
            of_institution = self.partners.datasets(name)
            times[name] = dataset_times([institution], of_institution)[name]
            datasets += of_institution
        return times, datasets


def _count_customers(body: bytes) -> int:
    try:
        return len(msgspec.json.decode(body, type=_CustomersOnly).customers)
    except (ValueError, RecursionError):
        return 0  # whatever is wrong with it, the parser says it with a pointer
