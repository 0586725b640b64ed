"""Rights on parts of the PartnerTable, as the template gives them and as requests need them."""

import os
from fnmatch import fnmatchcase
from typing import Any

from tests.cloudformation import statements


def allowed_by(rights: str) -> set[tuple[str, str]]:
    """The (verb, partition key) that a policy allows in the PartnerTable."""
    return {
        (action.removeprefix("dynamodb:"), key)
        for statement in statements(rights)
        if "<PartnerTable.Arn>" in statement["Resource"]
        for action in statement["Action"]
        for keys in statement["Condition"].values()
        for key in keys["dynamodb:LeadingKeys"]
    }


def requests_of(verb: str, parameters: dict[str, Any]) -> set[tuple[str, str]]:
    """What a request asks of the PartnerTable; a transaction is asked for as what it is made of."""
    if "TransactItems" in parameters:
        parts = [part for item in parameters["TransactItems"] for part in item.items()]
    else:
        parts = [(verb.removesuffix("Item"), parameters)]
    table = os.environ["PARTNER_TABLE"]
    return {(_verb(part), _partition(values)) for part, values in parts if values["TableName"] == table}


def _verb(part: str) -> str:
    return part if part == "Query" else f"{part}Item"


def _partition(parameters: dict[str, Any]) -> str:
    for part, name in (("Key", "pk"), ("Item", "pk"), ("ExpressionAttributeValues", ":pk")):
        if name in parameters.get(part, {}):
            return str(parameters[part][name]["S"])
    raise AssertionError(f"a request without a partition key: {sorted(parameters)}")


def covers(right: tuple[str, str], request: tuple[str, str]) -> bool:
    """Whether a (verb, partition key) of a policy allows that of a request."""
    return right[0] == request[0] and fnmatchcase(request[1], right[1])
