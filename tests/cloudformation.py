"""template.yaml and the state machines' definitions as the static tests see them."""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import cfnlint.api
import yaml
from cfnlint import ManualArgs

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "template.yaml"
_SUBSTITUTION = re.compile(r"\$\{(\w+)\}")


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms of functions, turned into their long forms."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


@lru_cache(maxsize=None)
def template() -> dict[str, Any]:
    """The template with functions in their long forms."""
    return yaml.load(TEMPLATE.read_text(), Loader=_Loader)


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """The resources of a type by logical id."""
    return {name: resource for name, resource in template()["Resources"].items() if resource["Type"] == kind}


def properties(name: str) -> dict[str, Any]:
    """The properties of one resource."""
    return template()["Resources"][name]["Properties"]


class Deployed:
    """The template with these parameters: conditions decided, references as short texts such as ``<Key.Arn>``."""

    def __init__(self, **parameters: str) -> None:
        defaults = {name: parameter.get("Default", "") for name, parameter in template()["Parameters"].items()}
        self.parameters = {**defaults, **parameters}

    def properties(self, name: str) -> Any:
        """The properties of one resource."""
        return self.resolve(properties(name))

    def resolve(self, node: Any) -> Any:  # noqa: PLR0911  # one return for each function of CloudFormation
        """A part of the template with everything decided; what is AWS::NoValue is left out."""
        match node:
            case {"Ref": "AWS::NoValue"}:
                return _LEFT_OUT
            case {"Ref": name}:
                return self.parameters.get(name, f"<{name}>")
            case {"Fn::GetAtt": [name, attribute]}:
                return f"<{name}.{attribute}>"
            case {"Fn::Sub": text}:
                return re.sub(r"\$\{([\w.:]+)\}", lambda found: self.parameters.get(found[1], f"<{found[1]}>"), text)
            case {"Fn::Join": [separator, parts]}:
                value = self.resolve(parts)
                return separator.join(value if isinstance(value, list) else [value])
            case {"Fn::If": [condition, yes, no]}:
                return self.resolve(yes if self.holds(condition) else no)
            case dict():
                resolved = {key: self.resolve(value) for key, value in node.items()}
                return {key: value for key, value in resolved.items() if value is not _LEFT_OUT}
            case list():
                return [value for value in map(self.resolve, node) if value is not _LEFT_OUT]
            case _:
                return node

    def holds(self, condition: str) -> bool:
        """Whether a named condition is met."""
        return self._decide(template()["Conditions"][condition])

    def _decide(self, rule: Any) -> bool:
        match rule:
            case {"Fn::Equals": [one, other]}:
                return self.resolve(one) == self.resolve(other)
            case {"Fn::Not": [inner]}:
                return not self._decide(inner)
            case {"Condition": name}:
                return self.holds(name)
        raise AssertionError(f"a condition of a kind that this does not know: {rule}")


_LEFT_OUT = object()


def statements(name: str, document: str = "PolicyDocument", **parameters: str) -> list[dict[str, Any]]:
    """The statements of a policy, with Action and Resource as lists."""
    found = Deployed(**parameters).properties(name)[document]["Statement"]
    return [
        {**statement, "Action": _listed(statement["Action"]), "Resource": _listed(statement["Resource"])}
        for statement in found
    ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def functions() -> dict[str, dict[str, Any]]:
    """The functions' properties by logical id, with those of Globals where they set none."""
    common = template()["Globals"]["Function"]
    return {
        name: {**common, **resource["Properties"]} for name, resource in resources("AWS::Serverless::Function").items()
    }


def state_machines() -> dict[str, dict[str, Any]]:
    """The state machines' properties by logical id."""
    return {name: resource["Properties"] for name, resource in resources("AWS::Serverless::StateMachine").items()}


@lru_cache(maxsize=None)
def definition(name: str) -> dict[str, Any]:
    """A state machine's definition with its substitutions made: a function's ARN as ``<Function.Arn>``."""
    machine = state_machines()[name]
    values = Deployed().resolve(machine["DefinitionSubstitutions"])
    text = (ROOT / machine["DefinitionUri"]).read_text()
    return json.loads(_SUBSTITUTION.sub(lambda found: str(values[found[1]]), text))


def substitutions_used(name: str) -> set[str]:
    """The substitutions that a state machine's file asks for."""
    return set(_SUBSTITUTION.findall((ROOT / state_machines()[name]["DefinitionUri"]).read_text()))


def lint(text: str) -> list[str]:
    """What cfn-lint says about a template: errors and warnings."""
    return [str(match) for match in cfnlint.api.lint(text, config=ManualArgs(regions=["eu-north-1"]))]


def states(machine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All states of a definition, those inside Maps included, by name."""
    found: dict[str, dict[str, Any]] = {}
    for name, state in machine["States"].items():
        assert name not in found, f"two states are named {name}"
        found[name] = state
        if "ItemProcessor" in state:
            inner = states(state["ItemProcessor"])
            assert not found.keys() & inner.keys()
            found |= inner
    return found
