"""The functions behind the API: which they are says the template, what they answer they say themselves."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gjeldsbro.api.operations import Operation
from gjeldsbro.api.resolver import Api, Route

ROOT = Path(__file__).resolve().parents[2]
EVERY_OTHER = "/{proxy+}"
"""The path of the template that takes whatever no other takes."""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms of functions, which are of no interest here."""


_Loader.add_multi_constructor("!", lambda _loader, _suffix, node: str(getattr(node, "value", "")))


class DescribedRoute(NamedTuple):
    """A route of the API with all that its description is made of."""

    function: str
    """The name of its folder."""
    method: str
    path: str
    route: Route
    operation: Operation

    @property
    def operation_id(self) -> str:
        """The route's name for programs: receive_loans is receiveLoans."""
        first, *others = self.route.__name__.split("_")
        return first + "".join(other.capitalize() for other in others)

    @property
    def example(self) -> Any:
        """The body of the function's sample event, which the tests send to it; None when it has none."""
        body = json.loads((ROOT / "events" / f"{self.function}.json").read_text(encoding="utf-8"))["body"]
        return None if body is None else json.loads(body)


def template() -> dict[str, Any]:
    """template.yaml; CloudFormation's functions are texts."""
    loaded: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  # a SafeLoader
    return loaded


def deployed_routes() -> Iterator[tuple[str, str, str]]:
    """(function's folder, method, path) of each route in the template, in its order."""
    for resource in template()["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            properties = resource["Properties"]
            for event in properties.get("Events", {}).values():
                if event["Type"] == "Api":
                    name = properties["CodeUri"].removeprefix("functions/")
                    yield name, event["Properties"]["Method"].upper(), event["Properties"]["Path"]


def described_routes() -> list[DescribedRoute]:
    """Every route of every function behind the API.

    Raises ValueError for a route without a description, and for one that the template does not send to its function.
    """
    deployed = list(deployed_routes())
    found = []
    for function in dict.fromkeys(name for name, _, _ in deployed):
        for described in api_of(function).described:
            if described.operation is None:
                raise ValueError(f"{described.method} {described.path} has no description")
            if (function, described.method, described.path) not in deployed:
                raise ValueError(f"{described.method} {described.path} is not deployed as a route of {function}")
            found.append(DescribedRoute(function, *described[:3], described.operation))
    return found


def api_of(function: str) -> Api:
    """The routes of one function."""
    name = f"described_{function}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "functions" / function / f"{function}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    api = sys.modules[name].api
    assert isinstance(api, Api)
    return api
