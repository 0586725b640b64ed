"""Fetches a revocation list over http or https: bounded in bytes and seconds, no redirects, no compression.

Plain http is how authorities publish their lists: they are signed. What a server says when it has no list to give is
neither logged nor shown.
"""

import ssl
from dataclasses import dataclass

import certifi
import requests
import urllib3

from gjeldsbro.adapters.http_guard import GuardedAdapter, Watchdog
from gjeldsbro.errors import RevocationListError

_READ_SIZE = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What one list may cost us."""

    connect_seconds: float = 10
    seconds: float = 30
    """From the start of the connection to the last byte."""
    size: int = 16 << 20
    """Bytes. An entry has at least 22, so a chunk (domain.revocation) of such a list still fits into one item."""


def fetch_list(url: str, limits: Limits = Limits()) -> bytes:
    """What a server gives for a list; raises RevocationListError when it gives nothing in time, or too much."""
    with Watchdog(limits.seconds) as watchdog, requests.Session() as session:
        session.trust_env = False
        session.headers.clear()
        session.headers.update({"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "gjeldsbro"})
        context = ssl.create_default_context(cafile=certifi.where())
        for scheme in ("https://", "http://"):
            session.mount(scheme, GuardedAdapter(watchdog, context))
        try:
            timeout = (limits.connect_seconds, limits.seconds)
            with session.get(url, stream=True, allow_redirects=False, timeout=timeout) as response:
                data = _read(response, limits)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
            if watchdog.expired:
                raise RevocationListError("the server is too slow") from None
            raise RevocationListError(f"the list cannot be fetched ({_plain_name(exc)})") from None
        if watchdog.expired:
            raise RevocationListError("the server is too slow")
        return data


def _read(response: requests.Response, limits: Limits) -> bytes:
    if response.status_code != 200:
        redirected = ", redirects are not followed" if 300 <= response.status_code < 400 else ""
        raise RevocationListError(f"the server answers HTTP {response.status_code}{redirected}")
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise RevocationListError("the server compresses the list although it was asked not to")
    data = bytearray()
    while chunk := response.raw.read1(_READ_SIZE, decode_content=False):
        data += chunk
        if len(data) > limits.size:
            raise RevocationListError(f"the list has more than {limits.size >> 20} MiB")
    return bytes(data)


def _plain_name(exc: Exception) -> str:
    match exc:
        case urllib3.exceptions.ProtocolError():  # while reading: before that, requests names it otherwise
            return "the answer breaks off"
        case requests.exceptions.SSLError():
            return "TLS fails"
        case requests.Timeout():
            return "the server is silent"
        case requests.exceptions.InvalidURL() | requests.exceptions.InvalidSchema() | ValueError():
            return "its address is no URL"
        case _:
            return "the connection fails"
