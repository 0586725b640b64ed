"""Builds one slice of a package: looks a batch of customers up and deflates what the register shows of them."""

from collections.abc import Sequence
from itertools import batched
from typing import Any, Protocol

from gjeldsbro.domain.customer_keys import HashKey
from gjeldsbro.domain.package import Pseudonyms, build_slice, customer_object
from gjeldsbro.domain.register import CurrentLoan
from gjeldsbro.services.export import places
from gjeldsbro.services.export.plan import Plan
from gjeldsbro.services.export.ports import Store

_READ_AT_ONCE = 500


class Loans(Protocol):
    """What the register shows (see ``services.customer_lookup.CurrentLoansReader``)."""

    def read_many(self, customer_keys: Sequence[bytes]) -> list[dict[str, list[CurrentLoan]]]:
        """The current loans per institution of each customer."""
        ...


def build_package_slice(
    *,
    run: str,
    receiver: str,
    on_behalf_of: str,
    batch: int,
    store: Store,
    loans: Loans,
    key: HashKey,
) -> dict[str, int]:
    """Build the slice of one batch, in the batch's order, and delete the batch's numbers.

    A call that is repeated after it was done changes nothing. Returns how many customers and loans the slice holds.
    """
    plan = Plan.load(store, run)
    numbers_key = places.batch_key(run, receiver, on_behalf_of, batch)
    slice_key = places.slice_key(plan.package_prefix(receiver, on_behalf_of), batch)
    try:
        numbers = store.get(numbers_key).decode().split("\n")
    except KeyError:
        done = store.get_json(f"{slice_key}.json")
        return {"customers": done["customers"], "loans": done["loans"]}
    pseudonyms = Pseudonyms(key, receiver, plan.quarter)
    customers: list[dict[str, Any]] = []
    for group in batched(numbers, _READ_AT_ONCE, strict=False):
        found = loans.read_many([key.customer_key(number) for number in group])
        customers += [
            customer_object(
                number,
                [(institution, current.loan) for institution, held in by_institution.items() for current in held],
                on_behalf_of=on_behalf_of,
                timestamp=plan.timestamp,
                pseudonyms=pseudonyms,
            )
            for number, by_institution in zip(group, found, strict=True)
        ]
    data, built = build_slice(customers, first=batch == 0)
    counts = {"customers": len(customers), "loans": sum(len(customer["loans"]) for customer in customers)}
    store.put(slice_key, data)
    store.put_json(f"{slice_key}.json", {**built._asdict(), **counts})
    store.delete([numbers_key])
    return counts
