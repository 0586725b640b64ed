"""What everything that reads customers needs of the register, and as of when its datasets speak."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from gjeldsbro.domain.register import DatasetTimes, Item, StoredItem, Subject, in_force
from gjeldsbro.errors import StoreUnavailableError
from gjeldsbro.services.ports import Dataset, DatasetTime, Institution


class LookupRegister(Protocol):
    """What a lookup needs of the register of debt."""

    @property
    def newest_version(self) -> int:
        """The newest version of the hash key that it asks under."""
        ...

    def items_of_many(self, customer_ids: Sequence[str]) -> list[list[StoredItem]]:
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

    Read ``datasets`` before the register's items: a dataset that is committed meanwhile has written its items by then,
    and with the times from before it the items' own timestamps decide.
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


def key_versions(datasets: Iterable[Dataset | DatasetTime]) -> dict[Subject, int]:
    """The version of the hash key that each dataset is under, for ``domain.register.in_force``."""
    return {
        (dataset.institution, dataset.provider): int(dataset.key_version)
        for dataset in datasets
        if dataset.key_version is not None
    }


def items_of_many(
    customer_ids: Sequence[str], register: LookupRegister, datasets: Iterable[Dataset | DatasetTime]
) -> list[list[Item]]:
    """What the register says of each customer, in their order. ``datasets`` were read before: see dataset_times.

    Raises StoreUnavailableError when a dataset is under a key that we do not have: its customers would seem to owe
    nothing. A key is in use long after everybody can have read it, so ours was read much too long ago, or replaced.
    """
    versions = key_versions(datasets)
    if max(versions.values(), default=0) > register.newest_version:
        raise StoreUnavailableError("a dataset is under a newer version of the hash key than was read here")
    return [in_force(stored, versions) for stored in register.items_of_many(customer_ids)]
