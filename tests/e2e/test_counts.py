"""The cost model against the deployed stack: what a night of small datasets asked of it, by its own audit log."""

from collections import Counter

from tests.e2e.conftest import page_size
from tests.executions import snake

from gjeldsbro_cost.night import Dataset, night
from gjeldsbro_cost.rates import Rates

_AS_LOGGED = {"s3.ListObjectsV2": "s3.ListObjects", "s3.DeleteObjects": "s3.POST.s3", "sns.Publish": "sns.POST.sns"}


def test_a_night_asks_what_the_model_says(parties, nights) -> None:
    """Every request of the functions, by operation. Secrets are kept by processes: at most one reading a call."""
    model = _model(parties)
    foretold: Counter[str] = Counter()
    for name, times in model.total().requests.items():
        call = name.partition("/")[0].replace("secrets-manager", "secretsmanager")
        foretold[_AS_LOGGED.get(call, call)] += times
    counted = Counter(nights.audit.requests)
    read, at_most = counted.pop("secretsmanager.GetSecretValue"), foretold.pop("secretsmanager.GetSecretValue")
    assert counted == foretold
    assert 2 <= read <= at_most


def test_a_night_takes_the_calls_that_the_model_says(parties, nights) -> None:
    """How often each function was called, by what the stack wrote into its log."""
    foretold = {name: work.calls for name, work in _model(parties).works.items()}
    assert {snake(name): calls for name, calls in nights.audit.calls.items()} == foretold


def _model(parties):
    """The first night: everybody on one server; of one institution a list, all of whose customers are stored."""
    population = parties.first_night
    institutions = []
    for institution in population.institutions:
        datasets = []
        for provider in institution.providers:
            dataset = (institution.institution, provider)
            customers = population.count(*dataset)
            stored = customers if dataset == parties.asked else population.count_with_loans(*dataset)
            page = None if dataset == parties.asked else page_size(dataset, parties)
            datasets.append(Dataset(customers, stored, before=0, put=stored, deleted=0, page=page or customers))
        institutions.append(datasets)
    return night([institutions], Rates(record_bytes=300))
