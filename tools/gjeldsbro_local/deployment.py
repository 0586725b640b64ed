"""Builds and deploys template.yaml with the SAM CLI, as for AWS, to an endpoint on this machine."""

import contextlib
import fcntl
import os
import platform
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[2]
SAM = ROOT / ".tools" / "sam" / "bin"
BUILD = ROOT / ".aws-sam" / "build"
REGION: Literal["eu-north-1"] = "eu-north-1"
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
_BUILD_SECONDS = 600
_DEPLOY_SECONDS = 300


class DeploymentError(RuntimeError):
    """The SAM CLI failed; the message ends with what it said last."""


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Wait until nobody else builds or deploys here: there is one build folder."""
    with (ROOT / ".tools" / "deployment.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def architecture() -> str:
    """This machine's processor, as Lambda calls it."""
    return ARCHITECTURES.get(platform.machine().lower(), "x86_64")


def build(log: Path) -> None:
    """``make build`` for this machine's processor; unchanged layers and functions come from the cache."""
    overrides = f"Architecture={architecture()}"
    _sam(["build", "--config-env", "local", "--parameter-overrides", overrides], _environment(), log, _BUILD_SECONDS)
    add_bytecode(BUILD)


def add_bytecode(folder: Path) -> None:
    """Compile all modules in ``folder``, in the form that holds whatever time a package gives their files.

    SAM builds without bytecode, and nothing can be written where Lambda unpacks it: every new process would compile
    all that it imports (decision record 0020).
    """
    command = [
        sys.executable,
        "-m",
        "compileall",
        "-q",
        "-j",
        "0",
        "--invalidation-mode",
        "unchecked-hash",
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise DeploymentError(f"{folder} holds what does not compile:\n{done.stdout}{done.stderr}")


def deploy(endpoint_url: str, stack: str, log: Path, parameters: Mapping[str, str]) -> dict[str, str]:
    """``sam deploy`` of what ``build`` built, with samconfig.toml's local parameters; the stack's outputs."""
    with (ROOT / "samconfig.toml").open("rb") as file:
        settings = tomllib.load(file)["local"]["deploy"]["parameters"]
    session = boto3.Session(region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")  # noqa: S106  # ministack's
    config = Config(proxies={}, read_timeout=30)
    session.client("s3", endpoint_url=endpoint_url, config=config).create_bucket(
        Bucket=settings["s3_bucket"],
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    overrides = shlex.split(settings["parameter_overrides"])
    overrides += [f"Architecture={architecture()}", *(f"{name}={value}" for name, value in parameters.items())]
    environment = {
        **_environment(),
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "SAM_CLI_POLL_DELAY": "0.3",
    }
    command = ["deploy", "--config-env", "local", "--stack-name", stack, "--parameter-overrides", *overrides]
    _sam(command, environment, log, _DEPLOY_SECONDS)
    formation = session.client("cloudformation", endpoint_url=endpoint_url, config=config)
    outputs = formation.describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def _environment() -> dict[str, str]:
    """The caller's environment, for pip's settings and proxies, without what would lead to a real account."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAM_", "PYTHON"))}
    return {
        **kept,
        "PATH": os.pathsep.join([str(SAM), kept.get("PATH", os.defpath)]),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_CHECK_FOR_UPDATES": "0",
    }


def _sam(arguments: list[str], environment: Mapping[str, str], log: Path, seconds: int) -> None:
    with log.open("w+") as output:
        answer = subprocess.run(
            [SAM / "sam", *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
        if answer.returncode != 0:
            output.seek(0)
            raise DeploymentError(f"sam {arguments[0]} failed, see {log}:\n" + "".join(output.readlines()[-15:]))
