"""Enforces the functions' rights of template.yaml on their calls to moto, as AWS would, conditions included.

moto knows no roles. Here each call of AWS that a handler makes is held against the policy of that function's role; what
it does not allow is answered with AccessDenied. So every integration test is a test of the rights too.

The key policies are not part of it (tests/unit/test_template_rights.py), nor what AWS does in a function's name:
writing its log, traces, network interfaces, and handing over what failed.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from threading import Thread, local
from types import FrameType
from typing import Any, NamedTuple

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from tests.cloudformation import ROOT, statements

WITHOUT = "GJELDSBRO_TEST_WITHOUT"
"""Environment variable: ``ReceivePushRights/ReadTheHashKey`` enforces without that statement."""
RECORD = "GJELDSBRO_TEST_RECORD"
"""Environment variable: a file to which every statement that was needed is added, with the test that needed it."""

_FUNCTIONS = str(ROOT / "functions") + os.sep
_STORES = {"REGISTER_TABLE": "RegisterTable", "PARTNER_TABLE": "PartnerTable", "LOOKUP_TABLE": "LookupTable"}
_S3_READS = {"GetObject", "HeadObject"}
_S3_WRITES = {"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"}
_TRANSACTION = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}


class Need(NamedTuple):
    """What a call takes: an action on a resource (as the template names it), and what conditions look at."""

    action: str
    resource: str
    keys: tuple[str, ...] = ()
    prefix: str | None = None
    attributes: frozenset[str] | None = None
    """Those that a call names when it asks for no others; None when it asks for all."""


class Recorder:
    """Which function calls, which statements its calls needed, and what was refused."""

    def __init__(self) -> None:
        self.needed: set[tuple[str, str]] = set()
        self.refused: list[str] = []
        self._removed = os.environ.get(WITHOUT, "")
        self._pool = local()

    def caller(self) -> str | None:
        """The function whose handler is on this thread's stack, or handed this thread its work."""
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename.startswith(_FUNCTIONS):
                return Path(frame.f_code.co_filename).stem
            frame = frame.f_back
        return getattr(self._pool, "function", None)

    def for_caller[**P, R](self, work: Callable[P, R]) -> Callable[P, R]:
        """``work`` for another thread, which then calls in the name of whoever calls now."""
        function = self.caller()

        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            self._pool.function = function
            try:
                return work(*args, **kwargs)
            finally:
                self._pool.function = None

        return run

    def check(self, function: str, need: Need) -> None:
        """Note which statement allows it. Raises AccessDenied when none does."""
        rights = f"{function.title().replace('_', '')}Rights"
        allowing = [sid for sid, statement in _policy(rights).items() if _allows(statement, need)]
        removed = os.environ.get(WITHOUT, "")
        left = [sid for sid in allowing if f"{rights}/{sid}" != removed]
        if not left:
            message = f"{function} may not {need.action} on {need.resource} ({need.keys or need.prefix or ''})"
            if removed == self._removed:  # else this very test took the right away
                self.refused.append(message)
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": message}}, need.action)
        if len(allowing) == 1:
            self.needed.add((rights, allowing[0]))


@contextmanager
def enforced(test: str) -> Iterator[None]:
    """Holds every call of a handler against its function's rights while the block lasts.

    A call that was refused is a failure, also where the handler goes on without what it asked for.
    """
    recorder, call, submit = Recorder(), BaseClient._make_api_call, ThreadPoolExecutor.submit

    def checked(self: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
        function = recorder.caller()
        if function is None:
            return call(self, operation, parameters)
        for need in needs(self.meta.service_model.service_name, operation, parameters):
            recorder.check(function, need)
        try:
            return call(self, operation, parameters)
        except ClientError as exc:
            if exc.response.get("Error", {}).get("Code") == "NoSuchKey":  # else S3 would answer AccessDenied
                recorder.check(function, Need("s3:ListBucket", f"<{_bucket(parameters['Bucket'])}.Arn>"))
            raise

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BaseClient, "_make_api_call", checked)
        patched.setattr(
            ThreadPoolExecutor,
            "submit",
            lambda self, work, *args, **kwargs: submit(self, recorder.for_caller(work), *args, **kwargs),
        )
        yield
    assert not recorder.refused, "; ".join(recorder.refused)
    if (file := os.environ.get(RECORD)) and recorder.needed:
        with Path(file).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([test, sorted(recorder.needed)]) + "\n")


def beside(work: Callable[[], Any]) -> None:
    """Do what somebody else does while a handler works: not in the function's name."""
    thread = Thread(target=work)
    thread.start()
    thread.join()


def needs(service: str, operation: str, parameters: dict[str, Any]) -> list[Need]:
    """What a call takes. Raises AssertionError for one of which nothing is known here."""
    match service:
        case "dynamodb":
            return list(_of_dynamodb(operation, parameters))
        case "s3":
            return list(_of_s3(operation, parameters))
        case "secretsmanager":
            named = {"HASH_KEY_SECRET": "HashKeySecret", "CLIENT_CERTIFICATE_SECRET": "ClientCertificateSecret"}
            secrets = {os.environ[variable]: f"<{secret}.Id>" for variable, secret in named.items()}
            secret = secrets.get(parameters.get("SecretId", ""), _RECEIVER_SECRET)
            return [Need(f"secretsmanager:{operation}", secret)]
        case "events":
            return [Need("events:PutEvents", "<LookupBus.Arn>")]
        case "sns":
            return [Need("sns:Publish", "<AlarmTopic>")]
        case "kms":
            return []  # keys are used by their own policies
    raise AssertionError(f"no rule for {service} {operation}")


_RECEIVER_SECRET = (
    "arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:<AWS::StackName>/receiver/x"
)


def _of_dynamodb(operation: str, parameters: dict[str, Any]) -> Iterator[Need]:
    if operation == "BatchWriteItem":
        for table, requests in parameters["RequestItems"].items():
            keys = [request["PutRequest"]["Item"] for request in requests if "PutRequest" in request]
            keys += [request["DeleteRequest"]["Key"] for request in requests if "DeleteRequest" in request]
            yield Need("dynamodb:BatchWriteItem", _table(table), tuple(sorted({key["pk"]["S"] for key in keys})))
        return
    parts = [(operation, parameters)]
    if operation == "TransactWriteItems":
        parts = [(_TRANSACTION[name], part) for item in parameters["TransactItems"] for name, part in item.items()]
    for name, part in parts:
        resource = _table(part["TableName"])
        if "IndexName" in part:
            resource += f"/index/{part['IndexName']}"
        yield Need(f"dynamodb:{name}", resource, _leading(part), attributes=_attributes(part))


def _leading(part: dict[str, Any]) -> tuple[str, ...]:
    for holder, name in (("Key", "pk"), ("Item", "pk"), ("ExpressionAttributeValues", ":pk")):
        if name in part.get(holder, {}):
            return (part[holder][name]["S"],)
    return ()


def _attributes(part: dict[str, Any]) -> frozenset[str] | None:
    if part.get("Select") != "SPECIFIC_ATTRIBUTES":
        return None
    expressions = (part.get(name, "") for name in ("ProjectionExpression", "FilterExpression"))
    return frozenset(re.findall(r"(?<![:\w])#?[a-z]\w*", " ".join(expressions)))


def _table(name: str) -> str:
    found = {os.environ[variable]: table for variable, table in _STORES.items()}
    return f"<{found[name]}.Arn>"


def _of_s3(operation: str, parameters: dict[str, Any]) -> Iterator[Need]:
    bucket = f"<{_bucket(parameters['Bucket'])}.Arn>"
    if operation in _S3_READS:
        yield Need("s3:GetObject", f"{bucket}/{parameters['Key']}")
    elif operation in _S3_WRITES:
        yield Need("s3:PutObject", f"{bucket}/{parameters['Key']}")
    elif operation == "DeleteObjects":
        for item in parameters["Delete"]["Objects"]:
            yield Need("s3:DeleteObject", f"{bucket}/{item['Key']}")
    elif operation == "ListObjectsV2":
        yield Need("s3:ListBucket", bucket, prefix=parameters["Prefix"])
    else:
        yield Need(f"s3:{operation}", f"{bucket}/{parameters['Key']}")


def _bucket(name: str) -> str:
    return {os.environ.get("DATA_BUCKET"): "DataBucket", os.environ.get("REPORT_BUCKET"): "ReportBucket"}[name]


@lru_cache(maxsize=None)
def _policy(rights: str) -> dict[str, dict[str, Any]]:
    return {statement["Sid"]: statement for statement in statements(rights)}


def _allows(statement: dict[str, Any], need: Need) -> bool:
    return (
        need.action in statement["Action"]
        and any(fnmatchcase(need.resource, _pattern(resource)) for resource in statement["Resource"])
        and all(_holds(*condition, need) for condition in statement.get("Condition", {}).items())
    )


def _pattern(resource: str) -> str:
    return resource.replace("[", "[[]")


def _holds(operator: str, values: dict[str, Any], need: Need) -> bool:
    for name, wanted in values.items():
        patterns = wanted if isinstance(wanted, list) else [wanted]
        match operator, name:
            case "ForAllValues:StringEquals", "dynamodb:LeadingKeys":
                held = bool(need.keys) and set(need.keys) <= set(patterns)
            case "ForAllValues:StringLike", "dynamodb:LeadingKeys":
                held = bool(need.keys) and all(any(fnmatchcase(key, one) for one in patterns) for key in need.keys)
            case "ForAllValues:StringEquals", "dynamodb:Attributes":
                held = need.attributes is not None and need.attributes <= set(patterns)
            case "StringEqualsIfExists", "dynamodb:Select":
                held = need.attributes is not None
            case "StringLikeIfExists", "s3:prefix":
                held = need.prefix is None or any(fnmatchcase(need.prefix, one) for one in patterns)
            case "StringEquals", "events:source" | "events:detail-type":
                held = True  # what is announced is announced in one place, see tests/unit/test_template_rights.py
            case _:
                raise AssertionError(f"no rule for the condition {operator} {name}")
        if not held:
            return False
    return True
