"""Builds one slice of a package: looks a batch of customers up and deflates what is known of them."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from gjeldsbro.domain.customer_keys import HashKeys
from gjeldsbro.domain.package import Pseudonyms, build_slice, customer_text
from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.errors import InstitutionUnavailableError
from gjeldsbro.services.export import places
from gjeldsbro.services.export.loans import LoansOf
from gjeldsbro.services.export.plan import Plan
from gjeldsbro.services.export.ports import Store


class Loans(Protocol):
    """What is known of customers (see ``services.export.loans.PackageLoans``)."""

    def read(self, customer_ids: Sequence[str]) -> Iterator[list[LoansOf]]:
        """The current loans per institution of each customer, some at a time; ends early when there is no time."""
        ...


class Progress(NamedTuple):
    """Whether the slice is complete, and how many customers and loans are in what was built of it."""

    complete: bool
    customers: int
    loans: int


def build_package_slice(
    *,
    run: str,
    receiver: str,
    on_behalf_of: str,
    batch: int,
    store: Store,
    loans: Loans,
    keys: HashKeys,
) -> Progress:
    """Build the slice of one batch, in the batch's order, and delete the batch's numbers.

    When the time is up before it is complete, what was built is kept for the next call; so it is when an institution
    that must be asked does not answer, and InstitutionUnavailableError says so. A call that is repeated after it was
    done changes nothing.
    """
    plan = Plan.load(store, run)
    numbers_key = places.batch_key(run, receiver, on_behalf_of, batch)
    progress_key = places.progress_key(run, receiver, on_behalf_of, batch)
    prefix = plan.package_prefix(receiver, on_behalf_of)
    try:
        numbers = store.get(numbers_key).decode().split("\n")
    except KeyError:
        done = store.get_json(places.description_key(prefix, batch))
        return Progress(True, done["customers"], done["loans"])
    pseudonyms = Pseudonyms.of(keys, receiver, Quarter.parse(plan.quarter))
    built = _earlier(store, progress_key)
    earlier = len(built)
    try:
        for found in loans.read(numbers[earlier:]):
            at = len(built)
            for number, by_institution in zip(numbers[at : at + len(found)], found, strict=True):
                loans_of = [(name, current.loan) for name, held in by_institution.items() for current in held]
                text = customer_text(
                    number,
                    loans_of,
                    on_behalf_of=on_behalf_of,
                    timestamp=plan.timestamp,
                    pseudonyms=pseudonyms,
                )
                built.append((text, len(loans_of)))
    except InstitutionUnavailableError:
        if len(built) > earlier:
            store.put_json(progress_key, built)
        raise
    progress = Progress(len(built) == len(numbers), len(built), sum(count for _, count in built))
    if not progress.complete:
        store.put_json(progress_key, built)
        return progress
    data, described = build_slice([text for text, _ in built], first=batch == 0)
    name = places.slice_name(sha256(data).hexdigest())
    store.put(places.slice_key(prefix, batch, name), data)
    description = {**described._asdict(), "name": name, "customers": progress.customers, "loans": progress.loans}
    store.put_json(places.description_key(prefix, batch), description)
    store.delete([numbers_key, progress_key])
    return progress


def _earlier(store: Store, progress_key: str) -> list[tuple[str, int]]:
    """The customers that earlier calls have built, and how many loans each has."""
    try:
        return [(text, count) for text, count in store.get_json(progress_key)]
    except KeyError:
        return []
