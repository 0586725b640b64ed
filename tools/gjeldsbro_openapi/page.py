"""The page for developers: the document in one HTML file that needs no network and no script."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from html import escape
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gjeldsbro.domain import fields, timestamps
from gjeldsbro.domain.search_messages import NOT_BLANK
from gjeldsbro_openapi.functions import ROOT
from gjeldsbro_openapi.statuses import MEANINGS

PAGE = ROOT / "docs" / "api" / "index.html"

HOST = "https://api.example.no"
"""The address in the examples."""

_TIME = f"^{timestamps.PATTERN}$"
_PATTERNS: Mapping[str, str] = {
    _TIME: "date and time",
    "^[0-9]{11}$": "11 digits",
    "^[0-9]{24}$": "24 digits",
    "^[0-9A-F]+$": "hexadecimal digits",
    "^([0-9]{9}|[0-9]{4}:[0-9A-Za-z-]{1,35})$": "organisation number (9 digits), or ISO 6523 id",
    "^[0-9]{4}:[0-9A-Za-z-]{1,35}$": "ISO 6523 id",
    "^(0{0,8}[1-9][0-9]{3}|0{0,7}([1-5][0-9]{4}|60000))$": "the same as a string of digits",
    "^[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}$": "22/Nov/2026:06:30:01 +0000",
}
"""How the forms of texts are called on the page."""

_TEXTS = {
    "": "",
    fields.TEXT_PATTERN: "",
    NOT_BLANK: " (not only blanks)",
    f"^$|{NOT_BLANK}": " (not only blanks)",
}
"""What is said of a text's pattern."""

_DIGITS = re.compile(r"\^\[0-9\]\{1,(\d+)\}\$")
_SHOWN_DIGITS = re.compile(r"\^\(0\|\[1-9\]\[0-9\]\{0,(\d+)\}\)\$")


class Field(NamedTuple):
    """A field of an object."""

    name: str
    required: bool
    default: str | None
    form: Markup
    description: Markup


class Model(NamedTuple):
    """An object that is sent."""

    name: str
    description: Markup
    fields: list[Field]


class Answer(NamedTuple):
    """An answer to an operation."""

    status: int
    name: str
    description: Markup
    headers: list[str]
    example: str | None
    model: str | None


class Operation(NamedTuple):
    """A path with a method."""

    method: str
    path: str
    anchor: str
    summary: str
    description: Markup
    curl: str
    python: str
    request: str | None
    models: list[Model]
    successes: list[Answer]
    errors: list[Answer]


class ErrorRow(NamedTuple):
    """A status of an error, over all operations."""

    status: int
    name: str
    means: Markup
    to_do: Markup
    headers: list[str]
    operations: list[Operation]


def text(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    environment = Environment(
        loader=PackageLoader("gjeldsbro_openapi", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    operations = list(_operations(document))
    schemas = document["components"]["schemas"]
    return environment.get_template("page.html.jinja").render(
        host=HOST,
        info=document["info"],
        introduction=_paragraphs(document["info"]["description"]),
        operations=operations,
        errors=list(_error_rows(operations)),
        error_model=_model("ErrorResponse", schemas["ErrorResponse"]),
        error_example=_json(_example(document, "400")),
        gateway_example=_json(_example(document, "504")),
        **_gateway_statuses(document),
    )


def form(schema: Mapping[str, Any]) -> Markup:  # noqa: PLR0911  # one return for each kind of schema
    """What a value looks like, in words."""
    match schema:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return Markup('<a href="#{0}">{0}</a>').format(name)
        case {"anyOf": [*others]} | {"oneOf": [*others]}:
            return Markup(" or ").join(form(other) for other in others)
        case {"const": value}:
            return Markup("<code>{}</code>").format(json.dumps(value))
        case {"enum": values}:
            texts = dict.fromkeys(str(value) for value in values)
            both = len(texts) < len(values)
            listed = Markup(", ").join(Markup("<code>{}</code>").format(_shown(value, both=both)) for value in texts)
            return listed + (Markup(", as integer or string") if both else Markup())
        case {"type": "array", "items": items}:
            most = f", at most {schema['maxItems']:,}" if "maxItems" in schema else ""
            least = ", at least one" if schema.get("minItems") else ""
            return Markup("list of {}{}{}").format(form(items), least, most)
        case {"type": "string"}:
            return Markup("{}").format(_string(schema))
        case {"type": "integer"}:
            return Markup("{}").format(_integer(schema))
        case {"type": "boolean"}:
            return Markup("<code>true</code> or <code>false</code>")
        case {"type": "null"}:
            return Markup("<code>null</code>")
    raise ValueError(f"a schema of a kind that the page does not know: {schema}")


def _shown(value: str, *, both: bool) -> str:
    return value if both else json.dumps(value)


def _string(schema: Mapping[str, Any]) -> str:
    pattern = schema.get("pattern", "")
    if pattern in _TEXTS:
        if schema.get("format") == "uuid":
            return "UUID"
        most = schema.get("maxLength")
        if most is None:
            return "text"
        least = f"{schema['minLength']} to" if "minLength" in schema else "at most"
        return f"text, {least} {most} characters{_TEXTS[pattern]}"
    if digits := _DIGITS.fullmatch(pattern):
        return f"string of 1 to {digits[1]} digits"
    if digits := _SHOWN_DIGITS.fullmatch(pattern):
        return f"string of digits without leading zeros, {int(digits[1]) + 1} at most"
    return _PATTERNS[pattern]


def _integer(schema: Mapping[str, Any]) -> str:
    least = schema.get("minimum")
    most = schema.get("maximum", schema.get("exclusiveMaximum", 1) - 1)
    if least is not None and most:
        return "integer" if least == 0 else f"integer from {least:,} to {most:,}"
    return "integer" if not least else f"integer from {least}"


def _operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    schemas = document["components"]["schemas"]
    shown: set[str] = {"ErrorResponse", "GatewayErrorResponse"}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            body = described.get("requestBody", {}).get("content", {}).get("application/json")
            answers = [_answer(int(status), answer) for status, answer in described["responses"].items()]
            successes = [answer for answer in answers if answer.status < 400]
            request = None if body is None else _name_of(body["schema"])
            roots = [name for name in (request, *(answer.model for answer in successes)) if name is not None]
            models = [_model(name, schemas[name]) for name in _reached(roots, schemas) if name not in shown]
            shown |= {model.name for model in models}
            yield Operation(
                method=method.upper(),
                path=path,
                anchor=described["operationId"],
                summary=described["summary"],
                description=_paragraphs(described["description"]),
                curl=_curl(method, path, has_body=body is not None),
                python=_python(method, path, has_body=body is not None, answers=successes),
                request=None if body is None else _json(body["example"]),
                models=models,
                successes=successes,
                errors=[answer for answer in answers if answer.status >= 400],
            )


def _answer(status: int, answer: Mapping[str, Any]) -> Answer:
    content = answer.get("content", {}).get("application/json")
    return Answer(
        status=status,
        name=MEANINGS[status].name if status in MEANINGS else {200: "OK", 204: "No content"}[status],
        description=_inline(answer["description"]),
        headers=list(answer.get("headers", ())),
        example=_json(content["example"]) if content and "example" in content else None,
        model=_name_of(content["schema"]) if content and "$ref" in content["schema"] else None,
    )


def _error_rows(operations: list[Operation]) -> Iterator[ErrorRow]:
    for status, meaning in MEANINGS.items():
        answering = {
            operation.anchor: (operation, answer)
            for operation in operations
            for answer in operation.errors
            if answer.status == status
        }
        if answering:
            headers = sorted({name for _, answer in answering.values() for name in answer.headers})
            yield ErrorRow(
                status,
                meaning.name,
                _inline(meaning.means),
                _inline(meaning.to_do),
                headers,
                [operation for operation, _ in answering.values()],
            )


def _model(name: str, schema: Mapping[str, Any]) -> Model:
    required = schema.get("required", ())
    fields = [
        Field(field, field in required, _default(inner), form(inner), _inline(inner.get("description", "")))
        for field, inner in sorted(schema["properties"].items(), key=lambda named: named[0] != "type")
    ]
    return Model(name, _inline(schema.get("description", "")), fields)


def _default(schema: Mapping[str, Any]) -> str | None:
    """What is taken for a field that is left out, where that is not nothing."""
    return json.dumps(schema["default"]) if schema.get("default") else None


def _reached(names: list[str], schemas: Mapping[str, Any]) -> list[str]:
    """The models in these ones, with themselves, in reading order."""
    found: list[str] = []
    for name in names:
        if name not in found:
            found.append(name)
            for inner in _reached(list(_references(schemas[name])), schemas):
                if inner not in found:
                    found.append(inner)
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield _name_of(schema)
        for name, inner in schema.items():
            if name != "discriminator":
                yield from _references(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _references(inner)


def _name_of(schema: Mapping[str, Any]) -> str:
    name: str = schema["$ref"].rpartition("/")[2]
    return name


def _curl(method: str, path: str, *, has_body: bool) -> str:
    lines = ["curl --cert client.pem --key client.key"]
    if has_body:
        lines.append("--header 'Content-Type: application/json' --data-binary @message.json")
    elif method != "get":
        lines.append(f"--request {method.upper()}")
    return " \\\n  ".join([*lines, f"{HOST}{path}"])


def _python(method: str, path: str, *, has_body: bool, answers: list[Answer]) -> str:
    lines = ["import json", "from pathlib import Path", ""] if has_body else []
    lines += ["import requests", ""]
    call = f'requests.{method}(\n    "{HOST}{path}",\n'
    if has_body:
        lines.append('message = json.loads(Path("message.json").read_text(encoding="utf-8"))')
        call += "    json=message,\n"
    lines.append(f'answer = {call}    cert=("client.pem", "client.key"),\n    timeout=35,\n)')
    if any(answer.status == 204 for answer in answers):
        lines.append("told = None if answer.status_code == 204 else answer.json()")
    else:
        lines.append("told = answer.json()")
    lines += [
        "if not answer.ok:",
        "    raise SystemExit(f\"{answer.status_code}: {told['errorMessage']}\")",
        "print(told)",
    ]
    return "\n".join(lines)


def _gateway_statuses(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """The statuses that API Gateway can answer with, and those that nobody else does."""
    found: dict[str, set[str]] = {"sometimes": set(), "always": set()}
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
                if "GatewayErrorResponse" in _references(schema):
                    found["sometimes" if "anyOf" in schema else "always"].add(status)
    return {"sometimes": sorted(found["sometimes"]), "always": sorted(found["always"] - found["sometimes"])}


def _example(document: Mapping[str, Any], status: str) -> Any:
    for methods in document["paths"].values():
        for operation in methods.values():
            if status in operation["responses"]:
                return operation["responses"][status]["content"]["application/json"]["example"]
    raise ValueError(f"nothing answers {status}")


_json = partial(json.dumps, indent=2, ensure_ascii=False)


def _paragraphs(markdown: str) -> Markup:
    """Paragraphs with code in them: all of Markdown that descriptions use."""
    return Markup().join(Markup("<p>{}</p>").format(_inline(part)) for part in markdown.split("\n\n"))


def _inline(markdown: str) -> Markup:
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(markdown, quote=False))
    return Markup(marked)  # noqa: S704  # escaped in the line above
