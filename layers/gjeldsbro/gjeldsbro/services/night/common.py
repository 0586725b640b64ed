"""What the steps of the night share: names of objects, the lease, outcomes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import Violation
from gjeldsbro.services.night.ports import NightRecords, Objects
from gjeldsbro.services.ports import Dataset

FLOW = "nightly"

LEASE_SECONDS = 20 * 60
"""Longer than the longest function (15 minutes): while a function may still be writing, its lease has not run out."""

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
    def index_key(self) -> str:
        """The index, once this run's dataset is accepted."""
        return f"{self.index_folder}{self.run}.idx"

    @property
    def index_folder(self) -> str:
        """Where the dataset's indexes are: one, but for the moment of a switch."""
        return f"index/{self.institution}/{self.provider}/"

    @property
    def pending_folder(self) -> str:
        """Where lists of customers about to change are: one, and only while a load is unfinished."""
        return f"pending/{self.institution}/{self.provider}/"

    def rows_key(self, page: int) -> str:
        """A page's rows."""
        return f"{self.folder}pages/{page:05d}.idx"

    def records_key(self, page: int) -> str:
        """A page's records."""
        return f"{self.folder}pages/{page:05d}.rec"


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
    """End this run's work on a dataset without taking it: outcome, files, lease. The register is left as it is."""
    records.put_outcome(job.run, job.subject, result, now)
    objects.delete_prefix(job.folder)
    records.update_dataset(
        dataset,
        job.run,
        lease=None,
        fetch=None,
        last_run=result,
        **({} if held is None else {"held": held}),
    )
