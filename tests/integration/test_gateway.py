"""The local gateway over real TLS, with functions of the test's own behind it."""

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from tests.gateway_template import deployed

from gjeldsbro_local.certificates import Authority, server_context
from gjeldsbro_local.gateway import FunctionFailedError, Gateway, MessageTooLargeError
from gjeldsbro_local.gateway_routes import DeployedApi

PUSH = "/debt-information/v1/loans"


class Functions:
    """Functions that do what the path says, and remember their events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """As the gateway's Functions."""
        self.events.append(event)
        match event["path"]:
            case "/fails":
                raise FunctionFailedError("Unhandled")
            case "/takes-too-long":
                raise TimeoutError
            case "/too-large-for-lambda":
                raise MessageTooLargeError
            case "/malformed":
                return {"body": "no status"}
            case "/nothing":
                return {"statusCode": 204, "body": ""}
        return {
            "statusCode": 201,
            "headers": {"X-Function": function},
            "multiValueHeaders": {"Allow": ["GET", "POST"]},
            "body": "eyJvayI6IHRydWV9" if event["path"] == "/binary" else '{"ok": true}',
            "isBase64Encoded": event["path"] == "/binary",
        }


class Served:
    """A gateway that serves, and what a client needs to reach it."""

    def __init__(self, directory, *, burst: int = 1000) -> None:
        self.server_ca, self.client_ca = Authority.create("Server"), Authority.create("Clients")
        self.server_ca_file = str(self.server_ca.write(directory, "server-ca").cert_file)
        client_ca_file = self.client_ca.write(directory, "client-ca").cert_file
        tls = server_context(self.server_ca.issue_server().write(directory, "server"), client_ca_file)
        self.functions = Functions()
        self.gateway = Gateway(DeployedApi(deployed(rate=0.001, burst=burst), {}), self.functions, tls)
        files = self.client_ca.issue_client("920013015").write(directory, "client")
        self.certificate = (str(files.cert_file), str(files.key_file))
        self.thread = threading.Thread(target=self.gateway.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def call(self, method: str, path: str, certificate: Any = "ours", **values: Any) -> requests.Response:
        """A request with our client certificate, or another one, or none."""
        with requests.Session() as session:
            session.trust_env = False
            session.verify = self.server_ca_file
            session.cert = self.certificate if certificate == "ours" else certificate
            return session.request(method, f"{self.gateway.url}{path}", timeout=20, **values)

    def close(self) -> None:
        """End it."""
        self.gateway.shutdown()
        self.gateway.server_close()
        self.thread.join()


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    """A gateway for one test."""
    found = Served(tmp_path)
    yield found
    found.close()


def test_the_functions_answer_is_passed_on(served: Served) -> None:
    """Status, headers and body are the function's; the request id is API Gateway's."""
    answer = served.call("POST", PUSH, json={"a": 1})
    assert (answer.status_code, answer.json()) == (201, {"ok": True})
    assert answer.headers["X-Function"] == "PushFunction"
    assert answer.headers["Allow"] == "GET, POST"
    assert answer.headers["x-amzn-RequestId"] == served.functions.events[0]["requestContext"]["requestId"]
    assert served.call("GET", "/binary").json() == {"ok": True}


def test_an_answer_without_a_body_has_no_length_of_one(served) -> None:
    """204 goes out without Content-Length, and the connection can be used again (RFC 9110, 8.6)."""
    answer = served.call("GET", "/nothing")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "Content-Length" not in answer.headers
    assert served.call("POST", "/loans").status_code == 201


def test_a_body_in_chunks_arrives_whole(served: Served) -> None:
    """A client that does not know the length beforehand sends chunks."""
    served.call("POST", PUSH, data=iter([b"one ", b"two ", b"three"]))
    assert base64.b64decode(served.functions.events[0]["body"]) == b"one two three"


@pytest.mark.parametrize(
    ("path", "status", "retry"),
    [
        ("/fails", 502, "30"),
        ("/malformed", 502, "30"),
        ("/takes-too-long", 504, "30"),
        ("/too-large-for-lambda", 413, None),
    ],
)
def test_what_goes_wrong_behind_the_gateway(served: Served, path: str, status: int, retry: str | None) -> None:
    """A function's failure becomes an answer in the template's model, and the gateway lives on."""
    answer = served.call("POST", path)
    assert answer.status_code == status
    assert answer.json().keys() == {"errorMessage", "timestamp", "uuid"}
    assert answer.headers.get("Retry-After") == retry
    assert served.call("GET", "/again").status_code == 201


def test_no_route_no_function(served: Served) -> None:
    """What API Gateway has no method for is answered by itself."""
    assert served.call("GET", PUSH).status_code == 404
    assert served.functions.events == []


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "get"])
def test_a_method_that_api_gateway_does_not_know(served: Served, method: str) -> None:
    """ANY stands for seven methods; whatever else is asked is answered in SPEC's model without a function."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify, session.cert = served.server_ca_file, served.certificate
        asked = requests.Request("GET", f"{served.gateway.url}/x").prepare()
        asked.method = method
        answer = session.send(asked, timeout=20)
    assert answer.status_code == 404
    assert answer.json().keys() == {"errorMessage", "timestamp", "uuid"}
    assert served.functions.events == []


def test_ten_mebibytes_are_the_limit(served: Served) -> None:
    """One byte more is 413, and no function is called."""
    assert served.call("POST", PUSH, data=b" " * (10 * 1024 * 1024)).status_code == 201
    assert served.call("POST", PUSH, data=b" " * (10 * 1024 * 1024 + 1)).status_code == 413
    assert len(served.functions.events) == 1


def test_too_many_requests(tmp_path) -> None:
    """Over the limit: 429 with Retry-After, and no function is called."""
    served = Served(tmp_path, burst=2)
    try:
        answers = [served.call("GET", "/x") for _ in range(3)]
    finally:
        served.close()
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert answers[2].headers["Retry-After"] == "5"
    assert len(served.functions.events) == 2


def test_who_has_no_certificate_of_ours_gets_no_connection(served: Served, tmp_path) -> None:
    """None, and one of another authority, end in the handshake."""
    files = Authority.create("Others").issue_client("920013015").write(tmp_path, "other")
    for certificate in (None, (str(files.cert_file), str(files.key_file))):
        with pytest.raises(requests.exceptions.ConnectionError):
            served.call("GET", "/x", certificate=certificate)
    assert served.functions.events == []


def test_a_client_that_says_nothing_keeps_nobody_waiting(served: Served) -> None:
    """A connection that never shakes hands does not hold up the next one."""
    with socket.create_connection(("127.0.0.1", served.gateway.server_port)):
        assert served.call("GET", "/x").status_code == 201


def test_tls_1_1_is_refused(served: Served) -> None:
    """TLS 1.2 or later, as API Gateway's security policy says."""
    context = ssl.create_default_context(cafile=served.server_ca_file)
    context.load_cert_chain(*served.certificate)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", served.gateway.server_port)) as plain,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_events_are_json(served: Served) -> None:
    """Whatever the gateway hands to a function fits into an invocation."""
    served.call("POST", PUSH, data=b"\x00\xff", headers={"X-Note": "blåbær".encode().decode("latin-1")})
    assert json.loads(json.dumps(served.functions.events[0])) == served.functions.events[0]
