"""The API's description: made from the handlers, committed as it is made, and true."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.cloudformation import properties

from gjeldsbro.domain import fields
from gjeldsbro.domain.rules import BrokenRuleError
from gjeldsbro_openapi import document, page
from gjeldsbro_openapi.functions import deployed_routes, described_routes
from gjeldsbro_openapi.statuses import MEANINGS, gateway_answers, own_statuses

DOCUMENT: dict[str, Any] = json.loads(document.DOCUMENT.read_text(encoding="utf-8"))
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Checks values against a schema of the document."""
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def of_field(model: str, field: str) -> Draft202012Validator:
    """Checks values against one field of a model."""
    return validator(DOCUMENT["components"]["schemas"][model]["properties"][field])


def test_the_committed_document_is_what_the_handlers_say() -> None:
    """Whoever changes a route or a model runs `make docs`."""
    assert document.DOCUMENT.read_text(encoding="utf-8") == document.text()


def test_the_committed_page_is_what_the_document_says() -> None:
    """As above."""
    assert page.PAGE.read_text(encoding="utf-8") == page.text(document.document())


def test_the_document_is_valid() -> None:
    """It is OpenAPI 3.1 to a validator that others use."""
    assert DOCUMENT["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_route_is_deployed_and_described() -> None:
    """The template's routes are those of the document; every path sends other methods to its function too."""
    deployed = [(method, path) for _, method, path in deployed_routes() if method != "ANY"]
    assert sorted(deployed) == sorted((route.method, route.path) for route in described_routes())
    assert {tuple(name.split()) for name, _ in OPERATIONS} == set(deployed)
    others = {(function, path) for function, method, path in deployed_routes() if method == "ANY"}
    assert {(route.function, route.path) for route in described_routes()} <= others


def test_who_may_ask_is_said() -> None:
    """All operations want a client certificate, and there is no other way in."""
    assert DOCUMENT["security"] == [{"clientCertificate": []}]
    assert DOCUMENT["components"]["securitySchemes"]["clientCertificate"]["type"] == "mutualTLS"
    assert not any("security" in operation for _, operation in OPERATIONS)


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_status_is_described(name: str, operation: dict[str, Any]) -> None:
    """All that a route of its kind can be answered with, by us or by API Gateway, and what to do then."""
    told = {int(status) for status in operation["responses"] if int(status) >= 400}
    gateway = gateway_answers(properties("Api")["GatewayResponses"])
    possible = own_statuses() | gateway.keys()
    assert told <= possible <= MEANINGS.keys()
    assert possible - told <= (set() if "requestBody" in operation else {400, 415})
    assert all("Retry-After" in operation["responses"][str(status)]["headers"] for status in told if status >= 429)
    for status, headers in gateway.items():
        if status in told:
            assert headers <= operation["responses"][str(status)].get("headers", {}).keys()


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_example_is_what_its_schema_says(name: str, operation: dict[str, Any]) -> None:
    """Examples of requests and answers are complete and valid."""
    bodies = [operation["requestBody"]] if "requestBody" in operation else []
    bodies += [answer for status, answer in operation["responses"].items() if status != "204"]
    for body in bodies:
        content = body["content"]["application/json"]
        assert list(validator(content["schema"]).iter_errors(content["example"])) == []


def test_the_guides_example_is_what_its_schema_says() -> None:
    """What the guide for institutions shows of the connection check is a whole answer."""
    guide = (document.ROOT / "docs" / "guide-for-institutions.md").read_text(encoding="utf-8")
    (example,) = [text for text in re.findall(r"```json\n(.*?)```", guide, re.DOTALL) if '"organisation"' in text]
    answer = DOCUMENT["components"]["schemas"]["ConnectionResponse"]
    assert list(validator(answer).iter_errors(json.loads(example))) == []


def test_the_lenders_guide_shows_a_request_and_an_answer() -> None:
    """What a lender's developer copies from the guide is what the API takes, and what it answers."""
    guide = (document.ROOT / "docs" / "guide-for-lenders.md").read_text(encoding="utf-8")
    (request,) = re.findall(r"-d '\n(\{.*?\})'", guide, re.DOTALL)
    (answer,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    for schema, example in (("SearchRequest", request), ("SearchResponse", answer)):
        model = DOCUMENT["components"]["schemas"][schema]
        assert list(validator(model).iter_errors(json.loads(example))) == []
        fields_shown = set(re.findall(r"`(\w+)`", guide)) | json.loads(example).keys()
        assert model["properties"].keys() <= fields_shown


@pytest.mark.parametrize(
    ("field", "rule", "digits"),
    [("balance", fields.amount, 12), ("nominalInterestRate", fields.interest_rate, 6), ("terms", fields.terms, 3)],
)
def test_the_forms_of_a_number_are_those_that_are_taken(field, rule, digits) -> None:
    """Design decision 9: what the document allows is taken, and what it does not is refused."""
    values = [0, "0", 7, "007", 10**digits - 1, "9" * digits, "0" * digits]
    values += [10**digits, "9" * (digits + 1), -1, "-1", "\u0661", 1.5, "1.5", "1e2", "", " 1", "1 ", True, None, []]
    for value in values:
        try:
            taken = rule(value) is not None
        except BrokenRuleError:
            taken = False
        assert of_field("RepaymentLoan", field).is_valid(value) is taken, value


def test_other_forms_are_those_that_are_taken() -> None:
    """CoBorrower in both forms of a number, and nothing else."""
    for value in (0, 1, 2, "0", "1", "2", 3, "3", "02", -1, None, True, "x"):
        try:
            taken = fields.co_borrower(value) in {0, 1, 2}
        except BrokenRuleError:
            taken = False
        assert of_field("ChargeCard", "coBorrower").is_valid(value) is taken, value


def test_nothing_of_the_description_is_imported_by_a_function() -> None:
    """A cold start pays for no model that only the description names."""
    script = (
        "import sys; sys.path.insert(0, 'functions/check_connection'); import check_connection; "
        "print([m for m in sys.modules if m.startswith('gjeldsbro_openapi') or m.endswith('connection_messages')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=document.ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
