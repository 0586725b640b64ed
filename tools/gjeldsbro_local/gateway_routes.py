"""What the deployed template says about the API: routes, the answers of API Gateway itself, and its limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple

API = "Api"
_ANY = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
"""What ANY stands for; API Gateway knows no other method."""

_DEFAULT_STATUS = {
    "BAD_REQUEST_BODY": 400,
    "BAD_REQUEST_PARAMETERS": 400,
    "UNAUTHORIZED": 401,
    "ACCESS_DENIED": 403,
    "EXPIRED_TOKEN": 403,
    "INVALID_API_KEY": 403,
    "INVALID_SIGNATURE": 403,
    "MISSING_AUTHENTICATION_TOKEN": 403,
    "WAF_FILTERED": 403,
    "RESOURCE_NOT_FOUND": 404,
    "REQUEST_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "QUOTA_EXCEEDED": 429,
    "THROTTLED": 429,
    "API_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_FAILURE": 500,
    "INTEGRATION_FAILURE": 504,
    "INTEGRATION_TIMEOUT": 504,
    "DEFAULT_4XX": 400,
    "DEFAULT_5XX": 500,
}
"""The statuses that API Gateway gives its own answers where the template says nothing else."""


class Route(NamedTuple):
    """A route that a request was matched to."""

    resource: str
    path_parameters: dict[str, str] | None
    function: str
    """The function's logical id in the template."""


class Answer(NamedTuple):
    """What goes back to the client."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Throttle:
    """API Gateway's token bucket: ``rate`` requests a second, ``burst`` at once."""

    rate: float
    burst: float
    _tokens: float = field(init=False)
    _at: float | None = field(init=False, default=None)
    _lock: Lock = field(init=False, default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def admits(self, now: float) -> bool:
        """Whether a request at this monotonic time is let through; it then counts."""
        with self._lock:
            self._tokens = min(self.burst, self._tokens + (now - (now if self._at is None else self._at)) * self.rate)
            self._at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


class DeployedApi:
    """The API of a processed template (``get_template`` with TemplateStage Processed) and its stack's parameters."""

    def __init__(self, template: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        body = template["Resources"][API]["Properties"]["Body"]
        self._paths: dict[str, dict[str, str]] = {
            path: {method: _function(what) for method, what in methods.items()}
            for path, methods in body["paths"].items()
        }
        self._gateway_responses = body["x-amazon-apigateway-gateway-responses"]
        self.binary = "*/*" in body.get("x-amazon-apigateway-binary-media-types", ())
        settings = _stage(template)["MethodSettings"][0]
        self.throttle = Throttle(
            rate=float(_value(settings["ThrottlingRateLimit"], parameters)),
            burst=float(_value(settings["ThrottlingBurstLimit"], parameters)),
        )

    @property
    def functions(self) -> set[str]:
        """The logical ids of the functions behind the routes."""
        return {function for methods in self._paths.values() for function in methods.values()}

    def route(self, method: str, path: str) -> Route | None:
        """The route of a request: the most specific resource, then its method; None as API Gateway has none.

        Greedy resources (``{proxy+}``) only match what no other resource does: there is no way back from a resource
        that lacks the method.
        """
        asked = [part for part in path.split("/") if part]
        for resource in sorted(self._resources(), key=lambda resource: ("{" in resource, -resource.count("/"))):
            parameters = _match([part for part in resource.split("/") if part], asked)
            if parameters is not None:
                methods = self._paths.get(resource, {})
                function = methods.get(method.lower())
                if function is None and method in _ANY:
                    function = methods.get("x-amazon-apigateway-any-method")
                return None if function is None else Route(resource, parameters or None, function)
        return None

    def answer(self, response_type: str, context: Mapping[str, str], status: int | None = None) -> Answer:
        """What API Gateway answers by itself, from the template's gateway responses."""
        status = status or _DEFAULT_STATUS[response_type]
        fallback = "DEFAULT_4XX" if status < 500 else "DEFAULT_5XX"
        response = self._gateway_responses.get(response_type) or self._gateway_responses[fallback]
        body = response["responseTemplates"]["application/json"]
        for name, value in context.items():
            body = body.replace(f"$context.{name}", value)
        headers = {
            name.removeprefix("gatewayresponse.header."): value.strip("'")
            for name, value in response.get("responseParameters", {}).items()
        }
        return Answer(
            int(response.get("statusCode", status)),
            {"Content-Type": "application/json", **headers},
            body.encode(),
        )

    def _resources(self) -> set[str]:
        """Every resource: those with methods, and the ones that API Gateway makes on the way to them."""
        resources = set(self._paths)
        for path in self._paths:
            parts = path.split("/")
            resources.update("/".join(parts[:length]) or "/" for length in range(1, len(parts)))
        return resources


def _match(resource: list[str], asked: list[str]) -> dict[str, str] | None:
    parameters: dict[str, str] = {}
    for position, part in enumerate(resource):
        if part.endswith("+}"):
            rest = asked[position:]
            return {**parameters, part[1:-2]: "/".join(rest)} if rest else None
        if position >= len(asked):
            return None
        if part.startswith("{"):
            parameters[part[1:-1]] = asked[position]
        elif part != asked[position]:
            return None
    return parameters if len(asked) == len(resource) else None


def _function(method: Mapping[str, Any]) -> str:
    """The logical id in an integration's ``...functions/${ReceivePushFunction.Arn}/invocations``."""
    uri: str = method["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
    return uri.rpartition("/functions/${")[2].partition(".Arn}")[0]


def _stage(template: Mapping[str, Any]) -> Mapping[str, Any]:
    stages: list[Mapping[str, Any]] = [
        resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::ApiGateway::Stage"
    ]
    return stages[0]


def _value(value: Any, parameters: Mapping[str, str]) -> str:
    return str(parameters[value["Ref"]] if isinstance(value, Mapping) else value)
