"""Which institutions have debt of a customer, and all current loans of a customer, per institution."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from gjeldsbro.domain.register import CurrentLoan, DatasetTimes, Item, merge
from gjeldsbro.services.ports import Dataset, DatasetTime, Institution


class LookupRegister(Protocol):
    """What a lookup needs of the register of debt."""

    def items_of_many(self, customer_keys: Iterable[bytes]) -> list[list[Item]]:
        """All that is stored of each customer, in their order."""
        ...


class LookupPartners(Protocol):
    """What a lookup needs to know of institutions and their datasets."""

    def institutions(self) -> list[Institution]:
        """All institutions, ended ones included."""
        ...

    def datasets(self, institution: str | None = None) -> list[Dataset]:
        """The datasets of one institution, or all."""
        ...


def dataset_times(
    institutions: Iterable[Institution], datasets: Iterable[Dataset | DatasetTime]
) -> dict[str, DatasetTimes]:
    """For each institution ``asOf`` of the providers that deliver datasets (see ``domain.register.DatasetTimes``).

    Those are the providers that datasets are fetched from now, and every provider of which a dataset is in use, also
    after it was removed: its data, and so its word on which pushes are older, stays until it is withdrawn.
    """
    times: dict[str, dict[str, str | None]] = {}
    for institution in institutions:
        of_institution = times.setdefault(institution.institution, {})
        for provider in institution.providers:
            if provider.delivers_datasets and not provider.ended:
                of_institution[provider.provider] = None
    for dataset in datasets:
        if dataset.as_of is not None:
            times.setdefault(dataset.institution, {})[dataset.provider] = dataset.as_of
    return dict(times)


class CurrentLoansReader:
    """Reads what the register shows. ``conflicts`` counts the accounts on which two providers disagreed so far."""

    def __init__(self, register: LookupRegister, partners: LookupPartners) -> None:
        self._register = register
        self._partners = partners
        self.conflicts = 0

    def read_many(self, customer_keys: Sequence[bytes]) -> list[dict[str, list[CurrentLoan]]]:
        """The current loans per institution of each customer, in the order of ``customer_keys``.

        The datasets' times are read once a call, before the items: a dataset that is committed meanwhile has written
        its items by then, and with the times from before it the items' own timestamps decide.
        """
        times = dataset_times(self._partners.institutions(), self._partners.datasets())
        results = []
        for items in self._register.items_of_many(customer_keys):
            merged = merge(items, times)
            self.conflicts += merged.conflicts
            results.append(merged.loans)
        return results

    def read(self, customer_key: bytes) -> dict[str, list[CurrentLoan]]:
        """All current loans of one customer, per institution."""
        return self.read_many([customer_key])[0]

    def institutions_with_debt(self, customer_key: bytes) -> list[str]:
        """The institutions at which the register shows debt of a customer now, in their ids' order.

        One that the register is only an index of is not among them: ``services.customer_debt`` asks it.
        """
        return sorted(self.read(customer_key))
