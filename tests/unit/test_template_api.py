"""The API in the template: which routes there are, who lets a caller in, and what API Gateway answers by itself."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api_of_template import (
    METHODS,
    Route,
    api_functions,
    handler,
    module,
    processed,
    requests_of_all_routes,
    routes,
    ways_to,
)
from tests.client_certificates import BANK, request, seid_2
from tests.cloudformation import ROOT, TEMPLATE, Deployed, functions, properties, resources, template

from gjeldsbro_local.gateway_routes import DeployedApi

CONTEXT = {"requestTime": "22/Nov/2026:05:00:00 +0000", "requestId": "5d0e9f3c-1d57-4b8f-9d2c-6f5a0c9e7b11"}
STATUSES = {
    "ACCESS_DENIED": 403,
    "API_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_FAILURE": 500,
    "BAD_REQUEST_BODY": 400,
    "BAD_REQUEST_PARAMETERS": 400,
    "EXPIRED_TOKEN": 403,
    "INTEGRATION_FAILURE": 504,
    "INTEGRATION_TIMEOUT": 504,
    "INVALID_API_KEY": 403,
    "INVALID_SIGNATURE": 403,
    "MISSING_AUTHENTICATION_TOKEN": 404,  # 403 but for the template: it means a method that is none
    "QUOTA_EXCEEDED": 429,
    "REQUEST_TOO_LARGE": 413,
    "RESOURCE_NOT_FOUND": 404,
    "THROTTLED": 429,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "WAF_FILTERED": 403,
}
"""What API Gateway answers by itself (its developer guide, gateway response types), and with which status here."""


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
def test_each_answer_of_api_gateway_is_in_the_specifications_model(kind: str, status: int) -> None:
    """Whatever API Gateway answers by itself: SPEC 4.4's fields, a fitting status, and when to come again."""
    answer = DeployedApi(processed(), {}).answer(kind, CONTEXT)
    body = json.loads(answer.body)

    assert answer.status == status
    assert body.keys() == {"errorMessage", "timestamp", "uuid"}
    assert (body["timestamp"], body["uuid"]) == (CONTEXT["requestTime"], CONTEXT["requestId"])
    assert ("Retry-After" in answer.headers) is (status == 429 or status >= 500)


def test_a_certificate_that_is_not_let_in_is_told_so() -> None:
    """Not the text for everything else that API Gateway refuses: the caller must know that it is the certificate."""
    said = [
        json.loads(DeployedApi(processed(), {}).answer(kind, CONTEXT).body)
        for kind in ("ACCESS_DENIED", "WAF_FILTERED")
    ]
    assert said[0]["errorMessage"] == "The client certificate is not of an authority that is let in here"
    assert said[0]["errorMessage"] != said[1]["errorMessage"]


def test_the_answers_in_the_template_are_known_kinds() -> None:
    """A misspelt kind would never be used, and the defaults must not change the status of what falls back on them."""
    answers = properties("Api")["GatewayResponses"]
    assert answers.keys() <= STATUSES.keys() | {"DEFAULT_4XX", "DEFAULT_5XX"}
    assert {"DEFAULT_4XX", "DEFAULT_5XX"} <= answers.keys()
    assert [kind for kind in ("DEFAULT_4XX", "DEFAULT_5XX") if "StatusCode" in answers[kind]] == []


def test_every_path_and_method_comes_to_a_function() -> None:
    """Also what lies on the way to a path, and whatever else is asked: then the answer has SPEC's own timestamp."""
    any_method = {route.path for route in routes() if route.method == "ANY"}
    paths = {route.path for route in routes()}
    assert "/{proxy+}" in any_method
    assert paths <= any_method
    assert {way for path in paths for way in ways_to(path)} <= any_method


def test_the_walk_sees_all_of_the_api() -> None:
    """The tests that walk all routes walk the push, every other method, and every path that is none."""
    walked = {(method, route.path) for method, route in requests_of_all_routes()}
    assert {("POST", "/debt-information/v1/loans"), ("GET", "/debt-information/v1/connection")} <= walked
    assert {(method, "/{proxy+}") for method in METHODS} <= walked
    assert {(method, "/debt-information/v1/loans") for method in METHODS} <= walked


def test_the_handlers_routes_are_the_templates() -> None:
    """A route of a handler that no event leads to would never be asked, and one of an event would always be 404."""
    for function in api_functions():
        deployed = {(route.method, route.path) for route in routes() if route.function == function}
        own = set(module(function).api.routes)
        assert own == {one for one in deployed if one[0] != "ANY"}, function


@pytest.mark.parametrize("function", api_functions())
def test_a_function_of_the_api_has_the_front_door(function: str) -> None:
    """Its routes are behind the one door that all functions build alike, and it may count its callers' requests."""
    folder = functions()[function]["Handler"].partition(".")[0]
    assert "api = Api(door=front_door)" in (ROOT / "functions" / folder / f"{folder}.py").read_text()


def test_nothing_is_between_the_request_and_the_function() -> None:
    """Every route is a plain proxy integration: no authorizer, no mapping of headers or of anything else."""
    for function in resources("AWS::Serverless::Function").values():
        for event in function["Properties"].get("Events", {}).values():
            if event["Type"] == "Api":
                assert event["Properties"].keys() == {"RestApiId", "Path", "Method"}
                assert event["Properties"]["RestApiId"] == {"Ref": "Api"}
    api = properties("Api")
    assert not {"Auth", "Cors", "DefinitionBody", "DefinitionUri", "Models", "OpenApiVersion"} & api.keys()
    kinds = {resource["Type"] for resource in template()["Resources"].values()}
    assert {kind for kind in kinds if kind.startswith(("AWS::ApiGateway", "AWS::Serverless"))} == {
        "AWS::ApiGateway::Account",
        "AWS::ApiGateway::BasePathMapping",
        "AWS::ApiGateway::DomainName",
        "AWS::Serverless::Api",
        "AWS::Serverless::Function",
        "AWS::Serverless::LayerVersion",
        "AWS::Serverless::StateMachine",
    }
    assert "Api" not in template()["Globals"]
    for word in ("RequestTemplates", "RequestParameters", "FunctionUrlConfig", "HttpApi", "integration.request"):
        assert word not in TEMPLATE.read_text()


def test_the_only_way_in_is_mutual_tls() -> None:
    """With a domain, its truststore is a must and the API's own address is closed; without one, nobody has a name."""
    domain = {"DomainName": "api.example.no", "CertificateArn": "arn", "TruststoreUri": "s3://trust/store.pem"}
    assert Deployed(**domain).properties("Api")["DisableExecuteApiEndpoint"] is True
    assert (
        Deployed(**domain).properties("ApiDomain")["MutualTlsAuthentication"]["TruststoreUri"] == "s3://trust/store.pem"
    )
    assert Deployed(**domain).properties("ApiDomain")["SecurityPolicy"] == "TLS_1_2"
    (rule,) = [rule for name, rule in template()["Rules"].items() if name == "MutualTlsIsComplete"]
    required = {assertion["Assert"]["Fn::Not"][0]["Fn::Equals"][0]["Ref"] for assertion in rule["Assertions"]}
    assert required == {"CertificateArn", "TruststoreUri"}


NAMES = st.sampled_from(
    [
        "X-SSL-Client-S-DN",
        "X-SSL-Client-Cert",
        "X-Client-Cert",
        "X-Client-DN",
        "X-Forwarded-Client-Cert",
        "X-Amzn-Mtls-Clientcert",
        "X-Amzn-Mtls-Clientcert-Subject",
        "X-ARR-ClientCert",
        "Client-Cert",
        "clientCert",
        "clientCertPem",
        "Authorization",
        "Cookie",
        "X-Api-Key",
        "providerID",
        "X-Organisation",
    ],
) | st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_0123456789", min_size=1, max_size=40)
VALUES = st.sampled_from(
    [
        seid_2(BANK),
        seid_2(BANK).replace("\n", "%0A"),
        f"NTRNO-{BANK}",
        f"organizationIdentifier=NTRNO-{BANK},CN=Testbanken AS,C=NO",
        f'Subject="2.5.4.97=NTRNO-{BANK}"',
        f"9908:{BANK}",
        "Bearer anything",
    ],
) | st.text(max_size=60)


@settings(max_examples=400, deadline=None)
@given(asked=st.sampled_from(requests_of_all_routes()), headers=st.dictionaries(NAMES, VALUES, max_size=6))
def test_no_header_lets_anybody_in(asked: tuple[str, Route], headers: dict[str, str]) -> None:
    """Whatever a client writes into headers, query, path or body about itself: without a certificate it is nobody."""
    method, route = asked
    event = request(
        {"providerID": f"9908:{BANK}", "clientCertPem": seid_2(BANK)},
        method=method,
        path=route.asked,
        resource=route.path,
        headers={"Content-Type": "application/json", **headers},
    )
    event["multiValueHeaders"] = {name: [value, value] for name, value in headers.items()}
    event["queryStringParameters"] = dict(headers)
    event["pathParameters"] = {"proxy": seid_2(BANK)}
    event["stageVariables"] = {"clientCertPem": seid_2(BANK)}
    event["requestContext"]["authorizer"] = {"organisation": f"NTRNO-{BANK}", "clientCertPem": seid_2(BANK)}
    answer = handler(route.function)(event)

    assert answer["statusCode"] == 401
    assert json.loads(answer["body"])["errorMessage"] == "no client certificate"
    assert datetime.fromisoformat(json.loads(answer["body"])["timestamp"]).tzinfo == UTC
