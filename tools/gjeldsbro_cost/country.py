"""The register of a country: nights, exports and months, in requests, minutes and euro.

What a customer takes was measured (``rates``), what AWS is asked follows the code (``night``, ``export``); what neither
can know stands here as a named assumption.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from heapq import heapreplace
from typing import Final, NamedTuple

from gjeldsbro.domain.dataset_index import INDEX_ROW_SIZE
from gjeldsbro.services.export.read_lists import BATCH_SIZE
from gjeldsbro.services.night.fetch import PAGE_SECONDS
from gjeldsbro.services.night.fetch import RESERVE_SECONDS as FETCH_RESERVE
from gjeldsbro.services.night.load import FULL_DAYS
from gjeldsbro.services.night.load import RESERVE_SECONDS as LOAD_RESERVE
from gjeldsbro_cost import export, night, prices, template
from gjeldsbro_cost.night import Dataset
from gjeldsbro_cost.rates import Rates
from gjeldsbro_cost.usage import Flow, Work

# What is assumed of the country

INSTITUTIONS: Final = 170
PAIRS: Final = 10_000_000
"""Customers of institutions, each counted at each of them; about 4 million people."""
WITHOUT_LOANS: Final = 0.02
"""Customers of pages who have no loans: they are read and not stored."""
ON_ONE_SERVER: Final = 90
"""The smallest institutions come from one supplier's server."""
AT_ONE_SERVER: Final = 4
"""Institutions of one server that are worked on at once (statemachines/nightly_fetch.asl.json)."""
PAGE: Final = 100_000
"""Customers of a page: 50 MB or more (FUNC-08)."""
DELETED: Final = 0.2
"""Of the customers that differ from the night before, so many are gone; the others are written."""
NIGHTS_A_MONTH: Final = 30

# What is assumed of time

LAMBDA_SPEED: Final = 0.7
"""A whole processor of Lambda beside the machine of the measurement."""
WHOLE_PROCESSOR: Final = 1769
"""MB of memory with which a function has one."""
START: Final = 0.6
"""Seconds of a call before our code begins: most calls of a night start a process."""
DOWNLOAD: Final = 15e6
"""Bytes of JSON a second from an institution; a fifth to a tenth of that over the wire."""
UPLOAD: Final = 10e6
"""Bytes a second to a receiver, and back when the copy is compared."""
WAITS: Final = {"dynamodb": 0.006, "s3": 0.030, "secrets-manager": 0.020, "sns": 0.050}
"""Seconds for a request that is waited for by itself."""
AT_ONCE: Final = 16
"""Batches and queries of the register that a function has under way (``adapters.register.CONCURRENCY``)."""
SIDE_BY_SIDE: Final = {"dynamodb.BatchWriteItem/register": 0.020, "dynamodb.Query/register": 0.006}
"""Those, and how long one takes."""
NEW_TABLE: Final = 4_000
"""Write units a second that a new table takes at first."""
OLD_TABLE: Final = 40_000
"""And a table that has grown, unless the account's limit is raised."""

# What is assumed of small things

KEY_CALLS: Final = 3
"""Of KMS, for each call of a function: buckets and tables keep their data keys."""
LOG_BYTES: Final = 2_000
"""Of a call."""
WIRE: Final = 1 / 8
"""Of what institutions send, over the network: it is compressed."""
ITEM_OVERHEAD: Final = 100
"""Bytes that DynamoDB adds to each item that it keeps."""
METRICS: Final = 12
"""Metrics of our own."""
HOURS_A_MONTH: Final = 730


class Share(NamedTuple):
    """A night: what part of the customers differs, and whether everything is written."""

    name: str
    changed: float
    full: bool = False
    first: bool = False


@dataclass(frozen=True)
class Run:
    """What a night or an export of the country takes."""

    name: str
    flow: Flow
    seconds: float
    """From start to end."""
    largest: float
    """Seconds for the largest institution, or the largest package."""
    at_once: int
    """Functions at work at the same time, at most."""
    gb_seconds: float

    def euro(self) -> dict[str, float]:
        """By what it is paid for."""
        total, flow = self.flow.total(), self.flow
        requests = total.requests
        dollars = {
            "DynamoDB, writes": total.write_units * prices.WRITE_UNIT,
            "DynamoDB, reads": total.read_units * prices.READ_UNIT,
            "Lambda": self.gb_seconds * prices.LAMBDA_GB_SECOND + total.calls * prices.LAMBDA_CALL,
            "Step Functions": flow.transitions * prices.TRANSITION,
            "S3, requests": s3_writes(total) * prices.S3_WRITE + s3_reads(total) * prices.S3_READ,
            "Secrets, keys, logs": requests["secrets-manager.GetSecretValue"] * prices.SECRET_CALL
            + total.calls * (KEY_CALLS * prices.KEY_CALL + LOG_BYTES / 1e9 * prices.LOG_GB),
            "data to receivers": total.delivered / 1e9 * prices.OUT_GB,
        }
        return {name: amount * prices.EURO_PER_DOLLAR for name, amount in dollars.items()}

    def sum(self) -> float:
        """Euro."""
        return sum(self.euro().values())


def s3_writes(work: Work) -> int:
    """Requests at the price of a PUT."""
    dear = ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "ListObjectsV2")
    return sum(times for name, times in work.requests.items() if name.startswith("s3.") and _operation(name) in dear)


def s3_reads(work: Work) -> int:
    """Requests at the price of a GET."""
    return sum(times for name, times in work.requests.items() if _operation(name) in {"GetObject", "HeadObject"})


def _operation(name: str) -> str:
    return name.partition(".")[2].partition("/")[0]


def sizes(pairs: int = PAIRS, institutions: int = INSTITUTIONS) -> list[int]:
    """Customers of each institution, the largest first: the second has half as many, the third a third (Zipf)."""
    weights = [1 / (rank + 1) for rank in range(institutions)]
    return [max(1, round(pairs * weight / sum(weights))) for weight in weights]


def dataset(customers: int, share: Share) -> Dataset:
    """An institution's dataset on such a night."""
    stored = round(customers * (1 - WITHOUT_LOANS))
    if share.first:
        return Dataset(customers, stored, before=0, put=stored, deleted=0, page=PAGE)
    touched = round(stored * share.changed)
    gone = round(touched * DELETED)
    return Dataset(customers, stored, stored, stored if share.full else touched - gone, gone, PAGE)


def a_night(share: Share, rates: Rates, customers: Sequence[int]) -> Run:
    """A night of the country."""
    datasets = [dataset(count, share) for count in customers]
    together = min(ON_ONE_SERVER, len(datasets) - 1)
    alone = len(datasets) - together
    groups = [[[one]] for one in datasets[:alone]] + ([[[one] for one in datasets[alone:]]] if together else [])
    flow = night.night(groups, rates, earlier=34)
    times = [institution_seconds(one, rates) for one in datasets]
    for one in datasets:
        _call_again(flow, one, rates)
    lanes = template.default("MaxConcurrency")
    shared = [sum(times[alone:]) / AT_ONE_SERVER] if together else []
    seconds = _lanes([*times[:alone], *shared], lanes)
    seconds = max(seconds, flow.total().written / (NEW_TABLE if share.first else OLD_TABLE))
    ends = sum(_call_seconds(name, flow.works[name]) for name in ("plan_night", "report_night"))
    at_once = min(lanes, len(groups)) + (min(together, AT_ONE_SERVER) - 1 if together else 0)
    return Run(share.name, flow, seconds + ends, max(times), at_once, _gb_seconds(flow))


def institution_seconds(one: Dataset, rates: Rates) -> float:
    """Fetched, judged and loaded, one after the other."""
    works = {"fetch_pages": night.fetch(one, rates), "load_dataset": night.load(one, rates)}
    return sum(_call_seconds(name, work) for name, work in works.items()) + START + 0.1


def _call_again(flow: Flow, one: Dataset, rates: Rates) -> None:
    """A fetch and a load that take longer than one call of their function are called again, until they are done."""
    for function, work, reserve in (
        ("fetch_pages", night.fetch(one, rates), PAGE_SECONDS + FETCH_RESERVE),
        ("load_dataset", night.load(one, rates), LOAD_RESERVE),
    ):
        usable = template.functions()[function].timeout - reserve
        more = int(_call_seconds(function, work) // usable)
        flow.works[function].calls += more
        flow.transitions += 2 * more


def an_export(rates: Rates, lists: Sequence[int], institutions: int = INSTITUTIONS) -> Run:
    """A quarter's export of the country: each institution gets a package about its own customers."""
    flow = export.export(lists, rates, datasets=institutions)
    lanes = template.default("MaxConcurrency")
    slices = flow.works["build_slice"]
    a_slice = _call_seconds("build_slice", slices) / slices.calls
    reading = [_call_seconds("read_ssn_lists", export.read_list(one, -(-one // BATCH_SIZE), rates)) for one in lists]
    sending = [_call_seconds("deliver_package", export.deliver(one, -(-one // BATCH_SIZE), rates)) for one in lists]
    others = ("plan_export", "plan_packages", "plan_deliveries", "report_export")
    ends = sum(_call_seconds(name, flow.works[name]) for name in others)
    seconds = _lanes(reading, lanes) + _lanes([a_slice] * slices.calls, lanes) + _lanes(sending, lanes) + ends
    return Run("an export", flow, seconds, max(sending), min(lanes, slices.calls), _gb_seconds(flow))


def _call_seconds(function: str, work: Work) -> float:
    """Seconds that all calls of this work take together."""
    speed = LAMBDA_SPEED * min(1.0, template.functions()[function].memory / WHOLE_PROCESSOR)
    together = sum(work.requests[name] * seconds for name, seconds in SIDE_BY_SIDE.items()) / AT_ONCE
    singly = sum(
        times * WAITS[name.partition(".")[0]] for name, times in work.requests.items() if name not in SIDE_BY_SIDE
    )
    network = work.fetched / DOWNLOAD + 2 * work.delivered / UPLOAD
    return work.calls * START + max(work.cpu / speed, together) + singly + network


def _gb_seconds(flow: Flow) -> float:
    return sum(
        _call_seconds(name, work) * template.functions()[name].memory / 1024 for name, work in flow.works.items()
    )


def _lanes(times: Iterable[float], lanes: int) -> float:
    """How long it takes when so many are worked on at once, and the longest come last, which is the worst order."""
    ends = [0.0] * lanes
    for seconds in sorted(times):
        heapreplace(ends, ends[0] + seconds)
    return max(ends)


def weekly(ordinary: Run, full: Run) -> dict[str, float]:
    """Euro of an average night: each dataset is written in full on one night of the week."""
    share = 1 / FULL_DAYS
    return {name: (1 - share) * amount + share * full.euro()[name] for name, amount in ordinary.euro().items()}


def standing(rates: Rates) -> dict[str, float]:
    """Euro a month that are paid also when nothing happens."""
    stored = PAIRS * (1 - WITHOUT_LOANS)
    dollars = {
        "keys": template.how_many("AWS::KMS::Key") * prices.KEY_MONTH,
        "secrets (ours, and one for each receiver)": (template.how_many("AWS::SecretsManager::Secret") + INSTITUTIONS)
        * prices.SECRET_MONTH,
        "alarms, metrics, dashboard": template.how_many("AWS::CloudWatch::Alarm") * prices.ALARM_MONTH
        + METRICS * prices.METRIC_MONTH
        + prices.DASHBOARD_MONTH,
        "the register, stored": stored * (rates.item_bytes + ITEM_OVERHEAD) / 1e9 * prices.TABLE_GB_MONTH,
        "indexes, stored": stored * INDEX_ROW_SIZE / 1e9 * prices.S3_GB_MONTH,
        "the watch, every quarter of an hour": _watch(rates),
    }
    return {name: amount * prices.EURO_PER_DOLLAR for name, amount in dollars.items()}


def _watch(rates: Rates) -> float:
    """It reads all institutions, all datasets and the runs."""
    units = rates.institutions_units(INSTITUTIONS) + rates.datasets_units(INSTITUTIONS) + 30
    memory = template.functions()["watch_operations"].memory / 1024
    return 4 * HOURS_A_MONTH * (units * prices.READ_UNIT + prices.LAMBDA_CALL + memory * 1.0 * prices.LAMBDA_GB_SECOND)


def network(nightly: Run, quarterly: Run) -> float:
    """Euro a month when the functions reach the world through a NAT gateway, for a fixed address."""
    gigabytes = (NIGHTS_A_MONTH * WIRE * nightly.flow.total().fetched + quarterly.flow.total().delivered / 3) / 1e9
    return (HOURS_A_MONTH * prices.NAT_HOUR + gigabytes * prices.NAT_GB) * prices.EURO_PER_DOLLAR


def grown(share: Share, rates: Rates, times: float) -> Run:
    """A night in which every institution has so many times the customers."""
    return replace(
        a_night(share, rates, [round(size * times) for size in sizes()]), name=f"{times:g} times the customers"
    )
