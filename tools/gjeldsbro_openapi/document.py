"""The OpenAPI 3.1 document: routes and models of the functions, and the answers of API Gateway itself."""

import inspect
import json
import tomllib
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gjeldsbro.domain.messages import ErrorResponse
from gjeldsbro_openapi import statuses
from gjeldsbro_openapi.examples import EXAMPLES, error_example
from gjeldsbro_openapi.functions import ROOT, DescribedRoute, described_routes, template

DOCUMENT = ROOT / "docs" / "openapi.json"

_SCHEMAS = "#/components/schemas/"
_JSON = "application/json"
_GATEWAY_ERROR = "GatewayErrorResponse"
_HEADERS = {
    "Retry-After": {
        "description": "Seconds to wait before sending again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "Allow": {"description": "The methods that this path has.", "required": True, "schema": {"type": "string"}},
}
_OWN_HEADERS = {405: {"Allow"}, 429: {"Retry-After"}, 500: {"Retry-After"}, 503: {"Retry-After"}}
_DESCRIPTION = """\
For financial institutions that report to this debt information company, for lenders that look people up, and for their
service providers. The interface is API-DEBT-FI 1.2.0 ("SPEC"); the numbers behind "SPEC" are its chapters.

Who you are is read from your client certificate and from nothing else. Bodies are JSON in UTF-8. Fields that are not
described are ignored in what you send, and may be added to what we answer. An integer is written without a decimal
point: `1.0` is refused."""

type Mode = Literal["validation", "serialization"]


def document() -> dict[str, Any]:
    """The whole document."""
    routes = described_routes()
    models = _models(routes)
    references, definitions = models_json_schema(sorted(models, key=str), ref_template=_SCHEMAS + "{model}")
    schemas = {name: _tidy(schema) for name, schema in definitions["$defs"].items()}
    schemas[_GATEWAY_ERROR] = _gateway_error(schemas["ErrorResponse"])
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "gjeldsbro", "version": _version(), "description": _DESCRIPTION},
        "servers": [
            {
                "url": "https://{host}",
                "description": "The address that we have given you.",
                "variables": {"host": {"default": "api.example.no"}},
            }
        ],
        "security": [{"clientCertificate": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "clientCertificate": {
                    "type": "mutualTLS",
                    "description": (
                        "A client certificate of an authority that we have agreed on. Its subject names your "
                        "organisation in organizationIdentifier (NTRNO- and nine digits), or in serialNumber."
                    ),
                }
            },
            "schemas": dict(sorted(schemas.items())),
        },
    }


def text() -> str:
    """The document as it is committed."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _models(routes: list[DescribedRoute]) -> set[tuple[type[BaseModel], Mode]]:
    found: set[tuple[type[BaseModel], Mode]] = {(ErrorResponse, "serialization")}
    for route in routes:
        if route.operation.request is not None:
            found.add((_model(route.operation.request), "validation"))
        found |= {(_model(name), "serialization") for name in route.operation.answers.values() if name is not None}
    return found


def _model(name: str) -> type[BaseModel]:
    module, _, attribute = name.partition(":")
    model: type[BaseModel] = getattr(import_module(module), attribute)
    return model


def _operation(route: DescribedRoute, references: Any) -> dict[str, Any]:
    operation = route.operation
    described: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": operation.summary,
        "description": inspect.cleandoc(route.route.__doc__ or ""),
    }
    if operation.request is not None:
        content: dict[str, Any] = {"schema": references[_model(operation.request), "validation"]}
        if route.example is not None:
            content["example"] = route.example
        described["requestBody"] = {"required": True, "content": {_JSON: content}}
    answers: dict[str, Any] = {}
    for status, name in operation.answers.items():
        if name is None:
            answers[str(status)] = {"description": "There is nothing to tell, and no body."}
            continue
        content = {"schema": references[_model(name), "serialization"]}
        if (route.operation_id, status) in EXAMPLES:
            content["example"] = EXAMPLES[route.operation_id, status]
        description = inspect.cleandoc(_model(name).__doc__ or "")
        answers[str(status)] = {"description": description, "content": {_JSON: content}}
    described["responses"] = answers | _errors(has_body=operation.request is not None)
    return described


def _errors(*, has_body: bool) -> dict[str, Any]:
    own = statuses.own_statuses()
    of_gateway = statuses.gateway_answers(template()["Resources"]["Api"]["Properties"]["GatewayResponses"])
    if not has_body:
        own -= statuses.NEEDS_A_BODY | {413}  # a body that nobody asked for is only too large for API Gateway
        of_gateway = {status: of_gateway[status] for status in of_gateway.keys() - statuses.NEEDS_A_BODY}
    answers = {}
    for status in sorted(own | of_gateway.keys()):
        meaning = statuses.MEANINGS[status]
        kinds = [name for name, given in (("ErrorResponse", own), (_GATEWAY_ERROR, of_gateway)) if status in given]
        schemas = [{"$ref": _SCHEMAS + name} for name in kinds]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        answer: dict[str, Any] = {
            "description": f"{meaning.means} {meaning.to_do}",
            "content": {_JSON: {"schema": schema, "example": error_example(status, own=status in own)}},
        }
        headers = _OWN_HEADERS.get(status, set()) | of_gateway.get(status, set())
        if headers:
            answer["headers"] = {name: _HEADERS[name] for name in sorted(headers)}
        answers[str(status)] = answer
    return answers


def _gateway_error(error: dict[str, Any]) -> dict[str, Any]:
    """SPEC 4.4 as API Gateway can give it: its templates know the time in the access log's format only."""
    timestamp = {
        "type": "string",
        "pattern": "^[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}$",
        "description": "When the message was received, in the format of an access log.",
    }
    return {
        **error,
        "description": "An error that was answered before our program was reached: SPEC 4.4 but for its timestamp.",
        "properties": {**error["properties"], "timestamp": timestamp},
    }


def _tidy(schema: Any) -> Any:
    """Without pydantic's titles, which repeat the names, and without the default of what may be left out."""
    if isinstance(schema, list):
        return [_tidy(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: part for name, part in schema.items() if not _is_noise(name, part)}
    return {
        name: {inner: _tidy(value) for inner, value in part.items()} if name == "properties" else _tidy(part)
        for name, part in kept.items()
    }


def _is_noise(name: str, value: Any) -> bool:
    return (name == "title" and isinstance(value, str)) or (name == "default" and value is None)


def _version() -> str:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version: str = tomllib.load(file)["project"]["version"]
    return version
