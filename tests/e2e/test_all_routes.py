"""Every route of the deployed API through the gateway, for whoever should get nothing."""

import json
from typing import Any

import pytest
import requests
from tests.api_of_template import Route, requests_of_all_routes, routes
from tests.cloudformation import ROOT, functions

from gjeldsbro_local.certificates import Authority

STRANGER = "810034882"
"""A valid organisation number that nobody has registered."""


def test_the_deployed_routes_are_the_ones_that_are_walked(parties) -> None:
    """What the tests read from the template's events is what the SAM transform made of them."""
    cloudformation = parties.stack.client("cloudformation")
    template: Any = cloudformation.get_template(StackName=parties.stack.name, TemplateStage="Processed")["TemplateBody"]
    template = json.loads(template) if isinstance(template, str) else template
    paths = template["Resources"]["Api"]["Properties"]["Body"]["paths"]
    deployed = {
        ("ANY" if method == "x-amazon-apigateway-any-method" else method.upper(), path)
        for path, methods in paths.items()
        for method in methods
    }
    assert deployed == {(route.method, route.path) for route in routes()}
    for methods in paths.values():
        for method in methods.values():
            integration = method["x-amazon-apigateway-integration"]
            assert integration.keys() == {"type", "httpMethod", "uri"}  # no mapping, no authorizer
            assert integration["type"] == "aws_proxy"
            assert not method.get("security")


@pytest.mark.parametrize("who", ["nobody", "somebody else's client"])
def test_the_handshake_refuses_on_every_route(parties, who: str) -> None:
    """Without a certificate of the truststore's authorities there is no connection, whatever is asked for."""
    certificate = None
    if who != "nobody":
        files = Authority.create("Others").issue_client("920013015").write(parties.directory, "others-client")
        certificate = (str(files.cert_file), str(files.key_file))
    for method, route in requests_of_all_routes():
        with pytest.raises(requests.exceptions.ConnectionError):
            ask(parties, method, route, certificate)


def test_without_an_organisation_every_route_is_401(parties) -> None:
    """Also paths and methods that do not exist."""
    certificate = parties.certificate(None)
    for method, route in requests_of_all_routes():
        assert ask(parties, method, route, certificate) == 401, (method, route.path)


def test_a_stranger_gets_nothing_on_any_route(parties) -> None:
    """403 where there is something to be entitled to; elsewhere 405 or 404."""
    certificate = parties.certificate(STRANGER)
    for method, route in requests_of_all_routes():
        own = {one.method for one in routes() if one.path == route.path and one.method != "ANY"}
        expected = 403 if method in own else 405 if own else 404
        assert ask(parties, method, route, certificate) == expected, (method, route.path)


def ask(parties, method: str, route: Route, certificate: tuple[str, str] | None) -> int:
    """The status of a request with a body that the route would take; its refusal has SPEC's form."""
    name = functions()[route.function]["Handler"].partition(".")[0]
    sample = json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))
    answer = parties.call(
        method,
        route.asked,
        body=None if sample["body"] is None else sample["body"].encode(),
        headers={"Content-Type": "application/json", "X-SSL-Client-S-DN": "2.5.4.97=NTRNO-920013015"},
        certificate=certificate,
    )
    if method != "HEAD":
        assert answer.json().keys() == {"errorMessage", "timestamp", "uuid"}
        assert answer.json()["timestamp"].endswith("Z")
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status_code
