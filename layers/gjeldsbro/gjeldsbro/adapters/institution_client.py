"""Fetches the pages of a dataset from an institution's server (SPEC 3.1.2 and 6.2).

The server is another company's and may be broken in any way: every read is bounded in bytes, in seconds and in
expansion. What it sends in an error is never logged or raised: it could hold personal data.
"""

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from itertools import chain
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote, urlsplit

import certifi
import requests
import urllib3

from gjeldsbro.adapters.http_guard import GuardedAdapter, Watchdog
from gjeldsbro.adapters.inflate import Encoding, Inflater, InvalidStreamError, OversizedError
from gjeldsbro.adapters.secrets import ClientCertificate
from gjeldsbro.errors import ConfigurationError, DatasetRefusedError, InstitutionUnavailableError, Violation
from gjeldsbro.services.night.ports import FetchedPage
from gjeldsbro.services.ports import Provider

_READ_SIZE = 1 << 16
_ENCODINGS: dict[str, Encoding] = {"deflate": "deflate", "gzip": "gzip", "x-gzip": "gzip"}
_PASSING_STATUSES = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Limits:
    """What one page may cost us."""

    connect_seconds: float = 10
    read_seconds: float = 60
    """Longest silence. A server may need a while to open its prepared file (SPEC 3.1.2), not minutes."""
    page_seconds: float = 600
    """From the first try to the last byte. TECH-04: a whole dataset can be downloaded in less than ten minutes."""
    compressed_bytes: int = 256 << 20
    inflated_bytes: int = 256 << 20
    """FUNC-06 demands paging above 100 MB, so a page is about that; the rest is room for looser readings of it."""
    expansion: int = 100
    """Inflated bytes per compressed one. Debt data deflates to a tenth or twentieth; deflate's own maximum is 1032."""
    expansion_from: int = 8 << 20
    """Inflated bytes below which expansion does not matter: so small a page is no danger, however it is packed."""
    pauses: tuple[float, ...] = (2.0, 10.0)
    """Seconds before each further try. When they are used up, the state machine retries, with longer pauses."""
    retry_after_seconds: float = 60
    """The longest ``Retry-After`` that is waited for here."""


class InstitutionClient:
    """Fetches pages with our client certificate: a connection a page, no redirects, no proxies of the environment."""

    def __init__(
        self,
        certificate: ClientCertificate | None,
        *,
        allow_plain_http: bool = False,
        limits: Limits = Limits(),
        pause: Callable[[float], None] = sleep,
    ) -> None:
        self._certificate = certificate
        self._allow_plain_http = allow_plain_http
        self._limits = limits
        self._pause = pause
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    def fetch_page(self, provider: Provider, institution: str, page: int, seconds: float) -> FetchedPage:
        """One page of a provider's dataset of an institution, inflated, within ``seconds`` and the limits.

        Raises InstitutionUnavailableError when the server cannot be reached, is too slow, breaks off or answers 408,
        425, 429 or 5xx, each after a few tries; DatasetRefusedError when trying again would not help, with ``page N``
        as the place; ConfigurationError when the provider is set up wrongly.
        """
        url = page_url(provider, institution, page)
        if urlsplit(url).scheme != "https" and not (self._allow_plain_http and urlsplit(url).scheme == "http"):
            raise ConfigurationError(f"the URL of provider {provider.provider} is not https")
        context = self._context(provider)
        until = monotonic() + min(seconds, self._limits.page_seconds)
        pauses = iter(self._limits.pauses)
        while True:
            try:
                return self._try(url, context, page, until - monotonic())
            except _TryAgainError as exc:
                wait = next(pauses, None)
                if exc.after is not None and wait is not None:
                    wait = max(wait, min(exc.after, self._limits.retry_after_seconds))
                if wait is None or monotonic() + wait >= until:
                    raise InstitutionUnavailableError(f"page {page}: {exc}") from None
                self._pause(wait)

    def _try(self, url: str, context: ssl.SSLContext, page: int, seconds: float) -> FetchedPage:
        with Watchdog(seconds) as watchdog, requests.Session() as session:
            session.trust_env = False
            session.headers.clear()
            session.headers.update(
                {"Accept": "application/json", "Accept-Encoding": "deflate", "User-Agent": "gjeldsbro"},
            )
            for scheme in ("https://", "http://"):
                session.mount(scheme, GuardedAdapter(watchdog, context))
            with _translated(watchdog, page):
                timeout = (self._limits.connect_seconds, self._limits.read_seconds)
                with session.get(url, stream=True, allow_redirects=False, timeout=timeout) as response:
                    return self._read(response, page)

    def _read(self, response: requests.Response, page: int) -> FetchedPage:
        _check_status(response, page)
        chunks = _chunks(response.raw)
        first = next(chunks, b"")
        if not first:
            # Headers that break off look complete to http.client: without a body, none of them can be relied on.
            raise _TryAgainError("the answer breaks off")
        _check_content_type(response.headers.get("Content-Type"), page)
        encoding = _encoding_of(response, page)
        limits = self._limits
        inflater = Inflater(encoding, limits.inflated_bytes, limits.expansion, limits.expansion_from)
        received = 0
        try:
            for chunk in chain((first,), chunks):
                received += len(chunk)
                if received > limits.compressed_bytes:
                    raise OversizedError(f"more than {limits.compressed_bytes >> 20} MiB")
                inflater.write(chunk)
            body = inflater.finish()
        except (InvalidStreamError, OversizedError) as exc:
            raise _refused(page, str(exc)) from None
        except EOFError:
            raise _TryAgainError("the answer breaks off") from None
        return FetchedPage(body=body, pages=response.headers.get("numberOfPages"), received=received)

    def _context(self, provider: Provider) -> ssl.SSLContext:
        if provider.ca not in self._contexts:
            self._contexts[provider.ca] = self._make_context(provider)
        return self._contexts[provider.ca]

    def _make_context(self, provider: Provider) -> ssl.SSLContext:
        if provider.ca is None:
            context = ssl.create_default_context(cafile=certifi.where())
        else:
            try:
                context = ssl.create_default_context(cadata=provider.ca)
            except (ssl.SSLError, ValueError):
                raise ConfigurationError(f"the private CA of provider {provider.provider} is not PEM") from None
            # Private authorities often lack extensions that strict asks for. Chain, name and dates are still checked.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self._certificate is not None:
            _load(context, self._certificate)
        return context


class _TryAgainError(Exception):
    """This try failed, another may not. ``after``: what the server's Retry-After asks for, in seconds."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(reason)


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


def _load(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    """Give a context our certificate; ``load_cert_chain`` wants files, so they exist in memory only, for a moment."""
    pem = f"{certificate.certificate.strip()}\n{certificate.private_key.strip()}\n".encode()
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except (ssl.SSLError, ValueError):
        raise ConfigurationError("our client certificate and its private key do not fit together") from None
    finally:
        os.close(descriptor)


def _chunks(raw: urllib3.HTTPResponse) -> Iterator[bytes]:
    # read1: whatever has arrived. A full read of 64 KB would hide a server that sends a byte a second.
    while chunk := raw.read1(_READ_SIZE, decode_content=False):
        yield chunk


def _refused(page: int, rule: str) -> DatasetRefusedError:
    return DatasetRefusedError([Violation(f"page {page}", rule)])


def _check_status(response: requests.Response, page: int) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in _PASSING_STATUSES or status >= 500:
        raise _TryAgainError(f"HTTP {status}", _retry_after(response.headers.get("Retry-After")))
    raise _refused(page, f"HTTP {status}" + (", redirects are not followed" if 300 <= status < 400 else ""))


def _retry_after(header: str | None) -> float | None:
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _check_content_type(header: str | None, page: int) -> None:
    message = Message()
    if header is not None:
        message["Content-Type"] = header
    charset = str(message.get_param("charset", "utf-8")).lower()
    if header is None or message.get_content_type() != "application/json":
        raise _refused(page, "the Content-Type must be application/json")
    if charset not in {"utf-8", "utf8"}:
        raise _refused(page, "the charset of the Content-Type must be UTF-8")


def _encoding_of(response: requests.Response, page: int) -> Encoding:
    """How the body is compressed: SPEC 6.2 names the header ``Encoding``, HTTP ``Content-Encoding``; both mean one."""
    values = {response.headers.get(name, "").strip().lower() for name in ("Encoding", "Content-Encoding")}
    values -= {"", "identity"}
    if not values:
        return "identity"
    if len(values) > 1:
        raise _refused(page, "the headers Encoding and Content-Encoding must agree")
    encoding = _ENCODINGS.get(values.pop())
    if encoding is None:
        raise _refused(page, "the encoding must be deflate, gzip or identity")
    return encoding


@contextmanager
def _translated(watchdog: Watchdog, page: int) -> Iterator[None]:
    """Turn what the HTTP libraries raise into a try again or a refusal; their texts can hold what the server sent."""
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, urllib3.exceptions.LocationValueError):
        raise ConfigurationError("the URL of the dataset is not one") from None
    except _TryAgainError:
        if watchdog.expired:
            raise _TryAgainError("the server is too slow") from None
        raise
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
        if watchdog.expired:
            raise _TryAgainError("the server is too slow") from None
        fault = _tls_fault(exc)
        if fault is not None:
            raise _refused(page, fault) from None
        raise _TryAgainError(_plain_name(exc)) from None


def _plain_name(exc: Exception) -> str:
    if isinstance(exc, requests.ConnectTimeout):
        return "no connection in time"
    causes = list(_chain(exc))
    if any(isinstance(cause, urllib3.exceptions.IncompleteRead) for cause in causes):
        return "the answer breaks off"
    if any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in causes):
        return "the connection fails"
    if any(isinstance(cause, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError) for cause in causes):
        return "the server is silent"
    return "the connection fails"


def _tls_fault(exc: Exception) -> str | None:
    """Why TLS was refused by us or by the server, in OpenSSL's words; None when the connection merely broke."""
    for cause in _chain(exc):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return f"TLS: {cause.reason or 'failed'}"
    return None


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[Any] = [exc]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [*current.args, current.__cause__, current.__context__, getattr(current, "reason", None)]
