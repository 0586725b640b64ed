"""The API of the template over real TLS: the local gateway in front, the functions' handlers on moto behind it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from tests.api_of_template import api_functions, handler, processed

from gjeldsbro_local.certificates import Authority, Issued, server_context
from gjeldsbro_local.gateway import Gateway
from gjeldsbro_local.gateway_routes import DeployedApi

type Certificate = Issued | None


class Handlers:
    """The functions' handlers, which remember the events that they got."""

    def __init__(self) -> None:
        self._handlers = {function: handler(function) for function in api_functions()}
        self.events: list[dict[str, Any]] = []

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """As the gateway's Functions."""
        self.events.append(event)
        return self._handlers[function](event)


class ServedApi:
    """A gateway that serves, the authority that it trusts, and what a client needs to call it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server_ca, self.authority = Authority.create("Server"), Authority.create("Clients")
        self._server_ca_file = str(self._server_ca.write(directory, "server-ca").cert_file)
        client_ca_file = self.authority.write(directory, "client-ca").cert_file
        tls = server_context(self._server_ca.issue_server().write(directory, "server"), client_ca_file)
        self.functions = Handlers()
        self.gateway = Gateway(DeployedApi(processed(), {}), self.functions, tls)
        self._known: dict[int, tuple[str, str]] = {}

    def call(self, method: str, path: str, certificate: Certificate, **values: Any) -> requests.Response:
        """A request with a client certificate, or without one."""
        with requests.Session() as session:
            session.trust_env = False
            session.verify = self._server_ca_file
            session.cert = None if certificate is None else self._files(certificate)
            return session.request(method, f"{self.gateway.url}{path}", timeout=20, **values)

    def refuses(self, certificate: Certificate) -> bool:
        """Whether the handshake fails; then no function was asked."""
        before = len(self.functions.events)
        try:
            self.call("GET", "/", certificate)
        except requests.exceptions.ConnectionError:  # a TLS alert, or a connection that is closed under the client
            assert len(self.functions.events) == before
            return True
        return False

    def _files(self, certificate: Issued) -> tuple[str, str]:
        serial = certificate.certificate.serial_number
        if serial not in self._known:
            files = certificate.write(self._directory, f"client-{serial}")
            self._known[serial] = str(files.cert_file), str(files.key_file)
        return self._known[serial]


@contextmanager
def served_api(directory: Path) -> Iterator[ServedApi]:
    """The API while it serves."""
    api = ServedApi(directory)
    thread = threading.Thread(target=api.gateway.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        api.gateway.shutdown()
        api.gateway.server_close()
        thread.join()
