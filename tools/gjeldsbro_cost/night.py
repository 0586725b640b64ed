"""The nightly fetch: what each of its functions asks of AWS when nothing goes wrong.

The formulas follow ``gjeldsbro.services.night`` step by step, with its own constants. What the real functions do holds
them to it (``tests/integration/test_costs.py``).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gjeldsbro.adapters.data_store import PART_SIZE
from gjeldsbro.adapters.register import BATCH_SIZE
from gjeldsbro.domain.dataset_index import DATASET_ROW_SIZE, INDEX_ROW_SIZE, PAGE_ROW_SIZE, PENDING_ROW_SIZE
from gjeldsbro.services.night.load import STRIDE
from gjeldsbro.services.night.records import CHUNK_BUDGET, MERGE_WIDTH, WINDOW_BUDGET
from gjeldsbro.services.reports.night import NIGHTS
from gjeldsbro_cost.rates import Rates
from gjeldsbro_cost.usage import Flow, Work, opened, pieces, written
from gjeldsbro_cost.usage import deleted as deleting

_CHUNK = 1 << 20
_LEAST = 1 << 16


@dataclass(frozen=True)
class Dataset:
    """A dataset and how it differs from the night before."""

    customers: int
    """In its pages, those without loans included."""
    stored: int
    """Those with loans: each is an item of the register."""
    before: int
    """Items that the register had of it; 0 on the first night."""
    put: int
    """Items that are written: those that are new or changed, or all, on the first night and once a week."""
    deleted: int
    page: int
    """Customers of a page."""

    @property
    def pages(self) -> int:
        """How many pages it comes in."""
        return max(1, pieces(self.customers, self.page))


type Institution = Sequence[Dataset]
"""Most have one dataset; those with several providers have one of each."""


def night(groups: Sequence[Sequence[Institution]], rates: Rates, *, earlier: int = 0) -> Flow:
    """A night; the institutions of a group are fetched from one server. ``earlier`` nights have left reports."""
    institutions = [institution for group in groups for institution in group]
    datasets = [dataset for institution in institutions for dataset in institution]
    flow = Flow()
    flow.add("plan_night", _plan(len(institutions), rates))
    for institution in institutions:
        flow.add("fetch_pages", *(fetch(dataset, rates) for dataset in institution))
        flow.add("judge_institution", _judge(len(institution), rates))
        flow.add("load_dataset", *(load(dataset, rates) for dataset in institution))
    flow.add("report_night", _report(len(datasets), rates, min(earlier, NIGHTS - 1)))
    # The plan, the Map and the report; a group's Map and its end; of an institution three Maps, the judge and the end;
    # of a dataset, twice: the work, whether it is done, and that it is.
    flow.transitions = 3 + 2 * len(groups) + 5 * len(institutions) + 6 * len(datasets)
    return flow


def _plan(institutions: int, rates: Rates) -> Work:
    requests = {"dynamodb.Query/partners": 1, "s3.PutObject/data": 1, "dynamodb.PutItem/partners": 1}
    return Work(1, Counter(requests), read_units=rates.institutions_units(institutions), cpu=rates.call)


def fetch(dataset: Dataset, rates: Rates) -> Work:
    """Lease, cursor, pages (rows, records and cursor each), merge of the rows, ready, lease."""
    pages = dataset.pages
    assert pages <= MERGE_WIDTH, "more pages than that are merged in groups"
    requests = Counter(
        {
            "secrets-manager.GetSecretValue": 2,
            "dynamodb.GetItem/partners": 3,
            "dynamodb.UpdateItem/partners": 4 + pages,
            "s3.PutObject/data": 2 * pages,
        }
    )
    chunk = max(_LEAST, min(_CHUNK, CHUNK_BUDGET // pages))
    for customers in page_sizes(dataset):
        requests += opened(PAGE_ROW_SIZE * customers, chunk)
    requests += written(DATASET_ROW_SIZE * dataset.stored, PART_SIZE)
    cpu = rates.call + rates.fetch_customer * dataset.customers
    return Work(1, requests, read_units=3, cpu=cpu, fetched=rates.customer_bytes * dataset.customers)


def _judge(datasets: int, rates: Rates) -> Work:
    requests = {
        "dynamodb.GetItem/partners": 1 + datasets,
        "dynamodb.UpdateItem/partners": 2 * datasets,
        "dynamodb.Query/partners": 1,
    }
    return Work(1, Counter(requests), read_units=2 + datasets, cpu=rates.call)


def load(dataset: Dataset, rates: Rates) -> Work:
    """Lease; compare and note what is to change; write it, a note each stride; commit, supersede pushes, tidy up."""
    pending = dataset.put + dataset.deleted
    strides = pieces(pending, STRIDE)
    requests = Counter(
        {
            "dynamodb.GetItem/partners": 4,
            "dynamodb.UpdateItem/partners": 4 + strides,
            "dynamodb.Query/register": 1,  # pushes, of which none are in the model
            "dynamodb.PutItem/partners": 1,
            "s3.ListObjectsV2/data": 4,
            "s3.DeleteObjects/data": 1 if pending else 2,  # the old index and list; an empty list goes at once
            "dynamodb.BatchWriteItem/register": _batches(dataset.put, strides) + _batches(dataset.deleted, strides),
        }
    )
    requests += opened(DATASET_ROW_SIZE * dataset.stored, _CHUNK)
    requests += written(INDEX_ROW_SIZE * dataset.stored, PART_SIZE) + written(PENDING_ROW_SIZE * pending, PART_SIZE)
    if dataset.before:
        requests += opened(INDEX_ROW_SIZE * dataset.before, _CHUNK)
    if pending:
        requests += opened(PENDING_ROW_SIZE * pending, _CHUNK) + _records(dataset, rates)
    requests += deleting(2 * dataset.pages + 1)
    rows = dataset.stored + dataset.before
    cpu = rates.call + rates.load_row * rows + rates.load_item * pending
    return Work(1, requests, written=dataset.put, deleted=dataset.deleted, read_units=4.5, cpu=cpu)


def _records(dataset: Dataset, rates: Rates) -> Counter[str]:
    """What is written is read from the pages' records, through a window that moves over each file, or jumps."""
    requests: Counter[str] = Counter()
    window = max(_LEAST, min(_CHUNK, WINDOW_BUDGET // dataset.pages))
    for customers in page_sizes(dataset):
        size = rates.record_bytes * customers * dataset.stored / dataset.customers
        touched = dataset.put * customers / dataset.customers
        if touched * window >= size:
            requests += opened(size, window)
        else:
            requests += Counter({"s3.HeadObject/data": round(touched), "s3.GetObject/data": round(touched)})
    return requests


def _batches(items: int, strides: int) -> int:
    """Full batches, but for the last one of each stride."""
    if not items:
        return 0
    each, rest = divmod(items, strides)
    return pieces(each, BATCH_SIZE) * (strides - 1) + pieces(each + rest, BATCH_SIZE)


def page_sizes(dataset: Dataset) -> list[int]:
    """The customers of each page."""
    full, rest = divmod(dataset.customers, dataset.page)
    return [dataset.page] * full + ([rest] if rest or not full else [])


def _report(datasets: int, rates: Rates, earlier: int) -> Work:
    requests = Counter(
        {
            "dynamodb.Query/partners": 4,
            "dynamodb.GetItem/partners": 2,
            "dynamodb.PutItem/partners": 2,
            "s3.PutObject/reports": 2,
            "s3.GetObject/reports": 1 + earlier,
            "s3.GetObject/data": 1,
            "sns.Publish": 1,
        }
    )
    requests += deleting(1)
    units = 2 * rates.datasets_units(datasets) + rates.institutions_units(datasets) + earlier + 3
    return Work(1, requests, read_units=units, cpu=rates.report)
