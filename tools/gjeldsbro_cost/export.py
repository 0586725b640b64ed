"""The quarterly export: what each of its functions asks of AWS when nothing goes wrong.

As ``night``: the formulas follow ``gjeldsbro.services.export``.
"""

from collections import Counter
from collections.abc import Sequence

from gjeldsbro.services.export.loans import _READ_AT_ONCE as READ_AT_ONCE
from gjeldsbro.services.export.read_lists import BATCH_SIZE, LOOK_AT_TIME, PIECE_SIZE
from gjeldsbro.services.reports.export import QUARTERS
from gjeldsbro_cost.rates import Rates
from gjeldsbro_cost.usage import Flow, Work, deleted, opened, pieces

_CHUNK = 1 << 20
_NUMBER = 12
"""Bytes of a number in a list, with its comma."""
_REPORT = 500
"""Bytes of a progress report without findings, about."""
_KEYS_A_PAGE = 1000


def export(lists: Sequence[int], rates: Rates, *, datasets: int) -> Flow:
    """An export to receivers with one list each, of so many numbers; ``datasets`` are in the register."""
    flow, count = Flow(), len(lists)
    batches = [pieces(numbers, BATCH_SIZE) for numbers in lists]
    flow.add("plan_export", _plan(count, rates))
    flow.add("plan_packages", _plan_packages(count, rates))
    for numbers, of_list in zip(lists, batches, strict=True):
        flow.add("read_ssn_lists", read_list(numbers, of_list, rates))
        left = numbers
        for _ in range(of_list):
            flow.add("build_slice", build(min(left, BATCH_SIZE), rates, datasets))
            left -= BATCH_SIZE
        flow.add("deliver_package", deliver(numbers, of_list, rates))
    flow.add("plan_deliveries", _plan_deliveries(batches, rates))
    flow.add("report_export", _report(batches, rates))
    # Four functions, three Maps, three questions; of a list, a batch and a package: the work, whether it is done, that
    # it is; of a receiver with packages the Map and its end.
    flow.transitions = 10 + 3 * count + 3 * sum(batches) + 5 * count
    return flow


def _plan(lists: int, rates: Rates) -> Work:
    requests = {
        "dynamodb.Query/partners": 1,
        "dynamodb.GetItem/partners": lists,
        "dynamodb.PutItem/partners": 1,
        "s3.PutObject/data": 2,
    }
    return Work(1, Counter(requests), read_units=lists + rates.institutions_units(lists), cpu=rates.call)


def read_list(numbers: int, batches: int, rates: Rates) -> Work:
    """Copied in pieces, read a second time, judged, cut into batches, reported."""
    size = _NUMBER * numbers - 1
    copied = pieces(size, PIECE_SIZE)
    requests = Counter(
        {
            "secrets-manager.GetSecretValue": 1,
            "dynamodb.GetItem/partners": 1,
            "s3.GetObject/data": 3,
            "s3.PutObject/data": 8 + 3 * copied + batches,
            "s3.HeadObject/data": 2,  # of what was invalid, and what came twice: nothing
            "s3.ListObjectsV2/data": 3,
            "s3.DeleteObjects/data": 1,
        }
    )
    for piece in range(copied):
        requests += opened(min(PIECE_SIZE, size - piece * PIECE_SIZE), _CHUNK)
    requests += opened(_REPORT, LOOK_AT_TIME) + deleted(copied)
    return Work(1, requests, read_units=1, cpu=rates.call + rates.list_number * numbers)


def _plan_packages(lists: int, rates: Rates) -> Work:
    requests = {"dynamodb.Query/partners": 1, "s3.GetObject/data": 1 + lists, "s3.PutObject/data": 1}
    return Work(1, Counter(requests), read_units=1, cpu=rates.call)


def build(numbers: int, rates: Rates, datasets: int) -> Work:
    """A slice: a Query for each number, and what is known of the institutions for some hundred together."""
    groups = pieces(numbers, READ_AT_ONCE)
    requests = {
        "secrets-manager.GetSecretValue": 1,
        "dynamodb.Query/register": numbers,
        "dynamodb.Query/partners": 2 * groups,
        "s3.GetObject/data": 3,
        "s3.PutObject/data": 2,
        "s3.DeleteObjects/data": 1,
    }
    units = numbers + groups * (rates.institutions_units(datasets) + rates.datasets_units(datasets))
    return Work(1, Counter(requests), read_units=units, cpu=rates.call + rates.build_number * numbers)


def _plan_deliveries(batches: Sequence[int], rates: Rates) -> Work:
    requests = {
        "dynamodb.Query/partners": 1,
        "s3.GetObject/data": 1 + len(batches),
        "s3.ListObjectsV2/data": sum(_listed(of_list) for of_list in batches),
        "s3.PutObject/data": 1,
    }
    return Work(1, Counter(requests), read_units=1, cpu=rates.call)


def deliver(numbers: int, batches: int, rates: Rates) -> Work:
    """A package's slices are read three times: for its digest, to be sent, and to be compared with what arrived."""
    requests = Counter(
        {
            "secrets-manager.GetSecretValue": 1,
            "dynamodb.GetItem/partners": 5,
            "dynamodb.UpdateItem/partners": 2,
            "dynamodb.PutItem/partners": 2,
            "s3.GetObject/data": 2 + batches,
            "s3.PutObject/data": 6,
            "s3.ListObjectsV2/data": _listed(batches),
        }
    )
    size, left = rates.packed_bytes * numbers, numbers
    for _ in range(batches):
        some = opened(rates.packed_bytes * min(left, BATCH_SIZE), _CHUNK)
        requests += some + some + some
        left -= BATCH_SIZE
    return Work(1, requests, read_units=5, cpu=rates.call + rates.deliver_byte * size, delivered=size)


def _listed(batches: int) -> int:
    """A slice is two objects: bytes and description."""
    return max(1, pieces(2 * batches, _KEYS_A_PAGE))


def _report(batches: Sequence[int], rates: Rates) -> Work:
    lists = len(batches)
    requests = Counter(
        {
            "dynamodb.Query/partners": 3 + QUARTERS,
            "dynamodb.GetItem/partners": lists + 2,
            "dynamodb.PutItem/partners": 2,
            "s3.GetObject/data": 1 + 2 * lists,
            "s3.PutObject/reports": 2,
            "s3.GetObject/reports": 1,
            "sns.Publish": 1,
        }
    )
    for of_list in batches:
        requests += deleted(2 * of_list + 1)
    requests += deleted(4 + 2 * lists)
    return Work(1, requests, read_units=lists + 3 + QUARTERS, cpu=rates.report)
