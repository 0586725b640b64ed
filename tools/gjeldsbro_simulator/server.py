"""Run the simulator in a thread of this process."""

import socket
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gjeldsbro_simulator.app import InstitutionApp
from gjeldsbro_simulator.config import ServedDataset
from gjeldsbro_simulator.faults import Fault
from gjeldsbro_simulator.sources import Source
from gjeldsbro_simulator.world import ServedRequest, World

_START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Tls:
    """The server's certificate and key (PEM files); with ``client_ca`` a client certificate of that CA is demanded."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def server_config(
    app: InstitutionApp, *, host: str = "127.0.0.1", port: int = 0, tls: Tls | None = None
) -> uvicorn.Config:
    """How uvicorn serves the app: HTTP/1.1, quiet, without waiting long for clients when it ends."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
        ssl_ca_certs=str(tls.client_ca) if tls and tls.client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls and tls.client_ca else ssl.CERT_NONE,
    )


class _Protocol(H11Protocol):
    """HTTP/1.1 that ends idle connections at once: over TLS, clients that keep theirs do not answer a farewell."""

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()

    def shutdown(self) -> None:
        self.transport.abort()


class Simulator:
    """Simulated institutions on a loopback port of their own, for the length of a ``with`` block.

    ``source`` is a Population or a FolderSource; ``datasets`` says how each is served (default: all manners occur).
    """

    def __init__(
        self,
        source: Source,
        datasets: Iterable[ServedDataset] | None = None,
        *,
        tls: Tls | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        admin: bool = True,
    ) -> None:
        self.world = World(source, datasets)
        self._socket = socket.create_server((host, port))
        self._scheme = "https" if tls else "http"
        self._server = uvicorn.Server(server_config(InstitutionApp(self.world, admin=admin), host=host, tls=tls))
        self._thread = Thread(target=self._server.run, args=([self._socket],), name="simulator", daemon=True)

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        host, port = self._socket.getsockname()[:2]
        return f"{self._scheme}://{host}:{port}"

    @property
    def url(self) -> str:
        """The base URL for institution files: what comes before ``/loans/{financialInstitutionID}``."""
        return f"{self.origin}/debt-information/v1"

    def provider_url(self, provider: str) -> str:
        """The base URL of one provider, for institutions with several of them."""
        return f"{self.origin}/{provider}/debt-information/v1"

    @property
    def requests(self) -> Sequence[ServedRequest]:
        """The requests that were answered, oldest first."""
        return self.world.requests

    def serve(self, source: Source) -> None:
        """Serve another population from now on, for example the next night's."""
        self.world.serve(source)

    def configure(self, institution: str, provider: str | None = None, **changes: object) -> None:
        """Change how a dataset is served: fields of ServedDataset."""
        self.world.configure(institution, provider, **changes)

    def misbehave(self, institution: str, fault: Fault | str, provider: str | None = None) -> None:
        """Let a dataset misbehave from now on: a Fault, or text such as ``status:503,times=2``."""
        self.world.misbehave(institution, fault, provider)

    def behave(self, institution: str | None = None, provider: str | None = None) -> None:
        """End the misbehaviour of one dataset, or of all."""
        self.world.behave(institution, provider)

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the simulator did not start")
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=_START_SECONDS)
        self._socket.close()
