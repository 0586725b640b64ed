"""Decides which of an institution's fetched datasets may be loaded (design decision 6)."""

from contextlib import ExitStack

from gjeldsbro.errors import ConfigurationError, DatasetBusyError
from gjeldsbro.log import logger
from gjeldsbro.services.night.common import Clock, Job, after_close, close, leased, outcome
from gjeldsbro.services.night.leases import released
from gjeldsbro.services.night.ports import NightRecords, Objects
from gjeldsbro.services.ports import Dataset, Institution

SMALL_SET = 100
"""Customers below which a shrink is not judged: a few people less would be a large part."""


def judge_institution(
    run: str,
    institution: str,
    providers: list[str],
    *,
    hold: bool,
    records: NightRecords,
    objects: Objects,
    clock: Clock,
) -> dict[str, list[dict[str, str]]]:
    """What to load of the datasets that a run fetched, and what to withdraw after that.

    The customers with loans (on a list of customers: all) of all the institution's providers are counted: those fetched
    now, and yesterday's where a dataset was refused or not fetched. When they are fewer than the last time by more than
    the institution's limit, all that was fetched is held: nothing of it is kept, and the outcome says so.
    ``hold`` False takes it nevertheless.
    """
    known = records.institution(institution)
    if known is None:
        raise ConfigurationError("the institution is no longer set up")
    datasets = {dataset.provider: dataset for dataset in records.datasets(institution)}
    with ExitStack() as leases:
        fetched = {}
        for provider in providers:
            dataset, job = datasets.get(provider), Job(run, institution, provider)
            if dataset is not None and _is_ready(dataset, run):
                try:
                    dataset = leases.enter_context(leased(job, records, clock))
                except DatasetBusyError:
                    _busy(job, records, clock)
                    continue
                datasets[provider] = dataset
                if _is_ready(dataset, run):
                    fetched[provider] = dataset
                    continue
                records.update_dataset(dataset, run, lease=released(dataset.lease, clock()))
                if not _was_held(dataset, run):  # another run took it when our lease had run out, and has finished
                    _busy(job, records, clock)
            if dataset is not None and _was_held(dataset, run):  # an earlier call died, or has not told yet
                assert dataset.last_run is not None
                after_close(job, dataset.last_run, records=records, objects=objects, now=clock())
        return _judge(run, known, datasets, fetched, hold=hold, records=records, objects=objects, clock=clock)


def _judge(
    run: str,
    known: Institution,
    datasets: dict[str, Dataset],
    fetched: dict[str, Dataset],
    *,
    hold: bool,
    records: NightRecords,
    objects: Objects,
    clock: Clock,
) -> dict[str, list[dict[str, str]]]:
    before = sum(dataset.customers for dataset in datasets.values())
    now = before + sum(_change(dataset, known, fetched) for dataset in fetched.values())
    begun = next((dataset.last_run for dataset in datasets.values() if _was_held(dataset, run)), None)
    if begun is not None:  # an earlier call died on the way: what is left is held too, whatever it would be alone
        before, now = begun["customersBefore"], begun["customersNow"]
    if hold and before >= SMALL_SET and (before - now) * 100 > known.max_shrink_percent * before:
        for dataset in fetched.values():
            job = Job(run, known.institution, dataset.provider)
            counted = "customers with loans" if _is_of_loans(dataset) else "customers"
            reason = f"{counted}: {now} after {before}, more than {known.max_shrink_percent} % fewer"
            at = clock()
            result = outcome(job, "held", at, reason=reason, customersBefore=before, customersNow=now)
            close(job, dataset, records=records, objects=objects, result=result, now=at, held=True)
            logger.warning("NIGHT_DATASET_HELD", extra={"dataset": job.subject, "before": before, "now": now})
        return {"datasets": [], "withdrawals": []}
    steps: dict[str, list[dict[str, str]]] = {"datasets": [], "withdrawals": []}
    for provider, dataset in fetched.items():
        step = {"run": run, "institution": known.institution, "provider": provider}
        steps["withdrawals" if _withdraws(dataset) else "datasets"].append(step)
    return steps


def _is_ready(dataset: Dataset, run: str) -> bool:
    return dataset.fetch is not None and dataset.fetch["run"] == run and bool(dataset.fetch["ready"])


def _was_held(dataset: Dataset, run: str) -> bool:
    return dataset.last_run is not None and (dataset.last_run["run"], dataset.last_run["status"]) == (run, "held")


def _withdraws(dataset: Dataset) -> bool:
    return dataset.fetch is not None and bool(dataset.fetch["withdraw"])


def _is_of_loans(dataset: Dataset) -> bool:
    return dataset.fetch is None or dataset.fetch.get("kind", "loans") == "loans"


def _change(dataset: Dataset, institution: Institution, fetched: dict[str, Dataset]) -> int:
    """How the number of customers changes when this dataset is loaded."""
    assert dataset.fetch is not None
    if not _withdraws(dataset):
        return int(dataset.fetch["withLoans"]) - dataset.customers
    if institution.ended:
        return 0  # an operator ended it, on the record: the customers that go are no mistake of the data
    successors = [provider for provider in institution.providers if provider.delivers_datasets and not provider.ended]
    taken = bool(successors) and all(provider.provider in fetched for provider in successors)
    return -dataset.customers if taken else 0


def _busy(job: Job, records: NightRecords, clock: Clock) -> None:
    now = clock()
    records.put_outcome(job.run, job.subject, outcome(job, "busy", now, reason="another run works on it"), now)
