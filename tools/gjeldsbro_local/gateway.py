"""Plays API Gateway with mutual TLS for the local stack, on loopback.

ministack's own REST route knows no client certificates, gateway responses or limits, so this gateway does not go
through it: it takes routes and answers from the deployed template and invokes the function behind the route.
"""

import argparse
import base64
import json
import logging
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import uuid4

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from gjeldsbro_local.certificates import Files, server_context
from gjeldsbro_local.gateway_event import Request, log_time, proxy_event
from gjeldsbro_local.gateway_routes import Answer, DeployedApi

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

MAX_BODY = 10 * 1024 * 1024
"""API Gateway's limit on a request's body, bytes."""
MAX_PAYLOAD = 6 * 1024 * 1024
"""Lambda's limit on an invocation's payload, bytes; ministack does not know it."""
INTEGRATION_SECONDS = 29
HANDSHAKE_SECONDS = 10
IDLE_SECONDS = 75
_DRAIN = 64 * 1024 * 1024
_CHUNK = 64 * 1024

logger = logging.getLogger("gateway")


class Functions(Protocol):
    """Where functions are invoked; ``TimeoutError`` when one takes longer than API Gateway waits."""

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """The result of a function by its logical id, or FunctionFailedError."""


class FunctionFailedError(Exception):
    """The function raised, or answered with something that is no answer."""


class MessageTooLargeError(Exception):
    """The request does not fit through API Gateway or into an invocation."""


class StackFunctions:
    """The functions of a deployed stack."""

    def __init__(self, client: "LambdaClient", names: dict[str, str]) -> None:
        self._client = client
        self._names = names

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """As in Functions."""
        payload = json.dumps(event).encode()
        if len(payload) > MAX_PAYLOAD:
            raise MessageTooLargeError
        try:
            answer = self._client.invoke(FunctionName=self._names[function], Payload=payload)
        except ReadTimeoutError as error:
            raise TimeoutError from error
        except ClientError as error:
            raise FunctionFailedError(error.response["Error"]["Code"]) from error
        if answer.get("FunctionError"):
            raise FunctionFailedError(answer["FunctionError"])
        return json.loads(answer["Payload"].read())


class Gateway(ThreadingHTTPServer):
    """The server; ``url`` is its address."""

    daemon_threads = True

    def __init__(self, api: DeployedApi, functions: Functions, tls: ssl.SSLContext, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.api = api
        self.functions = functions
        self._tls = tls

    @property
    def url(self) -> str:
        """The address that clients use."""
        return f"https://127.0.0.1:{self.server_port}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the connection's own thread, so that a slow client keeps nobody waiting."""
        plain = cast("socket", request)
        plain.settimeout(HANDSHAKE_SECONDS)
        try:
            secure = self._tls.wrap_socket(plain, server_side=True)
        except (OSError, ssl.SSLError) as error:
            logger.info("handshake refused: %s", error.__class__.__name__)
            return
        secure.settimeout(IDLE_SECONDS)
        with secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # the server's own signature
        """A client that went away is nothing to print a traceback for."""
        logger.info("connection lost", exc_info=logger.isEnabledFor(logging.DEBUG))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "gateway"
    sys_version = ""
    server: Gateway

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # every method there is: the API says which of them it knows
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        started, request_id = time.monotonic(), str(uuid4())
        now = datetime.now(UTC)
        context = {"requestTime": log_time(now), "requestId": request_id}
        try:
            body = self._read_body()
        except MessageTooLargeError:
            self.close_connection = True
            self._send(self.server.api.answer("REQUEST_TOO_LARGE", context), request_id, "-", started)
            return
        connection = cast("ssl.SSLSocket", self.connection)
        certificate = connection.getpeercert(binary_form=True)
        if certificate is None:
            raise AssertionError("the handshake requires a certificate")
        request = Request(
            method=self.command,
            target=self.path,
            headers=list(self.headers.items()),
            body=body,
            source_ip=self.client_address[0],
            certificate=certificate,
        )
        route = self.server.api.route(request.method, request.path)
        if route is None:
            answer = self.server.api.answer("MISSING_AUTHENTICATION_TOKEN", context)
        elif not self.server.api.throttle.admits(time.monotonic()):
            answer = self.server.api.answer("THROTTLED", context)
        else:
            event = proxy_event(request, route, request_id, now, binary=self.server.api.binary)
            answer = self._integrate(route.function, event, context)
        self._send(answer, request_id, "-" if route is None else route.resource, started)

    def _integrate(self, function: str, event: dict[str, Any], context: dict[str, str]) -> Answer:
        try:
            return _answer_of(self.server.functions.invoke(function, event))
        except TimeoutError:
            return self.server.api.answer("INTEGRATION_TIMEOUT", context)
        except MessageTooLargeError:
            return self.server.api.answer("REQUEST_TOO_LARGE", context)
        except FunctionFailedError as error:
            logger.warning("function failed: %s", error)
            return self.server.api.answer("DEFAULT_5XX", context, HTTPStatus.BAD_GATEWAY)

    def _read_body(self) -> bytes:
        """The whole body, or MessageTooLargeError once it is over the limit (what follows is read and dropped)."""
        chunks, size = [], 0
        for chunk in self._chunks():
            size += len(chunk)
            if size > _DRAIN:
                break
            if size <= MAX_BODY:
                chunks.append(chunk)
        if size > MAX_BODY:
            raise MessageTooLargeError
        return b"".join(chunks)

    def _chunks(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while length := int(self.rfile.readline(_CHUNK).partition(b";")[0].strip() or b"0", 16):
                yield self.rfile.read(length)
                self.rfile.readline(_CHUNK)
            while self.rfile.readline(_CHUNK).strip():
                pass
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (chunk := self.rfile.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk

    def _send(self, answer: Answer, request_id: str, resource: str, started: float) -> None:
        self.send_response_only(answer.status)
        for name, value in {**answer.headers, "x-amzn-RequestId": request_id}.items():
            self.send_header(name, value)
        if answer.status != HTTPStatus.NO_CONTENT:  # it has no body, and so no length of one (RFC 9110, 8.6)
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        milliseconds = round((time.monotonic() - started) * 1000)
        logger.info("%s %s %s %d ms %s", self.command, resource, answer.status, milliseconds, request_id)


def _answer_of(result: Any) -> Answer:
    """The answer in a function's result, or FunctionFailedError when it is not in the proxy integration's form."""
    try:
        body = result.get("body") or ""
        headers = {"Content-Type": "application/json"}
        headers.update({name: str(value) for name, value in (result.get("headers") or {}).items()})
        headers.update({name: ", ".join(values) for name, values in (result.get("multiValueHeaders") or {}).items()})
        return Answer(
            int(result["statusCode"]),
            headers,
            base64.b64decode(body) if result.get("isBase64Encoded") else body.encode(),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise FunctionFailedError("malformed answer") from None


def gateway_of_stack(endpoint_url: str, region: str, stack: str, tls: ssl.SSLContext) -> Gateway:
    """A gateway for the API of a deployed stack."""
    config = Config(
        read_timeout=INTEGRATION_SECONDS, retries={"total_max_attempts": 1}, max_pool_connections=64, proxies={}
    )
    session = boto3.Session(region_name=region, aws_access_key_id="test", aws_secret_access_key="test")  # noqa: S106  # ministack's
    formation = session.client("cloudformation", endpoint_url=endpoint_url, config=config)
    template: Any = formation.get_template(StackName=stack, TemplateStage="Processed")["TemplateBody"]
    described = formation.describe_stacks(StackName=stack)["Stacks"][0].get("Parameters", [])
    api = DeployedApi(
        json.loads(template) if isinstance(template, str) else template,
        {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in described},
    )
    names = {
        function: formation.describe_stack_resource(StackName=stack, LogicalResourceId=function)[
            "StackResourceDetail"
        ].get("PhysicalResourceId", "")
        for function in api.functions
    }
    functions = StackFunctions(session.client("lambda", endpoint_url=endpoint_url, config=config), names)
    return Gateway(api, functions, tls)


def main() -> None:
    """Serve until ended; the address is written to a file once the gateway answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint-url", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--cert-file", required=True, type=Path)
    parser.add_argument("--key-file", required=True, type=Path)
    parser.add_argument("--client-ca", required=True, type=Path)
    parser.add_argument("--url-file", required=True, type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    tls = server_context(Files(arguments.cert_file, arguments.key_file), arguments.client_ca)
    with gateway_of_stack(arguments.endpoint_url, arguments.region, arguments.stack, tls) as gateway:
        arguments.url_file.write_text(gateway.url)
        gateway.serve_forever()


if __name__ == "__main__":
    main()
