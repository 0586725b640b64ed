"""What the steps of the night share: names of objects, the lease, outcomes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import DatasetBusyError, Violation
from gjeldsbro.services.night.leases import LEASE_SECONDS, released, rested
from gjeldsbro.services.night.ports import NightRecords, Objects
from gjeldsbro.services.ports import Dataset

FLOW = "nightly"

VIOLATIONS_SHOWN = 20
"""Places that an outcome names; beyond them it gives their number."""

Clock = Callable[[], datetime]
Remaining = Callable[[], float]
"""Seconds until the function is ended."""


@dataclass(frozen=True)
class Job:
    """One run's work on one dataset."""

    run: str
    institution: str
    provider: str

    @property
    def subject(self) -> str:
        """Its name among the outcomes of the run."""
        return f"{self.institution}#{self.provider}"

    @property
    def folder(self) -> str:
        """Where its working files are."""
        return f"{run_folder(self.run)}{self.institution}/{self.provider}/"

    @property
    def dataset_key(self) -> str:
        """The merged pages (dataset rows, see domain.dataset_index)."""
        return f"{self.folder}dataset.rows"

    @property
    def index_folder(self) -> str:
        """Where the dataset's indexes are: one, but for the moment of a switch."""
        return f"index/{self.institution}/{self.provider}/"

    @property
    def pending_folder(self) -> str:
        """Where lists of customers about to change are: one, and only while a load is unfinished."""
        return f"pending/{self.institution}/{self.provider}/"

    def rows_key(self, page: int, by: str) -> str:
        """A page's rows, as the invocation with the token ``by`` fetched it."""
        return f"{self.folder}pages/{page:05d}{by and '-'}{by}.idx"

    def records_key(self, page: int, by: str) -> str:
        """A page's records, likewise."""
        return f"{self.folder}pages/{page:05d}{by and '-'}{by}.rec"

    def group_rows_key(self, group: int, by: str) -> str:
        """The rows of a group of pages, as the invocation with the token ``by`` merged them."""
        return f"{self.folder}groups/{group:03d}-{by}.idx"

    def group_records_key(self, group: int, by: str) -> str:
        """The records of a group of pages, likewise."""
        return f"{self.folder}groups/{group:03d}-{by}.rec"


def run_folder(run: str) -> str:
    """Where a run's working files are."""
    return f"runs/nightly/{run}/"


def manifest_key(run: str) -> str:
    """The planner's list of what the run is to do."""
    return f"{run_folder(run)}manifest.json"


def outcome(job: Job, status: str, now: datetime, **fields: Any) -> dict[str, Any]:
    """What a run did with a dataset: loaded, unchanged, refused, held, busy or failed. References and counts only."""
    return {
        "institution": job.institution,
        "provider": job.provider,
        "run": job.run,
        "status": status,
        "at": from_datetime(now),
        **fields,
    }


def refusal(violations: list[Violation], total: int) -> dict[str, Any]:
    """The fields of an outcome that say why: places and rules, never values."""
    shown = violations[:VIOLATIONS_SHOWN]
    return {
        "reason": str(shown[0]) + (f"; and {total - 1} more" if total > 1 else ""),
        "violations": [{"place": violation.place, "rule": violation.rule} for violation in shown],
        "totalViolations": total,
    }


@contextmanager
def leased(job: Job, records: NightRecords, clock: Clock) -> Iterator[Dataset]:
    """The dataset, while this invocation works on it and no other does.

    Raises DatasetBusyError while another run has it. The end of the block, also by an error, tells the run's next
    invocation that this one writes nothing more; one that is killed cannot tell, and the lease is contested then.
    """
    dataset = records.take_lease(job.institution, job.provider, job.run, clock(), LEASE_SECONDS)
    assert dataset.lease is not None
    try:
        yield dataset
    except Exception:
        with suppress(Exception):  # the error that ends the block is the one to tell
            _rest(dataset, job, records)
        raise
    _rest(dataset, job, records)


def _rest(dataset: Dataset, job: Job, records: NightRecords) -> None:
    assert dataset.lease is not None
    with suppress(DatasetBusyError):  # the work is done and the lease given back, or another invocation has it
        records.update_dataset(dataset, job.run, lease=rested(dataset.lease))


def close(
    job: Job,
    dataset: Dataset,
    *,
    records: NightRecords,
    objects: Objects,
    result: dict[str, Any],
    now: datetime,
    held: bool | None = None,
) -> None:
    """End this run's work on a dataset without taking it: record, outcome, files. The register is left as it is.

    The record first: an invocation that is no longer the run's last may neither report nor delete anything.
    """
    changes = {} if held is None else {"held": held}
    records.update_dataset(dataset, job.run, lease=released(dataset.lease, now), fetch=None, last_run=result, **changes)
    after_close(job, result, records=records, objects=objects, now=now)


def is_closed(job: Job, dataset: Dataset) -> bool:
    """Whether the run has ended its work on the dataset; an earlier call may have died before it told."""
    begun = dataset.fetch is not None and dataset.fetch["run"] == job.run
    return not begun and dataset.last_run is not None and dataset.last_run["run"] == job.run


def after_close(job: Job, result: dict[str, Any], *, records: NightRecords, objects: Objects, now: datetime) -> None:
    """What follows the end of the work on a dataset; all of it may be done twice."""
    records.put_outcome(job.run, job.subject, result, now)
    objects.delete_prefix(job.folder)
