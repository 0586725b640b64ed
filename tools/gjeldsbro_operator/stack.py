"""The stack that a command works on: a deployed one, or the local one of ``make up``."""

import getpass
import json
import os
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from gjeldsbro.adapters.breaker_items import BreakerItems
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.revocations import Revocations
from gjeldsbro.domain.identity_numbers import Accepts, mentions_a_person
from gjeldsbro.errors import ConfigurationError, OperatorError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackTypeDef
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_sts import STSClient

STACK_FILE_VARIABLE = "GJELDSBRO_STACK_FILE"
"""Environment variable with the path of another local stack file than ``.local/stack.json``."""

_LOCAL_STACK_FILE = Path(".local", "stack.json")
_SHORT = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4})
_INVOCATION = Config(connect_timeout=5, read_timeout=300, retries={"total_max_attempts": 1})
"""A function may take minutes to answer, and asking it again would do its work twice."""


class _Target(NamedTuple):
    """Where the stack's AWS is."""

    stack: str
    session: boto3.Session
    endpoint: str | None


class Stack:
    """A stack's outputs, tables and functions. Raises ConfigurationError for what is missing, and botocore's errors."""

    def __init__(self, name: str | None, *, local: bool) -> None:
        self.local = local
        self._target = _local_target() if local else _Target(name or "", boto3.Session(), None)

    @property
    def name(self) -> str:
        """The stack's name."""
        return self._target.stack

    def output(self, name: str) -> str:
        """One of the stack's outputs."""
        try:
            return self._outputs[name]
        except KeyError:
            raise ConfigurationError(f"the stack {self.name} has no output {name}") from None

    def parameter(self, name: str) -> str | None:
        """The value of one of the stack's parameters; None when it has no such parameter."""
        parameters = self._description.get("Parameters", ())
        return next((one.get("ParameterValue") for one in parameters if one.get("ParameterKey") == name), None)

    @property
    def accepts(self) -> Accepts:
        """Which identity numbers the stack accepts (its parameter IdentityNumbers)."""
        match self.parameter("IdentityNumbers"):
            case "production" | "synthetic" | "format" as accepts:
                return accepts
        raise ConfigurationError(f"the stack {self.name} does not say which identity numbers it accepts")

    @cached_property
    def partners(self) -> Partners:
        """The stack's PartnerTable."""
        client: DynamoDBClient = self._client("dynamodb")
        return Partners(self.output("PartnerTableName"), client)

    @cached_property
    def reports(self) -> DataStore:
        """The stack's report bucket."""
        return DataStore(self.output("ReportBucketName"), self._client("s3"))

    @cached_property
    def revocations(self) -> Revocations:
        """The revocation lists in the stack's PartnerTable."""
        client: DynamoDBClient = self._client("dynamodb")
        return Revocations(self.output("PartnerTableName"), client)

    @cached_property
    def breaker(self) -> BreakerItems:
        """Which providers fail when they are asked live."""
        return BreakerItems(self.output("PartnerTableName"), self._client("dynamodb"))

    @cached_property
    def secrets(self) -> "SecretsManagerClient":
        """The stack's secrets."""
        client: SecretsManagerClient = self._client("secretsmanager")
        return client

    @cached_property
    def alarms(self) -> "CloudWatchClient":
        """The stack's alarms."""
        client: CloudWatchClient = self._client("cloudwatch")
        return client

    @cached_property
    def logs(self) -> "CloudWatchLogsClient":
        """The stack's logs."""
        client: CloudWatchLogsClient = self._client("logs")
        return client

    def resource(self, name: str) -> str:
        """What AWS calls a resource of the template; raises ConfigurationError when there is none of that name."""
        client: CloudFormationClient = self._client("cloudformation")
        try:
            found = client.describe_stack_resource(StackName=self.name, LogicalResourceId=name)
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "ValidationError":
                raise ConfigurationError(f"the stack {self.name} has no {name}") from None
            raise
        return found["StackResourceDetail"]["PhysicalResourceId"]

    @cached_property
    def state_machines(self) -> "SFNClient":
        """The stack's flows."""
        client: SFNClient = self._client("stepfunctions")
        return client

    @cached_property
    def queues(self) -> "SQSClient":
        """The stack's queues."""
        client: SQSClient = self._client("sqs")
        return client

    def queue_arn(self, output: str) -> str:
        """The ARN of the queue whose URL is an output."""
        found = self.queues.get_queue_attributes(QueueUrl=self.output(output), AttributeNames=["QueueArn"])
        return found["Attributes"]["QueueArn"]

    def invoke_later(self, function: str, payload: Any) -> None:
        """Have a function work without waiting for it, as a schedule does."""
        client: LambdaClient = self._client("lambda")
        client.invoke(FunctionName=function, InvocationType="Event", Payload=json.dumps(payload).encode())

    def invoke(self, output: str, payload: dict[str, Any]) -> Any:
        """Invoke the function that an output names and return its result; raises OperatorError with what it raised."""
        client: LambdaClient = self._client("lambda", _INVOCATION)
        answer = client.invoke(FunctionName=self.output(output), Payload=json.dumps(payload).encode())
        result = json.loads(answer["Payload"].read() or b"null")
        if answer.get("FunctionError"):
            error = result if isinstance(result, dict) else {}
            raise OperatorError(f"{error.get('errorType', 'the function failed')}: {error.get('errorMessage', '')}")
        return result

    @cached_property
    def operator(self) -> str:
        """Who works here, for the trail: the AWS identity and the name on this machine."""
        client: STSClient = self._client("sts")
        return f"{client.get_caller_identity()['Arn']} ({_local_user()})"

    def record(self, action: str, subject: str, reason: str | None = None) -> None:
        """Leave a trail record of this operator. Raises ConfigurationError when a person's number would get into it."""
        if mentions_a_person(reason or ""):
            raise ConfigurationError("the trail holds no identity numbers: leave them out of --reason")
        self.partners.record_trail(
            who=self.operator, action=action, subject=subject, reason=reason, now=datetime.now(UTC)
        )

    def _client(self, service: Any, config: Config = _SHORT) -> Any:
        return self._target.session.client(service, endpoint_url=self._target.endpoint, config=config)

    @cached_property
    def _description(self) -> "StackTypeDef":
        client: CloudFormationClient = self._client("cloudformation")
        try:
            return client.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "ValidationError":
                raise ConfigurationError(f"there is no stack {self.name} in this account and Region") from None
            raise

    @cached_property
    def _outputs(self) -> dict[str, str]:
        outputs = self._description.get("Outputs", [])
        return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def _local_target() -> _Target:
    file = _local_stack_file()
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        session = boto3.Session(
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the contract's credentials of the local stack
            region_name=description["region"],
        )
        return _Target(description["stackName"], session, description["endpointUrl"])
    except FileNotFoundError:
        raise ConfigurationError(f"no {file}: is the local stack up (make up)?") from None
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigurationError(f"{file} is not a local stack file ({type(exc).__name__})") from None


def _local_stack_file() -> Path:
    named = os.environ.get(STACK_FILE_VARIABLE)
    if named:
        return Path(named)
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / _LOCAL_STACK_FILE).is_file():
            return folder / _LOCAL_STACK_FILE
    return here / _LOCAL_STACK_FILE


def _local_user() -> str:
    try:
        return getpass.getuser()
    except OSError:
        return "unknown"
