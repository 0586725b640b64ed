"""Rights on parts of the PartnerTable, which nothing on this machine enforces, against what is asked of it."""

import json
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import pytest
from functions.check_connection import check_connection
from functions.receive_push import receive_push
from functions.search_debt import search_debt
from functions.show_customer import show_customer
from functions.show_lookups import show_lookups
from functions.watch_operations import watch_operations
from tests.cloudformation import ROOT
from tests.integration.partner_rights import allowed_by, covers, requests_of
from tests.integration.test_show_customer import CONTEXT

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.lookup_wiring import CONNECTIONS
from gjeldsbro.services.ports import Institution, Lender, Provider, Receiver
from gjeldsbro_population import Population
from gjeldsbro_simulator import Simulator


@lru_cache
def _nothing() -> None:
    """Stands for the cache of a function that has none."""


@pytest.fixture
def asked(aws) -> set[tuple[str, str]]:
    """The (verb, partition key) of every request to the PartnerTable from now on."""
    requests: set[tuple[str, str]] = set()

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        requests.update(requests_of(model.name, params))

    aws_clients.dynamodb().meta.events.register("before-parameter-build.dynamodb", note)
    return requests


def _invoke(function: Any) -> Any:
    """What a function makes of its sample event."""
    getattr(function, "_secrets", _nothing).cache_clear()
    name = function.__name__.rpartition(".")[2]
    return function.lambda_handler(json.loads((ROOT / "events" / f"{name}.json").read_text()), CONTEXT)


@pytest.mark.parametrize(
    ("function", "rights"),
    [
        (receive_push, "ReceivePushRights"),
        (check_connection, "CheckConnectionRights"),
        (show_customer, "ShowCustomerRights"),
        (show_lookups, "ShowLookupsRights"),
        (watch_operations, "WatchOperationsRights"),
    ],
)
def test_a_function_asks_the_partner_table_for_what_it_may_have(partners, asked, function, rights) -> None:
    """No request has a partition key that the role's conditions leave out: AWS would refuse it, and only AWS."""
    partners.put_institution(Institution("920013015", "Testbanken AS", providers=(Provider("9908:920013015"),)))
    now = datetime.now(UTC)
    started = {"startedAt": from_datetime(now), "quarter": str(Quarter.of(now))}
    partners.put_run("export", "last", started, now)
    partners.put_receiver(Receiver("920013015", "Testbanken AS", ("920013015",), "sftp://bank", ("key",), "receiver"))
    asked.clear()
    _invoke(function)
    allowed = allowed_by(rights)
    refused = {one for one in asked if not any(covers(right, one) for right in allowed)}
    assert refused == set()
    assert [key for _, key in allowed if not any(fnmatchcase(partition, key) for _, partition in asked)] == []


def test_a_lookup_asks_the_partner_table_for_what_it_may_have(partners, asked) -> None:
    """As above, verb by verb, while an institution fails and then answers: the circuit breaker's items are in it."""
    population = Population(1, people=5, institutions=1)
    ((institution, provider),) = population.datasets
    with Simulator(population) as server:
        providers = (Provider(provider, url=server.url),)
        partners.put_institution(Institution(institution, "Testbanken AS", providers=providers, lookup="live"))
        partners.put_lender(Lender("920013015", "Testbanken AS", purposes=("creditApplication",)))
        asked.clear()
        server.misbehave(institution, "status:503")
        assert _invoke(search_debt)["statusCode"] == 200
        server.behave()
        assert _invoke(search_debt)["statusCode"] == 204
        CONNECTIONS.close()
    allowed = allowed_by("SearchDebtRights")
    assert {one for one in asked if not any(covers(right, one) for right in allowed)} == set()
    assert {right for right in allowed if not any(covers(right, one) for one in asked)} == set()
