"""What the simulator serves now, shared by its server thread and whoever steers it."""

from collections import deque
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import NamedTuple

from gjeldsbro_simulator.config import ServedDataset, default_datasets
from gjeldsbro_simulator.faults import Fault
from gjeldsbro_simulator.sources import Source

Key = tuple[str, str]


class ServedRequest(NamedTuple):
    """A request that was answered: header names in lower case. A customerID header is left out."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    status: int


class World:
    """The datasets, their source and manners. All methods may be called from any thread."""

    def __init__(self, source: Source, datasets: Iterable[ServedDataset] | None = None) -> None:
        self._lock = Lock()
        self._source = source
        served = default_datasets(source.datasets) if datasets is None else datasets
        self._datasets = {(dataset.institution, dataset.provider): dataset for dataset in served}
        self._initial = dict(self._datasets)
        self._requests: deque[ServedRequest] = deque(maxlen=10_000)
        self._version = 0

    @property
    def source(self) -> Source:
        """Where the customers come from now."""
        with self._lock:
            return self._source

    @property
    def version(self) -> int:
        """Rises with every change: for whoever keeps what was made of an earlier state."""
        with self._lock:
            return self._version

    def serve(self, source: Source) -> None:
        """Serve other customers from now on, for example the next night's."""
        with self._lock:
            self._source = source
            self._version += 1

    def datasets(self) -> list[ServedDataset]:
        """All datasets as they are served now."""
        with self._lock:
            return list(self._datasets.values())

    def dataset(self, institution: str, provider: str | None = None) -> ServedDataset | None:
        """The institution's dataset (of that provider, else the first one), or None.

        SPEC appendix E drops the prefix of a foreign institution in the path; both forms find it. ``provider`` may be a
        providerID or the organisation number in it.
        """
        with self._lock:
            for dataset in self._datasets.values():
                if institution not in {dataset.institution, dataset.institution.partition(":")[2]}:
                    continue
                if provider is None or provider in {dataset.provider, dataset.provider.partition(":")[2]}:
                    return dataset
        return None

    def configure(self, institution: str, provider: str | None = None, **changes: object) -> ServedDataset:
        """Change how a dataset is served (fields of ServedDataset); raises KeyError when there is no such dataset."""
        dataset = self.dataset(institution, provider)
        if dataset is None:
            raise KeyError(institution)
        changed = ServedDataset.model_validate({**dataset.model_dump(), **changes})
        with self._lock:
            self._datasets[dataset.institution, dataset.provider] = changed
            self._version += 1
        return changed

    def misbehave(self, institution: str, fault: Fault | str, provider: str | None = None) -> None:
        """Let a dataset misbehave from now on; ``fault`` may be text for ``Fault.parse``."""
        self.configure(institution, provider, fault=Fault.parse(fault) if isinstance(fault, str) else fault)

    def behave(self, institution: str | None = None, provider: str | None = None) -> None:
        """End the misbehaviour of one dataset, or of all."""
        for dataset in self.datasets() if institution is None else [self.dataset(institution, provider)]:
            if dataset is not None:
                self.configure(dataset.institution, dataset.provider, fault=None)

    def reset(self) -> None:
        """Back to the manners of the start, with no request remembered; the source stays."""
        with self._lock:
            self._datasets = dict(self._initial)
            self._requests.clear()
            self._version += 1

    def take_fault(self, dataset: ServedDataset, page: int | None) -> Fault | None:
        """The fault that strikes this request, if any; one with ``times`` is used up by it."""
        with self._lock:
            key = (dataset.institution, dataset.provider)
            fault = self._datasets[key].fault
            if fault is None or not fault.matches(page):
                return None
            if fault.times is not None:
                left = fault.model_copy(update={"times": fault.times - 1}) if fault.times > 1 else None
                self._datasets[key] = self._datasets[key].model_copy(update={"fault": left})
            return fault

    def remember(self, request: ServedRequest) -> None:
        """Note an answered request; the last 10,000 are kept."""
        with self._lock:
            self._requests.append(request)

    @property
    def requests(self) -> Sequence[ServedRequest]:
        """The answered requests, oldest first."""
        with self._lock:
            return tuple(self._requests)
