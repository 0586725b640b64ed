"""The structure itself: which way imports point, and what each function may import."""

import ast
import re
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


EVERYWHERE = {
    "aws_lambda_powertools",
    "botocore",
    "dateutil",
    "jmespath",
    "msgspec",
    "six",
    "typing_extensions",
    "urllib3",
}
"""The libraries that a cold start of any function imports: botocore with what it needs, the logger, and msgspec."""

ASKING = {"certifi"}
FETCHING = ASKING | {"charset_normalizer", "idna", "requests"}
MODELS = {"annotated_types", "pydantic", "pydantic_core", "typing_inspection"}
SFTP = {"bcrypt", "cryptography", "invoke", "nacl", "paramiko"}

COLD_START: dict[str, set[str]] = {
    "build_slice": ASKING | MODELS,
    "check_connection": {"cryptography"},
    "check_receiver": SFTP,
    "deliver_package": SFTP,
    "fetch_pages": FETCHING,
    "judge_institution": set(),
    "load_dataset": set(),
    "plan_deliveries": set(),
    "plan_export": set(),
    "plan_night": set(),
    "plan_packages": set(),
    "read_ssn_lists": SFTP,
    "receive_push": {"cryptography"},
    "record_failure": set(),
    "refresh_revocations": FETCHING | {"cryptography"},
    "report_export": {"jinja2", "markupsafe"},
    "report_night": {"jinja2", "markupsafe"},
    "rotate_hash_key": set(),
    "search_debt": {"cryptography"} | ASKING | MODELS,
    "show_customer": set(),
    "show_lookups": set(),
    "watch_operations": {"cryptography"},
}
"""What each function's cold start imports beside that, exactly: a new one is a decision (decision record 0020)."""

IN_THE_RUNTIME = {"boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3"}


@pytest.mark.parametrize("file", HANDLERS, ids=lambda file: file.stem)
def test_a_cold_start_imports_just_this_and_finds_it_in_its_own_layers(file: Path) -> None:
    """A library of another function's layer fails here, not at its first cold start on AWS, and a needless one too."""
    layers = layers_of(file.stem)
    allowed = IN_THE_RUNTIME.union(*(distributions_in(layer) for layer in layers))
    installed = {
        module: {normalise(name) for name in distributions}
        for module, distributions in packages_distributions().items()
    }
    refused = {
        module
        for module, distributions in installed.items()
        if not allowed & distributions and not module.startswith(("gjeldsbro", "_"))
    }
    script = f"""
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ModuleNotFoundError(name + " is in no layer of this function")
sys.meta_path.insert(0, Refuse())
import {file.stem}
assert callable({file.stem}.lambda_handler)
"""
    imported = {name.partition(".")[0] for name in imported_by(script, file.parent)}
    libraries = {name for name in imported & installed.keys() if not name.startswith(("gjeldsbro", "_"))}

    assert libraries == EVERYWHERE | COLD_START[file.stem]
    for layer in layers:
        brought = {module for module, names in installed.items() if names & distributions_in(layer)}
        assert libraries & brought - IN_THE_RUNTIME, f"{file.stem} needs nothing of the layer {layer}"


_WAYS_OUT = (
    r"gjeldsbro\.adapters\.(customer_client|institution_|kept_connections|http_guard|crl_client|receiver_client)"
)


def test_a_push_does_not_import_the_way_to_institutions() -> None:
    """Whoever pushes does not wait for what only lookups and nights ask institutions with."""
    imported = imported_by("import receive_push", ROOT / "functions" / "receive_push")
    assert not {name for name in imported if re.match(_WAYS_OUT, name)}


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


def distributions_in(layer: str) -> set[str]:
    """The distributions that a layer's hashed requirement file pins."""
    lines = (ROOT / "layers" / layer / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {normalise(line.partition("==")[0]) for line in lines if line[:1].isalnum()}


def normalise(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return name.lower().replace("_", "-")
