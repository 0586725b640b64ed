"""The API as the template makes it: its routes, the handlers behind them, and what the local gateway reads of it.

Routes are taken from the functions' events, so that a new one is walked by every test that walks them.
"""

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import uuid4

from tests.cloudformation import Deployed, functions, resources

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
"""What ANY stands for."""


class Route(NamedTuple):
    """A route of the template: ``method`` may be ANY, ``path`` a resource with ``{proxy+}``."""

    method: str
    path: str
    function: str

    @property
    def asked(self) -> str:
        """A path that comes to this route and to no other."""
        return self.path.replace("{proxy+}", "no/such/path")


def routes() -> list[Route]:
    """Every route, by path and method."""
    return sorted(
        Route(event["Properties"]["Method"].upper(), event["Properties"]["Path"], function)
        for function, found in resources("AWS::Serverless::Function").items()
        for event in found["Properties"].get("Events", {}).values()
        if event["Type"] == "Api"
    )


def api_functions() -> list[str]:
    """The functions that have routes."""
    return sorted({route.function for route in routes()})


def requests_of_all_routes() -> list[tuple[str, Route]]:
    """(method, route) for every method of every route: for ANY, all that no other route of the path has."""
    known = {(route.method, route.path) for route in routes()}
    return [
        (method, route)
        for route in routes()
        for method in ((route.method,) if route.method != "ANY" else METHODS)
        if route.method != "ANY" or (method, route.path) not in known
    ]


def module(function: str) -> Any:
    """ReceivePushFunction -> functions.receive_push.receive_push."""
    name = functions()[function]["Handler"].partition(".")[0]
    return import_module(f"functions.{name}.{name}")


def handler(function: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function's handler, each time with a fresh context; what functions cache is forgotten first."""
    found = module(function)
    for value in list(vars(found).values()):
        if hasattr(value, "cache_clear") and getattr(value, "__module__", None) == found.__name__:
            value.cache_clear()

    def call(event: dict[str, Any]) -> dict[str, Any]:
        context = SimpleNamespace(aws_request_id=str(uuid4()), get_remaining_time_in_millis=lambda: 29_000)
        return found.lambda_handler(event, context)

    return call


def processed(**parameters: str) -> dict[str, Any]:
    """The template as far as the local gateway reads it, in the form that the SAM transform gives it."""
    api = Deployed(**parameters).properties("Api")
    paths: dict[str, Any] = {}
    for route in routes():
        uri = (
            "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${"
            + route.function
            + ".Arn}/invocations"
        )
        method = "x-amazon-apigateway-any-method" if route.method == "ANY" else route.method.lower()
        integration = {"type": "aws_proxy", "httpMethod": "POST", "uri": {"Fn::Sub": uri}}
        paths.setdefault(route.path, {})[method] = {"x-amazon-apigateway-integration": integration}
    body = {
        "paths": paths,
        "x-amazon-apigateway-binary-media-types": [kind.replace("~1", "/") for kind in api["BinaryMediaTypes"]],
        "x-amazon-apigateway-gateway-responses": {
            kind: _gateway_response(answer) for kind, answer in api["GatewayResponses"].items()
        },
    }
    return {
        "Resources": {
            "Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Body": body}},
            "ApiStage": {"Type": "AWS::ApiGateway::Stage", "Properties": {"MethodSettings": api["MethodSettings"]}},
        },
    }


def _gateway_response(answer: dict[str, Any]) -> dict[str, Any]:
    headers = answer.get("ResponseParameters", {}).get("Headers", {})
    found: dict[str, Any] = {"responseTemplates": answer["ResponseTemplates"]}
    if "StatusCode" in answer:
        found["statusCode"] = answer["StatusCode"]
    if headers:
        found["responseParameters"] = {f"gatewayresponse.header.{name}": value for name, value in headers.items()}
    return found


def ways_to(path: str) -> list[str]:
    """The resources that API Gateway makes on the way to a path: /a/b/c -> /, /a, /a/b."""
    parts = [part for part in path.split("/") if part]
    return ["/" + "/".join(parts[:length]) for length in range(len(parts))]
