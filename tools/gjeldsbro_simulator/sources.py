"""Where a simulator's customers come from: a population, or files of a dataset."""

import json
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol


class Source(Protocol):
    """Datasets by (financialInstitutionID, providerID); ``Population`` is one."""

    @property
    def datasets(self) -> tuple[tuple[str, str], ...]:
        """The datasets that there are."""
        ...

    def count(self, institution: str, provider: str) -> int:
        """Customers in a dataset."""
        ...

    def customers(self, institution: str, provider: str, start: int = 0, stop: int | None = None) -> Iterable[Any]:
        """Customers of a dataset in their order, as SPEC 4.2.2 dicts."""
        ...

    def customer(self, institution: str, provider: str, customer_id: str) -> dict[str, Any] | None:
        """One customer of a dataset, or None."""
        ...


class FolderSource:
    """Datasets from ``{folder}/{institution}/{provider}/*.json``, as ``gjeldsbro population datasets`` writes them.

    The files are read once. Numbers stay as they are in the files: serve them with ``numbers="integers"``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def datasets(self) -> tuple[tuple[str, str], ...]:
        """The datasets that the folder holds."""
        return tuple(self._customers)

    def count(self, institution: str, provider: str) -> int:
        """Customers in a dataset."""
        return len(self._customers[institution, provider])

    def customers(self, institution: str, provider: str, start: int = 0, stop: int | None = None) -> Iterable[Any]:
        """Customers of a dataset in the order of the files."""
        return self._customers[institution, provider][start:stop]

    def customer(self, institution: str, provider: str, customer_id: str) -> dict[str, Any] | None:
        """One customer of a dataset, or None."""
        found = (c for c in self._customers[institution, provider] if c["customerID"] == customer_id)
        return next(found, None)

    @cached_property
    def _customers(self) -> dict[tuple[str, str], list[Any]]:
        datasets: dict[tuple[str, str], list[Any]] = {}
        for file in sorted(self._folder.glob("*/*/*.json")):
            document = json.loads(file.read_bytes())
            # the folder's name is the id with a hyphen for the colon of a foreign institution
            institution = re.sub(r"^([0-9]{4})-", r"\1:", file.parent.parent.name)
            datasets.setdefault((institution, document["providerID"]), []).extend(document["customers"])
        return datasets
