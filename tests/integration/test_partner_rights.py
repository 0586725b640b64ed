"""Rights on parts of the PartnerTable, which nothing on this machine enforces, against what is asked of it."""

import json
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import pytest
from functions.check_connection import check_connection
from functions.receive_push import receive_push
from functions.show_customer import show_customer
from tests.cloudformation import ROOT, statements
from tests.integration.test_show_customer import CONTEXT

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.services.ports import Institution, Provider


def _allowed(rights: str) -> set[tuple[str, str]]:
    """The (verb, partition key) that a policy allows in the PartnerTable."""
    return {
        (action.removeprefix("dynamodb:"), key)
        for statement in statements(rights)
        if "<PartnerTable.Arn>" in statement["Resource"]
        for action in statement["Action"]
        for keys in statement["Condition"].values()
        for key in keys["dynamodb:LeadingKeys"]
    }


@lru_cache
def _nothing() -> None:
    """Stands for the cache of a function that has none."""


def _partition(parameters: dict[str, Any]) -> str:
    for part, name in (("Key", "pk"), ("Item", "pk"), ("ExpressionAttributeValues", ":pk")):
        if name in parameters.get(part, {}):
            return str(parameters[part][name]["S"])
    raise AssertionError(f"a request without a partition key: {sorted(parameters)}")


def _covers(right: tuple[str, str], request: tuple[str, str]) -> bool:
    return right[0] == request[0] and fnmatchcase(request[1], right[1])


@pytest.mark.parametrize(
    ("function", "rights"),
    [
        (receive_push, "ReceivePushRights"),
        (check_connection, "CheckConnectionRights"),
        (show_customer, "ShowCustomerRights"),
    ],
)
def test_a_function_asks_the_partner_table_for_what_it_may_have(aws, partners, function, rights) -> None:
    """No request has a partition key that the role's conditions leave out: AWS would refuse it, and only AWS."""
    getattr(function, "_secrets", _nothing).cache_clear()
    partners.put_institution(Institution("920013015", "Testbanken AS", providers=(Provider("9908:920013015"),)))
    asked: set[tuple[str, str]] = set()

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        if params["TableName"] == aws["PARTNER_TABLE"]:
            asked.add((model.name, _partition(params)))

    aws_clients.dynamodb().meta.events.register("before-parameter-build.dynamodb", note)
    name = function.__name__.rpartition(".")[2]
    function.lambda_handler(json.loads((ROOT / "events" / f"{name}.json").read_text()), CONTEXT)
    allowed = _allowed(rights)
    refused = {one for one in asked if not any(_covers(right, one) for right in allowed)}
    assert refused == set()
    assert [key for _, key in allowed if not any(fnmatchcase(partition, key) for _, partition in asked)] == []
