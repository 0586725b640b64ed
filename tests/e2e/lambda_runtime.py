"""The real Lambda runtime without Docker: AWS's runtime interface emulator and client.

A function sees what it would see on AWS: its own code, its own layers, and boto3 as part of the runtime. Nothing else
that is installed for the project is on its path.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from tests.cloudformation import functions, template

from gjeldsbro_local import deployment, processes
from gjeldsbro_local.stack import LocalStack, free_port

_RAPID = deployment.ROOT / ".tools" / "sam" / "lib" / "python3.13" / "site-packages" / "samcli" / "local" / "rapid"
RIE = _RAPID / f"aws-lambda-rie-{deployment.architecture()}"
"""AWS's runtime interface emulator, which the SAM CLI brings along."""

_RUNTIME = (
    "awslambdaric",
    "boto3",
    "botocore",
    "dateutil",
    "jmespath",
    "runtime_client",
    "s3transfer",
    "simplejson",
    "six",
    "snapshot_restore_py",
    "urllib3",
)
_START_SECONDS = 20
_INVOCATION_SECONDS = 60


class Answer(NamedTuple):
    """What a function gave back, and what the emulator wrote meanwhile."""

    value: Any
    log: str

    @property
    def error(self) -> str | None:
        """The type of the error that it raised, if it did."""
        return self.value.get("errorType") if isinstance(self.value, dict) else None


def make_runtime(directory: Path) -> Path:
    """A folder with what AWS's Python runtime brings along, and no more."""
    directory.mkdir()
    installed = next(Path(entry) for entry in sys.path if (Path(entry) / "awslambdaric").is_dir())
    for path in installed.iterdir():
        if path.name.split(".")[0] in _RUNTIME:
            (directory / path.name).symlink_to(path)
    return directory


def invoke(stack: LocalStack, function: str, event: bytes, runtime: Path) -> Answer:
    """Run a deployed function's built code on an event, with the variables and the role that it was deployed with."""
    code = deployment.BUILD / function
    layers = [deployment.BUILD / layer["Ref"] / "python" for layer in _layers(function)]
    handler = functions()[function]["Handler"]
    port, api_port = free_port(), free_port()
    command = [
        str(RIE),
        "--runtime-interface-emulator-address",
        f"127.0.0.1:{port}",
        "--runtime-api-address",
        f"127.0.0.1:{api_port}",
        # -S: without the site-packages that this interpreter belongs to
        *(sys.executable, "-S", "-m", "awslambdaric", handler),
    ]
    environment = {
        **_variables(stack, function),
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(map(str, (code, *layers, runtime))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LAMBDA_TASK_ROOT": str(code),
        "AWS_LAMBDA_FUNCTION_NAME": function,
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(functions()[function]["Timeout"]),
    }
    log = runtime.parent / f"{function}.log"
    process = processes.start(function, command, environment, code, log)
    try:
        value = _post(f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations", event)
    finally:
        processes.end([process])
    return Answer(json.loads(value), log.read_text())


def event_name(function: str) -> str:
    """FetchPagesFunction -> fetch_pages."""
    return functions()[function]["Handler"].partition(".")[0]


def _layers(function: str) -> list[dict[str, str]]:
    own = template()["Resources"][function]["Properties"].get("Layers", [])
    return [*template()["Globals"]["Function"]["Layers"], *own]


def role_of(stack: LocalStack, function: str) -> dict[str, str]:
    """Region and credentials of a function's own role, as arguments for a boto3 client."""
    role = stack.client("lambda").get_function_configuration(FunctionName=stack.resources()[function])["Role"]
    taken = stack.client("sts").assume_role(RoleArn=role, RoleSessionName="runtime")["Credentials"]
    return {
        "region_name": stack.region,
        "aws_access_key_id": taken["AccessKeyId"],
        "aws_secret_access_key": taken["SecretAccessKey"],
        "aws_session_token": taken["SessionToken"],
    }


def _variables(stack: LocalStack, function: str) -> dict[str, str]:
    """The function's variables, and credentials of its own role."""
    found = stack.client("lambda").get_function_configuration(FunctionName=stack.resources()[function])
    role = role_of(stack, function)
    return {
        **found["Environment"]["Variables"],
        "AWS_ENDPOINT_URL": stack.endpoint_url,
        "AWS_REGION": stack.region,
        "AWS_DEFAULT_REGION": stack.region,
        "AWS_ACCESS_KEY_ID": role["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": role["aws_secret_access_key"],
        "AWS_SESSION_TOKEN": role["aws_session_token"],
    }


def _post(url: str, body: bytes) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with opener.open(urllib.request.Request(url, data=body), timeout=_INVOCATION_SECONDS) as answer:
                return answer.read()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
