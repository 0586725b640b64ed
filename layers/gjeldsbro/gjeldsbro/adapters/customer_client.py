"""Asks institutions about one customer while a lender waits (SPEC 3.1.2 and 6.1).

The number of the customer is in a header, as SPEC has it, and nowhere else: in no URL, log line or error. Connections
are kept between questions, and all retries together end at the lookup's deadline.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException, IncompleteRead, InvalidURL
from threading import Lock
from time import monotonic, sleep
from urllib.parse import quote, urlsplit

from gjeldsbro.adapters.institution_http import (
    HEADERS,
    BodyLimits,
    BrokenAnswerError,
    TlsContexts,
    TryAgainError,
    check_scheme,
    read_answer,
    tls_fault,
)
from gjeldsbro.adapters.kept_connections import KeptConnections, Server
from gjeldsbro.adapters.secrets import ClientCertificate
from gjeldsbro.domain.customer_answer import read_customer_answer
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.domain.loans import Loan
from gjeldsbro.errors import (
    AnswerRefusedError,
    ConfigurationError,
    InstitutionUnavailableError,
    InvalidMessageError,
    NoAnswerInTimeError,
    Violation,
)
from gjeldsbro.services.ports import Provider

_PLACE = "answer"
"""Where a rule is broken that is not about a place in the body."""

_SAFE_IN_PATHS = "/:@!$&'()*+,;=%"
"""What may stand in a path as it is (RFC 3986 section 3.3), what was quoted before included."""

_BODY = BodyLimits(compressed_bytes=1 << 20, inflated_bytes=1 << 20, expansion=100, expansion_from=1 << 20)
"""The most loans that a customer may have take about half a megabyte."""


@dataclass(frozen=True)
class Limits:
    """How the time until the deadline is used."""

    first_seconds: float = 0.4
    """What a try gets at least, where there is so much: 99 % of answers take less than 0.5 seconds (SPEC)."""
    again_seconds: float = 0.6
    """What the first try leaves for the one after a time-out: enough for those 99 %."""
    pauses: tuple[float, ...] = (0.1, 0.3, 0.9)
    """Seconds before each try after one that failed by itself; one that timed out is followed by the next at once."""
    least_seconds: float = 0.05
    """A try that would have less than this is not made: nothing would come of it."""
    early_seconds: float = 0.02
    """So much before the deadline we give up: whoever waits until then must still hear of it, and why."""
    body: BodyLimits = _BODY


class CustomerClient:
    """Asks with our client certificate, over connections that are kept (see ``services.customer_debt.Asking``).

    ``certificate`` is asked for at each question, so that a renewed one is used soon; whoever gives it keeps it for a
    while. For all threads.
    """

    def __init__(
        self,
        certificate: Callable[[], ClientCertificate | None],
        *,
        accepts: Accepts,
        allow_plain_http: bool = False,
        limits: Limits = Limits(),
        connections: KeptConnections | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], None] = sleep,
    ) -> None:
        self._certificate = certificate
        self._accepts = accepts
        self._allow_plain_http = allow_plain_http
        self._limits = limits
        self._connections = connections or KeptConnections()
        self._clock = clock
        self._pause = pause
        self._lock = Lock()
        self._contexts: tuple[ClientCertificate | None, TlsContexts] | None = None

    def ask(self, provider: Provider, institution: str, customer_id: str, deadline: float) -> tuple[Loan, ...]:
        """The customer's loans at an institution, validated, by ``deadline`` (``time.monotonic()``); () for none.

        Raises InstitutionUnavailableError after as many tries as the time allows, which NoAnswerInTimeError is when the
        time was over while it was asked; AnswerRefusedError, with places and rules, when asking again would not help;
        ConfigurationError when the provider is set up wrongly.
        """
        if not (len(customer_id) == 11 and customer_id.isascii() and customer_id.isdigit()):
            raise ValueError("not an identity number")  # http.client would quote what cannot be in a header
        server, target = self._address(provider, institution)
        body = self._fetch(server, target, {**HEADERS, "customerID": customer_id}, deadline)
        try:
            return read_customer_answer(
                body,
                customer_id=customer_id,
                institution=institution,
                provider=provider.provider,
                accepts=self._accepts,
                now=self._clock(),
            )
        except InvalidMessageError as exc:
            raise AnswerRefusedError(exc.violations, exc.total) from None

    def _fetch(self, server: Server, target: str, headers: dict[str, str], deadline: float) -> bytes:
        """The body of the first good answer.

        The first try leaves time for another, at most half of it, so that a request that got lost can be sent again
        (SPEC 6.1) and a slow institution is heard as long as possible; the one after a time-out gets all the rest.
        """
        limits = self._limits
        deadline -= limits.early_seconds
        pauses = iter(limits.pauses)
        timed_out = False
        while True:
            left = deadline - monotonic()
            if left < limits.least_seconds:
                raise NoAnswerInTimeError("no answer in time")
            seconds = left if timed_out else max(left / 2, left - limits.again_seconds, min(left, limits.first_seconds))
            try:
                return self._try(server, target, headers, monotonic() + seconds)
            except TimeoutError:
                # Whatever held this connection up may hold the others up too: the next try gets a new one.
                self._connections.forget(server)
                if timed_out:
                    raise NoAnswerInTimeError("no answer in time") from None
                timed_out = True
            except TryAgainError as exc:
                wait = next(pauses, None)
                if wait is not None and exc.after is not None:
                    wait = max(wait, exc.after)
                if wait is None or deadline - monotonic() - wait < limits.least_seconds:
                    raise InstitutionUnavailableError(str(exc)) from None
                self._pause(wait)

    def _try(self, server: Server, target: str, headers: dict[str, str], deadline: float) -> bytes:
        with _translated(), self._connections.get(server, target, headers, deadline) as answer:
            return read_answer(answer.status, answer.headers, answer.chunks(), self._limits.body).content

    def _address(self, provider: Provider, institution: str) -> tuple[Server, str]:
        if provider.url is None:
            raise ConfigurationError(f"provider {provider.provider} has no URL")
        check_scheme(provider.url, provider, allow_plain_http=self._allow_plain_http)
        try:
            parts = urlsplit(provider.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host:
            raise ConfigurationError(f"the URL of provider {provider.provider} is not one")
        base = quote(parts.path.rstrip("/"), safe=_SAFE_IN_PATHS)
        target = f"{base}/loans/{quote(institution, safe=':')}/customer"
        if parts.scheme == "http":
            return Server(host, port or 80, None), target
        return Server(host, port or 443, self._tls().of(provider)), target

    def _tls(self) -> TlsContexts:
        certificate = self._certificate()
        with self._lock:
            if self._contexts is None or self._contexts[0] != certificate:
                # Connections of the old contexts are never asked for again, and close when they have been idle.
                self._contexts = (certificate, TlsContexts(certificate))
            return self._contexts[1]


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what can go wrong into a try again or a refusal; the libraries' texts can hold what the server sent."""
    try:
        yield
    except BrokenAnswerError as exc:
        raise AnswerRefusedError([Violation(_PLACE, str(exc))]) from None
    except TimeoutError:
        raise
    except IncompleteRead:
        raise TryAgainError("the answer breaks off") from None
    except OSError as exc:
        fault = tls_fault(exc)
        if fault is not None:
            raise AnswerRefusedError([Violation(_PLACE, str(fault))]) from None
        raise TryAgainError("the connection fails") from None
    except (InvalidURL, ValueError):
        raise ConfigurationError("the URL of the provider is not one") from None
    except HTTPException:
        raise TryAgainError("the answer is not HTTP") from None
