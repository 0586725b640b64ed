"""What the register holds of one person, for an authorised operator (a person's own access, a complaint, an error).

The only place that shows real account ids and names. Whoever looks leaves a trail first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from gjeldsbro.domain.customer_keys import HashKeys
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.domain.loans import Loan, to_wire
from gjeldsbro.domain.register import (
    CurrentLoan,
    DatasetItem,
    DatasetTimes,
    Item,
    cover_of,
    dataset_loan_times,
    is_index_only,
    merge,
    push_counts,
)
from gjeldsbro.domain.timestamps import shorten
from gjeldsbro.services.customer_lookup import LookupPartners, LookupRegister, dataset_times, items_of_many
from gjeldsbro.services.trail import Trail, note_a_look


class TrailPartners(LookupPartners, Trail, Protocol):
    """A lookup's partners, and the trail of who looked."""


@dataclass(frozen=True)
class ShowCustomer:
    """Shows one customer to an operator."""

    partners: TrailPartners
    register: LookupRegister
    hash_keys: HashKeys
    accepts: Accepts

    def show(self, customer_id: str, *, operator: str, reason: str | None, now: datetime) -> dict[str, Any]:
        """What is shown as debt, per institution, and every item that it was made of.

        ``{"institutionsWithDebt": [ids], "conflicts": n, "institutions": [{"financialInstitutionID", "name", "loans",
        "indexOnly", "sources"}]}``. ``loans`` are SPEC 4.2's with ``providerID`` and ``source`` (dataset or push) added
        and the effective time as ``timestamp``. ``indexOnly``: the register knows that the institution has the
        customer, and only the institution knows what is owed. ``sources`` are the items as stored: ``source``,
        ``providerID``, ``loans`` and, of a dataset, ``asOf`` (null before its first commit); of a push, ``counts``.

        Raises InvalidMessageError when operator, reason or number is not given in its form; then nothing was looked at.
        """
        note_a_look(
            customer_id,
            trail=self.partners,
            hash_keys=self.hash_keys,
            accepts=self.accepts,
            action="show-customer",
            operator=operator,
            reason=reason,
            now=now,
        )
        institutions = self.partners.institutions()
        datasets = self.partners.datasets()
        times = dataset_times(institutions, datasets)
        (items,) = items_of_many([customer_id], self.register, datasets)
        merged = merge(items, times)
        names = {institution.institution: institution.name for institution in institutions}
        return {
            "institutionsWithDebt": sorted(merged.loans),
            "conflicts": merged.conflicts,
            "institutions": [
                {
                    "financialInstitutionID": institution,
                    "name": names.get(institution),
                    "loans": [_shown(current) for current in merged.loans.get(institution, [])],
                    "indexOnly": any(is_index_only(item) for item in items if item.institution == institution),
                    "sources": list(_sources(institution, items, times.get(institution, {}))),
                }
                for institution in sorted({item.institution for item in items})
            ],
        }


def _shown(current: CurrentLoan) -> dict[str, Any]:
    return {
        **_wire(current.loan, current.effective),
        "providerID": current.provider,
        "source": current.source,
    }


def _sources(institution: str, items: list[Item], times: DatasetTimes) -> Iterable[dict[str, Any]]:
    own = [item for item in items if item.institution == institution]
    in_datasets = dataset_loan_times(own, times)
    for item in own:
        if isinstance(item, DatasetItem):
            as_of = times.get(item.provider)
            yield {
                "source": "dataset",
                "providerID": item.provider,
                "asOf": None if as_of is None else shorten(as_of),
                "loans": [_wire(loan, loan.timestamp) for loan in item.loans],
            }
        else:
            yield {
                "source": "push",
                "providerID": item.provider,
                "counts": push_counts(item.loan, cover_of(item.provider, times), in_datasets),
                "loans": [_wire(item.loan, item.loan.timestamp)],
            }


def _wire(loan: Loan, timestamp: str) -> dict[str, Any]:
    return to_wire(loan, timestamp=timestamp, account_id=loan.account_id, with_name=True)
