"""Fetching pages from real servers on loopback, with every fault that we know of."""

import gzip
import os
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from threading import Event

import pytest
from tests.integration.raw_server import RawServer, answer, authority

from gjeldsbro.adapters.institution_client import InstitutionClient, Limits, page_url
from gjeldsbro.adapters.institution_http import BodyLimits, TlsContexts
from gjeldsbro.adapters.secrets import ClientCertificate
from gjeldsbro.errors import ConfigurationError, DatasetRefusedError, InstitutionUnavailableError
from gjeldsbro.services.ports import Provider

FI = "920013015"
PROVIDER = "9908:920013015"
BODY = b'{"providerID":"9908:920013015","customers":[]}' * 40
QUICK = Limits(connect_seconds=2, read_seconds=1, page_seconds=20, pauses=(0.0, 0.0))


@pytest.fixture
def serve(tmp_path):
    """Starts servers that end with the test; each request gets the next answer: bytes or a function (socket, head)."""
    servers = []

    def start(*answers, **options) -> RawServer:
        waiting = list(answers)

        def script(stream: socket.socket, head: str) -> None:
            now = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if callable(now):
                now(stream, head)
            else:
                stream.sendall(now)

        server = RawServer(script, folder=tmp_path, **options)
        servers.append(server)
        return server.__enter__()

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def client(**options) -> InstitutionClient:
    """A client that waits for nobody."""
    return InstitutionClient(
        options.pop("certificate", None),
        allow_plain_http=options.pop("allow_plain_http", True),
        limits=options.pop("limits", QUICK),
        pause=options.pop("pause", lambda _: None),
    )


def fetch(server, *, page=0, ca=None, seconds=20.0, **options):
    """One page from ``server``."""
    return client(**options).fetch_page(Provider(PROVIDER, url=server.url, ca=ca), FI, page, seconds)


def raw_deflate(body: bytes) -> bytes:
    """Deflate without zlib's header."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


def chunked(body: bytes, *, end: bytes = b"0\r\n\r\n", encoding: str = "") -> bytes:
    """A chunked response of three chunks; without ``end`` it breaks off."""
    parts = [body[:7], body[7:30], body[30:]]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    head += f"Encoding: {encoding}\r\n".encode() if encoding else b""
    return head + b"Connection: close\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + end


# What is asked for


def test_the_request_is_that_of_the_specification(serve) -> None:
    """SPEC 3.1.2 and 6.2.1: the path, Accept, Accept-Encoding: deflate; page 0 without the parameter."""
    server = serve(answer(BODY))
    fetch(server)
    fetch(server, page=3)
    first, second = server.heads
    assert first.startswith(f"GET /debt-information/v1/loans/{FI} HTTP/1.1\r\n")
    assert second.startswith(f"GET /debt-information/v1/loans/{FI}?page=3 HTTP/1.1\r\n")
    assert "\r\nAccept: application/json\r\n" in first
    assert "\r\nAccept-Encoding: deflate\r\n" in first


@pytest.mark.parametrize(
    ("provider", "institution", "page", "url"),
    [
        (Provider("p", url="https://a/v1"), FI, 0, f"https://a/v1/loans/{FI}"),
        (Provider("p", url="https://a/v1/"), FI, 1, f"https://a/v1/loans/{FI}?page=1"),
        (Provider("p", url="https://a"), "0007:5569622441", 0, "https://a/loans/0007:5569622441"),
        (Provider("p", url="https://a", dataset_url="https://b/x?k=1"), FI, 0, "https://b/x?k=1"),
        (Provider("p", dataset_url="https://b/x?k=1"), FI, 2, "https://b/x?k=1&page=2"),
    ],
)
def test_the_url_of_a_page(provider, institution, page, url) -> None:
    """``datasetUrl`` goes before ``url`` and keeps its own query string."""
    assert page_url(provider, institution, page) == url


def test_the_list_of_customers_is_asked_for_at_its_own_path(serve) -> None:
    """SPEC 3.1.2: ``/ssn/{institution}``, with the same guards; the numberOfPages of a page has no meaning."""
    server = serve(answer(zlib.compress(BODY), Encoding="deflate"))
    found = client().fetch_customers(Provider(PROVIDER, url=server.url), "0007:5569622441", 20.0)
    assert (found.body, found.pages) == (BODY, None)
    assert server.heads[0].startswith("GET /debt-information/v1/ssn/0007:5569622441 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answered", "error", "text"),
    [
        (answer(b"{}", status="403 Forbidden"), DatasetRefusedError, "list: HTTP 403"),
        (answer(b"{}", status="503 Service Unavailable"), InstitutionUnavailableError, "list: HTTP 503"),
        (answer(bytes(2 << 20)), DatasetRefusedError, "list: the body must have at most 1 MiB"),
    ],
)
def test_a_list_is_bounded_and_refused_as_a_page_is(serve, answered, error, text) -> None:
    """The place says that it was the list."""
    limits = Limits(customers=BodyLimits(1 << 20, 1 << 20, expansion=100, expansion_from=1 << 20), pauses=())
    with pytest.raises(error, match=text) as caught:
        client(limits=limits).fetch_customers(Provider(PROVIDER, url=serve(answered).url), FI, 20.0)
    assert str(caught.value).startswith("list: ")


def test_a_list_needs_the_base_address() -> None:
    """A whole URL of a dataset says nothing about where the list is."""
    with pytest.raises(ConfigurationError, match="has no URL"):
        client().fetch_customers(Provider(PROVIDER, dataset_url="https://b/x"), FI, 20.0)


def test_the_environment_has_no_say(serve, monkeypatch) -> None:
    """A proxy or CA bundle of the environment would send debt data, or our trust, somewhere else."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    assert fetch(serve(answer(BODY))).body == BODY


# What comes back


@pytest.mark.parametrize(
    ("headers", "packed"),
    [
        ({}, BODY),
        ({"Content_Encoding": "identity"}, BODY),
        ({"Encoding": "deflate"}, zlib.compress(BODY)),
        ({"Encoding": "deflate"}, raw_deflate(BODY)),
        ({"Content_Encoding": "deflate"}, zlib.compress(BODY)),
        ({"Content_Encoding": "deflate"}, raw_deflate(BODY)),
        ({"Encoding": "deflate", "Content_Encoding": "deflate"}, zlib.compress(BODY)),
        ({"Encoding": "Deflate"}, raw_deflate(BODY)),
        ({"Content_Encoding": "gzip"}, gzip.compress(BODY, mtime=0)),
        ({"Encoding": "gzip"}, gzip.compress(BODY, mtime=0)),
    ],
)
def test_every_way_to_compress_gives_the_same_page(serve, headers, packed) -> None:
    """SPEC's own header, HTTP's, or both for one compression; zlib, raw, gzip or nothing."""
    page = fetch(serve(answer(packed, **headers)))
    assert page.body == BODY
    assert page.received == len(packed)
    assert page.pages is None


def test_a_chunked_page_is_read_whole(serve) -> None:
    """Servers that deflate as they send know no Content-Length."""
    assert fetch(serve(chunked(zlib.compress(BODY), encoding="deflate"))).body == BODY


def test_the_number_of_pages_is_handed_on(serve) -> None:
    """The header is the caller's to judge, in whatever case it came."""
    assert fetch(serve(answer(BODY, NUMBEROFPAGES="12"))).pages == "12"


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", 'application/json;charset="UTF-8"'])
def test_json_in_utf_8_is_accepted_however_it_is_written(serve, content_type) -> None:
    """Only the meaning of the header counts."""
    assert fetch(serve(answer(BODY, Content_Type=content_type))).body == BODY


# What is refused, and not asked for again


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        (answer(b"", status="401 Unauthorized"), "HTTP 401: the server does not accept our client certificate"),
        (answer(b"", status="403 Forbidden"), "HTTP 403"),
        (answer(b"", status="404 Not Found"), "HTTP 404"),
        (answer(b"", status="413 Content Too Large"), "HTTP 413"),
        (answer(b"", status="204 No Content"), "HTTP 204"),
        (answer(b"", status="302 Found", Location="http://127.0.0.1:9/"), "HTTP 302: redirects are not followed"),
        (answer(b"<html>", Content_Type="text/html"), "the Content-Type must be application/json"),
        (answer(BODY, Content_Type=""), "the Content-Type must be application/json"),
        (
            answer(BODY, Content_Type="application/json; charset=latin-1"),
            "the charset of the Content-Type must be UTF-8",
        ),
        (answer(BODY, Content_Encoding="br"), "the encoding must be deflate, gzip or identity"),
        (answer(BODY, Encoding="deflate", Content_Encoding="gzip"), "Encoding and Content-Encoding must agree"),
        (answer(BODY, Encoding="deflate"), "must be compressed with deflate, as its header says"),
        (answer(zlib.compress(BODY) + b"more", Encoding="deflate"), "nothing must follow the compressed body"),
    ],
)
def test_what_trying_again_would_not_mend_is_refused_at_once(serve, response, rule) -> None:
    """The place is the page, the rule is ours; one request is enough."""
    server = serve(response)
    with pytest.raises(DatasetRefusedError) as caught:
        fetch(server, page=2)
    assert caught.value.violations[0].place == "page 2"
    assert rule in caught.value.violations[0].rule
    assert len(server.heads) == 1


def test_nothing_that_the_server_says_in_an_error_is_repeated(serve) -> None:
    """An error page may name a customer (SPEC's errorMessage is free text)."""
    secret = b'{"errorMessage":"customer 14842249091 is wrong"}'
    for status in ("400 customer 14842249091", "500 customer 14842249091"):
        with pytest.raises((DatasetRefusedError, InstitutionUnavailableError)) as caught:
            fetch(serve(answer(secret, status=status)))
        assert "14842249091" not in str(caught.value)


def test_a_page_is_bounded_before_and_after_inflating(serve) -> None:
    """An endless body ends the download; a bomb ends at its expansion."""
    limits = Limits(body=BodyLimits(1 << 20, 4 << 20, expansion=100, expansion_from=1 << 20), pauses=())
    with pytest.raises(DatasetRefusedError, match="at most 1 MiB as it is sent"):
        fetch(serve(answer(bytes(2 << 20))), limits=limits)
    with pytest.raises(DatasetRefusedError, match="must expand at most 100 times"):
        fetch(serve(answer(zlib.compress(bytes(3 << 20)), Encoding="deflate")), limits=limits)


# What may pass by itself, and is asked for again


@pytest.mark.parametrize(
    "fault",
    [
        answer(b"", status="429 Too Many Requests"),
        answer(b"", status="408 Request Timeout"),
        answer(b"", status="500 Internal Server Error"),
        answer(b"", status="503 Service Unavailable"),
        answer(BODY[:100], length=len(BODY)),
        answer(zlib.compress(BODY)[:-5], Encoding="deflate"),
        answer(raw_deflate(BODY)[:-5], Encoding="deflate"),
        chunked(BODY, end=b""),
        chunked(zlib.compress(BODY), end=b"", encoding="deflate"),
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"this is not HTTP\r\n\r\n",
    ],
    ids=lambda fault: repr(fault[:40]),
)
def test_a_fault_that_passes_is_tried_again(serve, fault) -> None:
    """429, 5xx, and answers that break off, with or without a length."""
    server = serve(fault, answer(BODY))
    assert fetch(server).body == BODY
    assert len(server.heads) == 2


def test_a_fault_that_stays_makes_the_institution_unavailable(serve) -> None:
    """After the tries that the limits allow; the state machine goes on from there."""
    server = serve(answer(b"", status="503 Service Unavailable"))
    with pytest.raises(InstitutionUnavailableError, match="page 1: HTTP 503"):
        fetch(server, page=1)
    assert len(server.heads) == 3


def test_a_server_that_is_not_there_is_unavailable() -> None:
    """Nothing listens on that port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(InstitutionUnavailableError, match="the connection fails"):
        client().fetch_page(Provider(PROVIDER, url=f"http://127.0.0.1:{port}"), FI, 0, 5)


@pytest.mark.parametrize(
    ("header", "expected"),
    [("7", 7.0), ("86400", 60.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.5), ("soon", 0.5), ("-5", 0.5)],
)
def test_retry_after_is_honoured_within_bounds(serve, header, expected) -> None:
    """Seconds or a date, never longer than a minute, never less than our own pause."""
    waits: list[float] = []
    server = serve(answer(b"", status="429 Too Many Requests", Retry_After=header), answer(BODY))
    fetch(server, limits=Limits(pauses=(0.5,)), pause=waits.append, seconds=600)
    assert waits == [expected]


def test_no_pause_goes_beyond_the_deadline(serve) -> None:
    """When the time would be over before the next try, we say so at once."""
    waits: list[float] = []
    server = serve(answer(b"", status="503 Service Unavailable", Retry_After="50"))
    with pytest.raises(InstitutionUnavailableError):
        fetch(server, limits=Limits(pauses=(1.0, 1.0)), pause=waits.append, seconds=30)
    assert waits == []


def test_a_silent_server_does_not_hold_us(serve) -> None:
    """The read time-out counts silence."""
    over = Event()
    server = serve(lambda *_: over.wait(10))
    with pytest.raises(InstitutionUnavailableError, match="silent"):
        fetch(server, limits=Limits(read_seconds=0.2, pauses=()))
    over.set()


@pytest.mark.parametrize("part", ["head", "body", "compressed"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_byte_now_and_then_does_not_hold_us(serve, part, tls) -> None:
    """No time-out of silence sees such a server, in its headers or in its body: the deadline of the page does."""
    over = Event()

    def drip(stream: socket.socket, _: str) -> None:
        full = answer(zlib.compress(os.urandom(5000)), Encoding="deflate") if part == "compressed" else answer(BODY)
        at = 10 if part == "head" else full.index(b"\r\n\r\n") + 8
        stream.sendall(full[:at])
        while not over.wait(0.02):
            stream.sendall(full[at : at + 1])
            at += 1

    ca = authority("institution")
    server = serve(drip, pair=ca.issue() if tls else None)
    began = time.monotonic()
    with pytest.raises(InstitutionUnavailableError, match="too slow"):
        fetch(server, ca=ca.pem if tls else None, seconds=0.5, limits=Limits(read_seconds=5, pauses=()))
    over.set()
    assert time.monotonic() - began < 4


# TLS


def test_our_certificate_is_shown_and_a_private_authority_is_trusted(serve) -> None:
    """Mutual TLS with a server whose CA only the institution file knows."""
    theirs, ours = authority("institution"), authority("ours")
    pair = ours.issue()
    server = serve(answer(BODY), pair=theirs.issue(), client_ca=ours.pem)
    page = fetch(server, ca=theirs.pem, certificate=ClientCertificate(*pair), allow_plain_http=False)
    assert page.body == BODY


def test_our_key_is_never_left_on_disk_nor_open(serve, tmp_path, monkeypatch) -> None:
    """load_cert_chain wants a file: it exists in memory only, and is closed after."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nothing-may-be-written-here"))
    created = []
    create = os.memfd_create
    monkeypatch.setattr(os, "memfd_create", lambda *how: created.append(create(*how)) or created[-1])
    TlsContexts(ClientCertificate(*authority("ours").issue())).of(Provider(PROVIDER, url="https://a"))
    assert created
    assert not [name for name in open_files() if "memfd" in name]


def open_files() -> Iterator[str]:
    """What this process has open; servers of other tests may just be closing theirs."""
    for file in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/self/fd/{file}")


def test_a_server_that_wants_a_certificate_refuses_us_without_one(serve) -> None:
    """Its alert is a refusal, also in TLS 1.3, where it comes after the handshake."""
    theirs = authority("institution")
    server = serve(answer(BODY), pair=theirs.issue(), client_ca=authority("ours").pem)
    with pytest.raises(DatasetRefusedError, match="TLS"):
        fetch(server, ca=theirs.pem)


def test_our_certificate_is_read_anew_once_when_we_are_not_let_in(serve) -> None:
    """Another one is tried at once; the same one, or a second refusal, is the institution's last word."""
    old, new = ClientCertificate(*authority("ours").issue()), ClientCertificate(*authority("ours").issue())
    for found, requests in ((old, 1), (new, 2)):
        asked: list[ClientCertificate] = []
        server = serve(answer(b"", status="403 Forbidden"))

        def anew(found=found, asked=asked) -> ClientCertificate:
            asked.append(found)
            return found

        fetching = InstitutionClient(old, certificate_anew=anew, allow_plain_http=True, limits=QUICK)
        for expected in (requests, requests + 1):
            with pytest.raises(DatasetRefusedError, match="page 0: HTTP 403: the server does not let us have this"):
                fetching.fetch_page(Provider(PROVIDER, url=server.url), FI, 0, 20.0)
            assert len(server.heads) == expected
        assert asked == [found]


@pytest.mark.parametrize(
    ("trusted", "address"),
    [("public", "127.0.0.1"), ("other", "127.0.0.1"), ("institution", "127.0.0.2")],
)
def test_a_server_that_we_cannot_know_is_refused(serve, trusted, address) -> None:
    """The public authorities, another private one, or a certificate for another address: no data, and no second try."""
    server = serve(answer(BODY), pair=authority("institution").issue(address=address))
    with pytest.raises(DatasetRefusedError, match="certificate is not accepted"):
        fetch(server, ca=None if trusted == "public" else authority(trusted).pem)
    assert server.heads == []


def test_a_private_authority_replaces_the_public_ones(monkeypatch) -> None:
    """Whoever pins a CA wants that one and no other."""
    context = TlsContexts(None).of(Provider(PROVIDER, url="https://a", ca=authority("institution").pem))
    assert len(context.get_ca_certs()) == 1
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


# How it is set up


@pytest.mark.parametrize(
    ("provider", "options"),
    [
        (Provider(PROVIDER, url="http://127.0.0.1:9"), {"allow_plain_http": False}),
        (Provider(PROVIDER, url="ftp://127.0.0.1"), {}),
        (Provider(PROVIDER, url="https://"), {}),
        (Provider(PROVIDER), {}),
        (Provider(PROVIDER, url="https://127.0.0.1:9", ca="no PEM"), {}),
        (Provider(PROVIDER, url="https://127.0.0.1:9"), {"certificate": ClientCertificate("no PEM", "no PEM")}),
    ],
)
def test_a_wrong_set_up_is_named_as_such(provider, options) -> None:
    """Plain HTTP outside a local stack, no URL, no PEM: somebody of ours must act."""
    with pytest.raises(ConfigurationError):
        client(**options).fetch_page(provider, FI, 0, 5)
