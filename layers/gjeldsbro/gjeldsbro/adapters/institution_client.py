"""Fetches the pages of a dataset, or the list of customers, from an institution's server (SPEC 3.1.2, 6.2 and 6.3).

The server is another company's and may be broken in any way: every read is bounded in bytes, in seconds and in
expansion.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from types import UnionType
from urllib.parse import quote, urlsplit

import requests
import urllib3

from gjeldsbro.adapters.http_guard import GuardedAdapter, Watchdog
from gjeldsbro.adapters.institution_http import (
    HEADERS,
    READ_SIZE,
    BodyLimits,
    BrokenAnswerError,
    NotAcceptedError,
    TlsContexts,
    TryAgainError,
    causes,
    check_scheme,
    read_answer,
    tls_fault,
)
from gjeldsbro.adapters.secrets import ClientCertificate
from gjeldsbro.errors import ConfigurationError, DatasetRefusedError, InstitutionUnavailableError, Violation
from gjeldsbro.services.night.ports import FetchedPage
from gjeldsbro.services.ports import Provider

_PAGE = BodyLimits(
    # FUNC-06 demands paging above 100 MB, so a page is about that; the rest is room for looser readings of it.
    compressed_bytes=256 << 20,
    inflated_bytes=256 << 20,
    expansion=100,
    expansion_from=8 << 20,
)
_LIST = BodyLimits(
    # It knows no paging. This is room for nine million numbers, far more than the country has adults.
    compressed_bytes=128 << 20,
    inflated_bytes=128 << 20,
    expansion=100,
    expansion_from=8 << 20,
)

_TOO_SLOW = "the server is too slow: the answer was not complete in time"
_PLAIN_NAMES: tuple[tuple[type[Exception] | UnionType, str], ...] = (
    (urllib3.exceptions.IncompleteRead, "the answer breaks off"),
    (urllib3.exceptions.NameResolutionError, "the connection fails: there is no such host name"),
    (ConnectionRefusedError, "the connection fails: nothing answers at this address and port"),
    (urllib3.exceptions.NewConnectionError, "the connection fails"),
    (TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError, "the server is silent"),
    (ConnectionResetError | ssl.SSLError | urllib3.exceptions.ProtocolError, "the connection breaks off"),
)


@dataclass(frozen=True)
class Limits:
    """What one page, or a list of customers, may cost us."""

    connect_seconds: float = 10
    read_seconds: float = 60
    """Longest silence. A server may need a while to open its prepared file (SPEC 3.1.2), not minutes."""
    page_seconds: float = 600
    """From the first try to the last byte. TECH-04: a whole dataset can be downloaded in less than ten minutes."""
    body: BodyLimits = _PAGE
    customers: BodyLimits = _LIST
    pauses: tuple[float, ...] = (2.0, 10.0)
    """Seconds before each further try. When they are used up, the state machine retries, with longer pauses."""
    retry_after_seconds: float = 60
    """The longest ``Retry-After`` that is waited for here."""


class InstitutionClient:
    """Fetches pages with our client certificate: a connection a page, no redirects, no proxies of the environment.

    ``certificate_anew`` reads our certificate past all caches. When a server does not let us in, that is done once, and
    another certificate than before is tried: an operator may have put it in its place meanwhile.
    """

    def __init__(
        self,
        certificate: ClientCertificate | None,
        *,
        certificate_anew: Callable[[], ClientCertificate | None] | None = None,
        allow_plain_http: bool = False,
        limits: Limits = Limits(),
        pause: Callable[[float], None] = sleep,
    ) -> None:
        self._certificate = certificate
        self._certificate_anew = certificate_anew
        self._contexts = TlsContexts(certificate)
        self._allow_plain_http = allow_plain_http
        self._limits = limits
        self._pause = pause

    def fetch_page(self, provider: Provider, institution: str, page: int, seconds: float) -> FetchedPage:
        """One page of a provider's dataset of an institution, inflated, within ``seconds`` and the limits.

        Raises InstitutionUnavailableError when the server cannot be reached, is too slow, breaks off or answers 408,
        425, 429 or 5xx, each after a few tries; DatasetRefusedError when trying again would not help, with ``page N``
        as the place; ConfigurationError when the provider is set up wrongly.
        """
        return self._fetch(provider, page_url(provider, institution, page), f"page {page}", seconds, self._limits.body)

    def fetch_customers(self, provider: Provider, institution: str, seconds: float) -> FetchedPage:
        """The list of an institution's customers at a provider (SPEC 3.1.2 and 4.5); otherwise as ``fetch_page``."""
        url = customers_url(provider, institution)
        return self._fetch(provider, url, "list", seconds, self._limits.customers)

    def _fetch(self, provider: Provider, url: str, place: str, seconds: float, largest: BodyLimits) -> FetchedPage:
        check_scheme(url, provider, allow_plain_http=self._allow_plain_http)
        until = monotonic() + min(seconds, self._limits.page_seconds)
        pauses = iter(self._limits.pauses)
        while True:
            try:
                return self._try(url, self._contexts.of(provider), until - monotonic(), largest)
            except NotAcceptedError as exc:
                if not self._has_another_certificate():
                    raise _refused(place, str(exc)) from None
            except BrokenAnswerError as exc:
                raise _refused(place, str(exc)) from None
            except TryAgainError as exc:
                wait = next(pauses, None)
                if exc.after is not None and wait is not None:
                    wait = max(wait, min(exc.after, self._limits.retry_after_seconds))
                if wait is None or monotonic() + wait >= until:
                    raise InstitutionUnavailableError(f"{place}: {exc}") from None
                self._pause(wait)

    def _has_another_certificate(self) -> bool:
        """Whether an operator has replaced our certificate since it was read; it is used from now on."""
        if self._certificate_anew is None:
            return False
        found, self._certificate_anew = self._certificate_anew(), None
        if found == self._certificate:
            return False
        self._certificate, self._contexts = found, TlsContexts(found)
        return True

    def _try(self, url: str, context: ssl.SSLContext, seconds: float, largest: BodyLimits) -> FetchedPage:
        with Watchdog(seconds) as watchdog, requests.Session() as session:
            session.trust_env = False
            session.headers.clear()
            session.headers.update(HEADERS)
            for scheme in ("https://", "http://"):
                session.mount(scheme, GuardedAdapter(watchdog, context))
            with _translated(watchdog):
                timeout = (self._limits.connect_seconds, self._limits.read_seconds)
                with session.get(url, stream=True, allow_redirects=False, timeout=timeout) as response:
                    body = read_answer(response.status_code, response.headers, _chunks(response.raw), largest)
                    pages = response.headers.get("numberOfPages")
                    return FetchedPage(body=body.content, pages=pages, received=body.received)


def page_url(provider: Provider, institution: str, page: int) -> str:
    """The URL of a page (SPEC 3.1.2): ``{url}/loans/{institution}`` or ``dataset_url``, from page 1 on with ``page=N``.

    Page 0 is asked for without the parameter (its default), so that servers which know no paging see the plain URL. A
    query string that ``dataset_url`` has is kept.
    """
    if provider.dataset_url is not None:
        url = provider.dataset_url
    elif provider.url is not None:
        url = f"{provider.url.rstrip('/')}/loans/{quote(institution, safe=':')}"
    else:
        raise ConfigurationError(f"provider {provider.provider} has no URL")
    if page == 0:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}page={page}"


def customers_url(provider: Provider, institution: str) -> str:
    """The URL of the list of an institution's customers (SPEC 3.1.2): ``{url}/ssn/{institution}``."""
    if provider.url is None:
        raise ConfigurationError(f"provider {provider.provider} has no URL")
    return f"{provider.url.rstrip('/')}/ssn/{quote(institution, safe=':')}"


def _chunks(raw: urllib3.HTTPResponse) -> Iterator[bytes]:
    # read1: whatever has arrived. A full read of 64 KB would hide a server that sends a byte a second.
    while chunk := raw.read1(READ_SIZE, decode_content=False):
        yield chunk


def _refused(place: str, rule: str) -> DatasetRefusedError:
    return DatasetRefusedError([Violation(place, rule)])


@contextmanager
def _translated(watchdog: Watchdog) -> Iterator[None]:
    """Turn what the HTTP libraries raise into a try again or a refusal; their texts can hold what the server sent."""
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, urllib3.exceptions.LocationValueError):
        raise ConfigurationError("the URL of the dataset is not one") from None
    except TryAgainError:
        if watchdog.expired:
            raise TryAgainError(_TOO_SLOW) from None
        raise
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
        if watchdog.expired:
            raise TryAgainError(_TOO_SLOW) from None
        fault = tls_fault(exc)
        raise (TryAgainError(_plain_name(exc)) if fault is None else fault) from None


def _plain_name(exc: Exception) -> str:
    """Why a connection failed, in words that tell whom to ask."""
    if isinstance(exc, requests.ConnectTimeout):
        return "no connection in time"
    found = list(causes(exc))
    for kind, name in _PLAIN_NAMES:
        if any(isinstance(cause, kind) for cause in found):
            return name
    return "the connection fails"
