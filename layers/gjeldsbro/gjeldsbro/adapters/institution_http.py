"""What every exchange with an institution's server has in common: TLS, the rules of its answers, and why they fail.

The server is another company's and may be broken in any way: what it sends is bounded in bytes and in expansion. What
it sends in an error is never logged or raised: it could hold personal data. The rules do not depend on the HTTP library
that an answer came through.
"""

import os
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from itertools import chain
from threading import Lock
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import certifi

from gjeldsbro.adapters.inflate import Encoding, Inflater, InvalidStreamError, OversizedError
from gjeldsbro.adapters.secrets import ClientCertificate
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.ports import Provider

HEADERS = {"Accept": "application/json", "Accept-Encoding": "deflate", "User-Agent": "gjeldsbro"}
"""What we ask for (SPEC 3.1.2 and 6.2.1)."""

READ_SIZE = 1 << 16

_ENCODINGS: dict[str, Encoding] = {"deflate": "deflate", "gzip": "gzip", "x-gzip": "gzip"}
_PASSING_STATUSES = frozenset({408, 425, 429})
_NOT_ACCEPTED = frozenset({401, 403})
_MEANINGS = {
    401: "the server does not accept our client certificate",
    403: "the server does not let us have this",
    404: "the server has nothing at this address",
    429: "the server says that we ask too often",
}
_NOT_OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")
"""Parts of the names that OpenSSL gives to the alerts with which servers refuse clients."""


class TryAgainError(Exception):
    """This try failed, another may not. ``after``: what the server's Retry-After asks for, in seconds."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(reason)


class BrokenAnswerError(Exception):
    """The answer breaks a rule of ours, so trying again would not help. Its text is the rule."""


class NotAcceptedError(BrokenAnswerError):
    """The server does not let us in. Trying again would help only if we came with another client certificate."""


class Headers(Protocol):
    """The headers of an answer; names in lower case find them."""

    def get(self, name: str, /) -> str | None:
        """The value of a header."""
        ...


class BodyLimits(NamedTuple):
    """What a body may cost us."""

    compressed_bytes: int
    inflated_bytes: int
    expansion: int
    """Inflated bytes per compressed one. Debt data deflates to a tenth or twentieth; deflate's own maximum is 1032."""
    expansion_from: int
    """Inflated bytes below which expansion does not matter: so small a body is no danger, however it is packed."""


class Body(NamedTuple):
    """A body, inflated, and the bytes that it took on the way."""

    content: bytes
    received: int


def check_scheme(url: str, provider: Provider, *, allow_plain_http: bool) -> None:
    """Raises ConfigurationError unless the URL is https, or http where that is allowed (a local stack)."""
    scheme = urlsplit(url).scheme
    if scheme != "https" and not (allow_plain_http and scheme == "http"):
        raise ConfigurationError(f"the URL of provider {provider.provider} is not https")


def read_answer(status: int, headers: Headers, chunks: Iterator[bytes], limits: BodyLimits) -> Body:
    """The body of an answer that is as it must be: 200, JSON in UTF-8, in an encoding that we know, within the limits.

    Raises TryAgainError for what may pass by itself, BrokenAnswerError for the rest.
    """
    _check_status(status, headers)
    first = next(chunks, b"")
    if not first:
        # Headers that break off look complete to http.client: without a body, none of them can be relied on.
        raise TryAgainError("the answer breaks off")
    _check_content_type(headers.get("content-type"))
    encoding = _encoding_of(headers)
    inflater = Inflater(encoding, limits.inflated_bytes, limits.expansion, limits.expansion_from)
    received = 0
    try:
        for chunk in chain((first,), chunks):
            received += len(chunk)
            if received > limits.compressed_bytes:
                raise OversizedError(f"the body must have at most {limits.compressed_bytes >> 20} MiB as it is sent")
            inflater.write(chunk)
        return Body(inflater.finish(), received)
    except (InvalidStreamError, OversizedError) as exc:
        raise BrokenAnswerError(str(exc)) from None
    except EOFError:
        raise TryAgainError("the answer breaks off") from None


def _check_status(status: int, headers: Headers) -> None:
    if status == 200:
        return
    said = f"HTTP {status}" + (f": {meaning}" if (meaning := _meaning_of(status)) else "")
    if status in _PASSING_STATUSES or status >= 500:
        raise TryAgainError(said, _retry_after(headers.get("retry-after")))
    raise NotAcceptedError(said) if status in _NOT_ACCEPTED else BrokenAnswerError(said)


def _meaning_of(status: int) -> str | None:
    """What a status says, in words for whoever reads a night's report."""
    if status >= 500:
        return "the server has a fault of its own"
    return "redirects are not followed" if 300 <= status < 400 else _MEANINGS.get(status)


def _retry_after(header: str | None) -> float | None:
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _check_content_type(header: str | None) -> None:
    message = Message()
    if header is not None:
        message["Content-Type"] = header
    charset = str(message.get_param("charset", "utf-8")).lower()
    if header is None or message.get_content_type() != "application/json":
        raise BrokenAnswerError("the Content-Type must be application/json")
    if charset not in {"utf-8", "utf8"}:
        raise BrokenAnswerError("the charset of the Content-Type must be UTF-8")


def _encoding_of(headers: Headers) -> Encoding:
    """How the body is compressed: SPEC 6.2 names the header ``Encoding``, HTTP ``Content-Encoding``; both mean one."""
    values = {(headers.get(name) or "").strip().lower() for name in ("encoding", "content-encoding")}
    values -= {"", "identity"}
    if not values:
        return "identity"
    if len(values) > 1:
        raise BrokenAnswerError("the headers Encoding and Content-Encoding must agree")
    encoding = _ENCODINGS.get(values.pop())
    if encoding is None:
        raise BrokenAnswerError("the encoding must be deflate, gzip or identity")
    return encoding


class TlsContexts:
    """How we speak TLS with each provider's server: as whom, and whom we trust. Made once a CA, for all threads."""

    def __init__(self, certificate: ClientCertificate | None) -> None:
        self._certificate = certificate
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._lock = Lock()

    def of(self, provider: Provider) -> ssl.SSLContext:
        """The context for a provider's server; raises ConfigurationError for a CA or certificate that is none."""
        with self._lock:
            if provider.ca not in self._contexts:
                self._contexts[provider.ca] = self._make(provider)
            return self._contexts[provider.ca]

    def _make(self, provider: Provider) -> ssl.SSLContext:
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


def tls_fault(exc: BaseException) -> BrokenAnswerError | None:
    """Why TLS was refused by us or by the server, with OpenSSL's word for it; None when the connection merely broke."""
    for cause in causes(exc):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return BrokenAnswerError(f"the server's certificate is not accepted: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            word = cause.reason or "failed"
            if "_ALERT_" in word and any(part in word for part in _NOT_OUR_CERTIFICATE):
                return NotAcceptedError(f"the server does not accept our client certificate (TLS: {word})")
            return BrokenAnswerError(f"no secure connection could be agreed on (TLS: {word})")
    return None


def causes(exc: BaseException) -> Iterator[BaseException]:
    """An exception and all that it was made of; libraries put them into arguments too."""
    seen: set[int] = set()
    waiting: list[Any] = [exc]
    while waiting:
        current = waiting.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [*current.args, current.__cause__, current.__context__, getattr(current, "reason", None)]
