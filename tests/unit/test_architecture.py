"""The structure itself: which way imports point, and what each function may import."""

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from cfnlint.decode import cfn_yaml

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "layers" / "gjeldsbro" / "gjeldsbro"
HANDLERS = sorted((ROOT / "functions").glob("*/*.py"))

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "domain": {"errors", "domain"},
    "services": {"errors", "domain", "services", "log"},
    "adapters": {"errors", "domain", "services", "adapters"},
    "api": {"errors", "domain", "services", "api", "log"},
    "pages": {"services", "pages"},
    "settings": {"errors"},
    "log": {"errors"},
    "wiring": {"services", "adapters", "settings"},
    "lookup_wiring": {"domain", "services", "adapters", "settings"},
}
"""Which parts of our package a part may import: functions -> api, services -> domain; adapters implement services."""

EDGE_ONLY = {"boto3", "botocore", "requests", "urllib3", "paramiko", "cryptography"}
"""What only adapters, the API and the edge itself may import: it talks to the outside."""

MAY_TALK_TO_THE_OUTSIDE = {"adapters", "api", "log"}


def imports_of(file: Path) -> set[str]:
    """The modules that a file imports, wherever in it; those for annotations only included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides which way it points"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "gjeldsbro"}
    return found


def part_of(file: Path) -> str:
    """The first-level part of our package that a file belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE or file.stem != "__init__")


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    """The domain knows no service, a service no adapter, an adapter no API; and only the edge talks to the outside."""
    part = part_of(file)
    for module in imports_of(file):
        top, *rest = module.split(".")
        if top == "gjeldsbro" and rest:
            assert rest[0] in ALLOWED[part], f"{part} imports {module}"
        assert top not in EDGE_ONLY or part in MAY_TALK_TO_THE_OUTSIDE, f"{part} imports {module}"
        assert top != "aws_lambda_powertools" or part in {"log", "api"}, f"{part} imports {module}"
        assert top != "jinja2" or part == "pages", f"{part} imports {module}"


@pytest.mark.parametrize("file", HANDLERS, ids=lambda file: file.stem)
def test_a_handler_is_named_after_its_folder_and_fits_a_screen(file: Path) -> None:
    """One function a folder, found by its name, and short enough to be read at a glance."""
    assert file.stem == file.parent.name
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 75


@pytest.mark.parametrize("file", HANDLERS, ids=lambda file: file.stem)
def test_a_handler_imports_with_its_own_layers_only(file: Path) -> None:
    """A library of another function's layer fails here, not at its first cold start on AWS."""
    layers = layers_of(file.stem)
    allowed = {"boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3"}
    for layer in layers:
        allowed |= distributions_in(ROOT / "layers" / layer / "requirements.txt")
    refused = sorted(
        module
        for module, distributions in packages_distributions().items()
        if not allowed & {normalise(name) for name in distributions} and not module.startswith(("gjeldsbro", "_"))
    )
    script = f"""
import sys
refused = {set(refused)!r}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(name + " is in no layer of this function")
sys.meta_path.insert(0, Refuse())
sys.path[:0] = [{str(PACKAGE.parent)!r}, {str(file.parent)!r}]
import {file.stem}
assert callable({file.stem}.lambda_handler)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr


NOT_AT_A_COLD_START = {
    "receive_push": {"boto3", "pydantic", "requests", "paramiko", "s3transfer"},
    "check_connection": {"boto3", "requests", "paramiko", "s3transfer"},
    "search_debt": {"boto3", "requests", "paramiko", "s3transfer"},
}
"""What the functions that somebody waits for must not import before they need it (decision record 0020)."""


@pytest.mark.parametrize("function", sorted(NOT_AT_A_COLD_START))
def test_a_cold_start_imports_no_more_than_it_must(function: str) -> None:
    """Each library here takes a good part of the time that a caller of a new process waits."""
    assert NOT_AT_A_COLD_START[function] & imported_by(f"import {function}", ROOT / "functions" / function) == set()


def test_a_push_without_faults_is_read_without_pydantic() -> None:
    """Only whoever sends a fault waits for the models that name its place."""
    script = """
from datetime import UTC, datetime
from gjeldsbro.services.push import read_message
body = json.loads(Path("events/receive_push.json").read_text())["body"].encode()
read_message(body, accepts="synthetic", now=datetime.now(UTC))
"""
    assert "pydantic" not in imported_by(script, ROOT)


def imported_by(script: str, folder: Path) -> set[str]:
    """What a fresh process has imported after ``script``, which finds our package and what is in ``folder``."""
    lines = [
        "import json, sys",
        "from pathlib import Path",
        f"sys.path[:0] = [{str(PACKAGE.parent)!r}, {str(folder)!r}]",
        script,
        "print(*sys.modules)",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_functions_were_found() -> None:
    """The tests above walk all functions, not an empty list."""
    assert len(HANDLERS) >= 15


def layers_of(function: str) -> set[str]:
    """The folders of the layers that template.yaml gives a function."""
    resources = cfn_yaml.load(str(ROOT / "template.yaml"))["Resources"]
    (properties,) = (
        resource["Properties"]
        for resource in resources.values()
        if resource["Type"] == "AWS::Serverless::Function"
        and resource["Properties"]["CodeUri"] == f"functions/{function}"
    )
    references = ["GjeldsbroLayer", *(layer["Ref"] for layer in properties.get("Layers", ()))]
    return {Path(resources[name]["Properties"]["ContentUri"]).name for name in references}


def distributions_in(requirements: Path) -> set[str]:
    """The distributions that a hashed requirement file pins."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    return {normalise(line.partition("==")[0]) for line in lines if line[:1].isalnum()}


def normalise(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return name.lower().replace("_", "-")
