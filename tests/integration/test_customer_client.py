"""Asking about one customer at real servers on loopback, with every fault that we know of."""

import gc
import gzip
import json
import os
import socket
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from threading import Barrier, Event

import pytest
from tests.integration.raw_server import RawServer, answer, authority

from gjeldsbro.adapters import kept_connections
from gjeldsbro.adapters.customer_client import CustomerClient, Limits
from gjeldsbro.adapters.kept_connections import KeptConnections, Server
from gjeldsbro.adapters.secrets import ClientCertificate
from gjeldsbro.domain.loans import ChargeCard, CreditFacility, RepaymentLoan
from gjeldsbro.errors import AnswerRefusedError, ConfigurationError, InstitutionUnavailableError, NoAnswerInTimeError
from gjeldsbro.services.ports import Provider
from gjeldsbro_population import Population
from gjeldsbro_simulator import ServedDataset, Simulator

FI = "920013015"
FOREIGN = "0007:5569622441"
PROVIDER = "9908:920013015"
CUSTOMER = "17912099997"
OTHER_CUSTOMER = "29822099635"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
QUICK = Limits(pauses=(0.0, 0.0, 0.0))

CARD = {
    "type": "chargeCard",
    "timestamp": "2026-11-22T05:00:00Z",
    "accountID": "card",
    "interestBearingBalance": "000800",
    "nonInterestBearingBalance": 5,
    "coBorrower": "0",
}
CARD_READ = ChargeCard("card", "2026-11-22T05:00:00.0000000Z", None, 800, 5, 0)


def one(*loans, customer=CUSTOMER, institution=FI) -> dict:
    """The customer alone."""
    return {"customerID": customer, "financialInstitutionID": institution, "loans": list(loans)}


def spec(*customers, provider=PROVIDER) -> dict:
    """SPEC's message around customers."""
    return {"providerID": provider, "customers": list(customers)}


def body(document) -> bytes:
    """A document as it is sent."""
    return json.dumps(document).encode()


GOOD = body(spec(one(CARD)))


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


@pytest.fixture
def kept():
    """The connections that are kept; none is left open."""
    connections = KeptConnections()
    yield connections
    connections.close()


@pytest.fixture
def make(kept):
    """Makes clients that wait for nobody."""

    def build(**options) -> CustomerClient:
        certificate = options.pop("certificate", None)
        return CustomerClient(
            certificate if callable(certificate) else lambda: certificate,
            accepts="synthetic",
            clock=lambda: NOW,
            **{"allow_plain_http": True, "limits": QUICK, "connections": kept, "pause": lambda _: None, **options},
        )

    return build


@pytest.fixture
def ask(make):
    """Asks a server about one customer with a new client."""

    def one_question(server, *, seconds=10.0, institution=FI, ca=None, **options):
        url = server if isinstance(server, str) else server.url
        return make(**options).ask(
            Provider(PROVIDER, url=url, ca=ca), institution, CUSTOMER, time.monotonic() + seconds
        )

    return one_question


def silent(over: Event):
    """Says nothing until the test is over."""
    return lambda *_: over.wait(20)


@pytest.fixture
def over():
    """Set at the end of the test: what hangs then ends."""
    event = Event()
    yield event
    event.set()


# What is asked


def test_the_request_is_that_of_the_specification(serve, ask) -> None:
    """SPEC 3.1.2 and 6.1: the path, the number in the header customerID, Accept, Accept-Encoding: deflate; no more."""
    server = serve(answer(GOOD))
    ask(server)
    line, *fields = server.heads[0].strip().split("\r\n")
    assert line == f"GET /debt-information/v1/loans/{FI}/customer HTTP/1.1"
    assert sorted(fields) == [
        "Accept-Encoding: deflate",
        "Accept: application/json",
        f"Host: 127.0.0.1:{server.url.split(':')[2].partition('/')[0]}",
        "User-Agent: gjeldsbro",
        f"customerID: {CUSTOMER}",
    ]


def test_a_foreign_institution_is_asked_for_by_its_whole_id(serve, ask) -> None:
    """As in the nightly fetch; the answer may leave the prefix out (SPEC appendix E)."""
    server = serve(answer(body(spec(one(CARD, institution=FOREIGN)))), answer(body(one(institution="5569622441"))))
    assert ask(f"{server.url}/", institution=FOREIGN) == (CARD_READ,)
    assert ask(server, institution=FOREIGN) == ()
    assert server.heads[0].startswith(f"GET /debt-information/v1/loans/{FOREIGN}/customer HTTP/1.1\r\n")


def test_an_address_is_sent_in_ascii(serve, ask) -> None:
    """Whatever letters an operator wrote, quoted once."""
    server = serve(answer(GOOD))
    ask(f"{server.url}/gjeld%20på")
    assert server.heads[0].startswith(f"GET /debt-information/v1/gjeld%20p%C3%A5/loans/{FI}/customer HTTP/1.1\r\n")


def test_the_environment_has_no_say(serve, ask, monkeypatch) -> None:
    """A proxy or CA bundle of the environment would send a person's number, or our trust, somewhere else."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "/nowhere")
    ca = authority("institution")
    assert ask(serve(answer(GOOD))) == (CARD_READ,)
    assert ask(serve(answer(GOOD), pair=ca.issue()), ca=ca.pem) == (CARD_READ,)


@pytest.mark.parametrize("number", ["1791209999", "17912099997\r\nX: 1", "\uff11791209999\uff17", "abcdefghijk"])
def test_what_is_no_number_is_not_sent(serve, make, number) -> None:
    """And not repeated in the error, as the HTTP library would."""
    server = serve(answer(GOOD))
    with pytest.raises(ValueError, match=r"^not an identity number$"):
        make().ask(Provider(PROVIDER, url=server.url), FI, number, time.monotonic() + 5)
    assert server.heads == []


# What comes back


@pytest.mark.parametrize(
    ("document", "loans"),
    [
        (spec(one(CARD)), (CARD_READ,)),
        (one(CARD), (CARD_READ,)),
        (spec(), ()),
        (spec(one()), ()),
        (one(), ()),
    ],
    ids=["SPEC's message", "the customer alone", "no customers", "SPEC's message without loans", "no loans"],
)
def test_all_four_shapes_of_an_answer_are_understood(serve, ask, document, loans) -> None:
    """As SPEC 6.1 has it and as institutions send it; no debt is an answer like any other."""
    assert ask(serve(answer(body(document)))) == loans


@pytest.mark.parametrize(
    ("headers", "pack"),
    [
        ({}, bytes),
        ({"Encoding": "deflate"}, zlib.compress),
        ({"Encoding": "deflate"}, lambda data: zlib.compress(data, wbits=-15)),
        ({"Content_Encoding": "deflate"}, zlib.compress),
        ({"Content_Encoding": "deflate"}, lambda data: zlib.compress(data, wbits=-15)),
        ({"Content_Encoding": "gzip"}, gzip.compress),
    ],
)
def test_every_way_to_compress_gives_the_same_loans(serve, ask, headers, pack) -> None:
    """The rules are those of the nightly pages."""
    assert ask(serve(answer(pack(GOOD), **headers))) == (CARD_READ,)


def chunked(data: bytes, *, end: bytes = b"0\r\n\r\n") -> bytes:
    """A chunked response of three chunks that keeps the connection; without ``end`` it breaks off."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:7], data[7:30], data[30:])) + end


def test_an_answer_may_be_chunked_or_end_with_its_connection(serve, ask) -> None:
    """HTTP/1.1 and HTTP/1.0 servers that deflate as they send know no Content-Length."""
    ended = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + GOOD
    assert ask(serve(chunked(GOOD), keep=True)) == (CARD_READ,)
    assert ask(serve(ended)) == (CARD_READ,)


@pytest.fixture(scope="module")
def population():
    """Some people."""
    return Population(7, people=60, institutions=4)


@pytest.mark.parametrize("numbers", ["strings", "padded", "integers"])
@pytest.mark.parametrize("single", ["wrapped", "bare"])
def test_the_loans_of_a_population_are_read_as_they_are(population, ask, numbers, single) -> None:
    """Whatever the form of numbers and answers, and whoever has no debt, at a real HTTP server."""
    institution, provider = population.datasets[0]
    served = [ServedDataset(institution=institution, provider=provider, numbers=numbers, single=single)]
    expected = {
        customer["customerID"]: customer["loans"]
        for customer in list(population.customers(institution, provider, 0, 12))
    }
    with Simulator(population, served) as simulator:
        client_provider = Provider(provider, url=simulator.url)
        client = CustomerClient(
            lambda: None, accepts="synthetic", allow_plain_http=True, connections=(kept := KeptConnections())
        )
        found = {
            customer: client.ask(client_provider, institution, customer, time.monotonic() + 5)
            for customer in [*expected, CUSTOMER]
        }
        kept.close()
    assert found.pop(CUSTOMER) == ()
    assert {customer: [loan.account_id for loan in loans] for customer, loans in found.items()} == {
        customer: [loan["accountID"] for loan in loans] for customer, loans in expected.items()
    }
    for loans in found.values():
        assert all(isinstance(loan, RepaymentLoan | CreditFacility | ChargeCard) for loan in loans)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("status:503,times=2", "answered"),
        ("status:429,times=1", "answered"),
        ("slow,seconds=9,times=1", "answered"),
        ("cut,times=1", "answered"),
        ("slow,seconds=9", "no answer in time"),
        ("byte-a-second,seconds=0.1", "no answer in time"),
        ("cut", "the answer breaks off"),
        ("html", "the Content-Type must be application/json"),
        ("wrong-charset", "the charset of the Content-Type must be UTF-8"),
        ("truncated-json", "well-formed JSON"),
        ("redirect", "redirects are not followed"),
        ("gzip-bomb,megabytes=5", "must have at most 1 MiB"),
    ],
)
def test_a_simulated_institution_is_as_good_as_its_fault(population, make, fault, outcome) -> None:
    """What passes is waited for within the time there is, anything else is named."""
    institution, provider = population.datasets[0]
    (customer,) = population.customers(institution, provider, 0, 1)
    with Simulator(population, [ServedDataset(institution=institution, provider=provider)]) as simulator:
        simulator.misbehave(institution, fault)
        asked = make().ask, Provider(provider, url=simulator.url), institution, customer["customerID"]
        began = time.monotonic()
        if outcome == "answered":
            assert len(asked[0](*asked[1:], began + 3)) == len(customer["loans"])
        else:
            with pytest.raises((AnswerRefusedError, InstitutionUnavailableError), match=outcome):
                asked[0](*asked[1:], began + (1 if outcome == "no answer in time" else 5))
        assert time.monotonic() - began < 4


# What is refused, and not asked for again


@pytest.mark.parametrize(
    ("response", "place", "rule"),
    [
        (answer(b"", status="400 Bad Request"), "answer", "HTTP 400"),
        (answer(b"", status="401 Unauthorized"), "answer", "HTTP 401"),
        (answer(b"", status="403 Forbidden"), "answer", "HTTP 403"),
        (answer(b"", status="404 Not Found"), "answer", "HTTP 404"),
        (answer(b"", status="204 No Content"), "answer", "HTTP 204"),
        (answer(b"", status="302 Found", Location="http://127.0.0.1:9/"), "answer", "redirects are not followed"),
        (answer(b"<html>", Content_Type="text/html"), "answer", "the Content-Type must be application/json"),
        (answer(GOOD, Content_Type=""), "answer", "the Content-Type must be application/json"),
        (answer(GOOD, Content_Type="application/json; charset=latin-1"), "answer", "must be UTF-8"),
        (answer(GOOD, Content_Encoding="br"), "answer", "the encoding must be deflate, gzip or identity"),
        (answer(GOOD, Encoding="deflate"), "answer", "must be compressed with deflate, as its header says"),
        (answer(bytes((1 << 20) + 1)), "answer", "at most 1 MiB as it is sent"),
        (answer(zlib.compress(bytes(2 << 20)), Encoding="deflate"), "answer", "must have at most 1 MiB"),
        (answer(gzip.compress(bytes(200 << 20), 1), Content_Encoding="gzip"), "answer", "must have at most 1 MiB"),
        (answer(b"{"), "", "well-formed JSON"),
        (answer(b"[]"), "", "must be a JSON object"),
        (answer(body(spec(one(), one()))), "/customers", "one customer"),
        (answer(body(spec(one(), provider="9908:985815534"))), "/providerID", "must be the provider"),
        (answer(body(spec(one(customer=OTHER_CUSTOMER)))), "/customers/0/customerID", ""),
        (answer(body(one(customer=OTHER_CUSTOMER))), "/customerID", ""),
        (answer(body(one(institution="985815534"))), "/financialInstitutionID", "must be the institution"),
        (answer(body(one({**CARD, "coBorrower": 3}))), "/loans/0/coBorrower", "must be 0, 1 or 2"),
    ],
)
def test_what_asking_again_would_not_mend_is_refused_at_once(serve, ask, response, place, rule) -> None:
    """Place and rule say what is wrong; one request is enough."""
    server = serve(response)
    with pytest.raises(AnswerRefusedError) as caught:
        ask(server)
    assert caught.value.violations[0].place == place
    assert rule in caught.value.violations[0].rule
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "response",
    [
        answer(b'{"errorMessage":"17912099997"}', status="400 17912099997"),
        answer(b'{"errorMessage":"17912099997"}', status="503 17912099997"),
        answer(b"17912099997", Content_Type="text/17912099997"),
        answer(b"17912099997", Content_Encoding="17912099997"),
        answer(GOOD, status="429 X", Retry_After="17912099997"),
        answer(b'{"17912099997": 1, "17912099997": 2}'),
        answer(body(one({**CARD, "type": "17912099997"}, customer=OTHER_CUSTOMER))),
        b"17912099997\r\n\r\n",
        b"HTTP/1.1 200 17912099997\r\n17912099997\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n17912099997\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"17912099997" * 7000 + b"\r\n\r\n",
    ],
    ids=range(11),
)
def test_no_error_holds_the_number(serve, ask, response) -> None:
    """Not in its text, nor in the traceback as a log would show it, wherever the institution repeats the number."""
    with pytest.raises((AnswerRefusedError, InstitutionUnavailableError)) as caught:
        ask(serve(response))
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CUSTOMER not in shown


# What may pass by itself, and is asked for again


@pytest.mark.parametrize(
    "fault",
    [
        answer(b"", status="408 Request Timeout"),
        answer(b"", status="425 Too Early"),
        answer(b"", status="429 Too Many Requests"),
        answer(b"", status="429 Too Many Requests", Retry_After="0"),
        answer(b"", status="500 Internal Server Error"),
        answer(b"", status="503 Service Unavailable"),
        answer(GOOD[:100], length=len(GOOD)),
        answer(zlib.compress(GOOD)[:-5], Encoding="deflate"),
        chunked(GOOD, end=b""),
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"this is not HTTP\r\n\r\n",
        answer(b""),
    ],
    ids=lambda fault: repr(fault[:40]),
)
@pytest.mark.parametrize("tls", [False, True])
def test_a_fault_that_passes_is_tried_again(serve, ask, fault, tls) -> None:
    """429, 5xx, and answers that break off, after a pause."""
    ca = authority("institution")
    pauses: list[float] = []
    server = serve(fault, answer(GOOD), pair=ca.issue() if tls else None)
    assert ask(server, ca=ca.pem if tls else None, pause=pauses.append, limits=Limits(pauses=(0.25,))) == (CARD_READ,)
    assert len(server.heads) == 2
    assert pauses == [0.25]


def test_a_fault_that_stays_makes_the_institution_unavailable(serve, ask) -> None:
    """After as many tries as the limits have pauses, with the last reason."""
    server = serve(answer(b"", status="503 Service Unavailable"))
    with pytest.raises(InstitutionUnavailableError, match=r"^HTTP 503: the server has a fault of its own$"):
        ask(server)
    assert len(server.heads) == 1 + len(QUICK.pauses)


def test_a_server_that_is_not_there_is_unavailable(ask) -> None:
    """Nothing listens on that port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(InstitutionUnavailableError, match=r"^the connection fails$"):
        ask(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(("header", "expected"), [("2", 2.0), ("0", 0.25), ("soon", 0.25), ("9" * 400, None)])
def test_retry_after_is_honoured_if_it_fits(serve, ask, header, expected) -> None:
    """It is waited for, never shorter than our own pause; what the deadline leaves no room for ends it at once."""
    pauses: list[float] = []
    server = serve(answer(b"", status="429 Too Many Requests", Retry_After=header), answer(GOOD))
    options = {"pause": pauses.append, "limits": Limits(pauses=(0.25,))}
    if expected is None:
        with pytest.raises(InstitutionUnavailableError, match=r"^HTTP 429: the server says that we ask too often$"):
            ask(server, **options)
        assert pauses == []
        return
    assert ask(server, **options) == (CARD_READ,)
    assert pauses == [expected]


def test_a_retry_after_date_outside_the_calendar_is_no_reason_to_fail(serve, ask) -> None:
    """The header is the server's text, and may be anything."""
    header = "Thu, 01 Jan 99999999999999999999 00:00:00 GMT"
    assert ask(serve(answer(b"", status="503 X", Retry_After=header), answer(GOOD))) == (CARD_READ,)


def test_a_request_that_times_out_is_sent_again(serve, ask, over) -> None:
    """SPEC 6.1. The first try leaves 0.6 seconds, so that the second has a chance, on a connection of its own."""
    server = serve(silent(over), answer(GOOD))
    began = time.monotonic()
    assert ask(server, seconds=2.0) == (CARD_READ,)
    assert 1.3 < time.monotonic() - began < 1.98
    assert len(server.heads) == 2
    assert server.connections == 2


def test_a_slow_institution_is_heard_for_most_of_the_time(serve, ask) -> None:
    """The time for a second try is what most answers need, not half of a long wait."""

    def slow(stream: socket.socket, _: str) -> None:
        time.sleep(1.2)
        stream.sendall(answer(GOOD))

    server = serve(slow)
    assert ask(server, seconds=2.3) == (CARD_READ,)
    assert len(server.heads) == 1


def test_a_short_time_is_not_cut_into_useless_halves(serve, ask) -> None:
    """A try gets at least 0.4 seconds where there is so much: most answers need no more."""

    def slow(stream: socket.socket, _: str) -> None:
        time.sleep(0.3)
        stream.sendall(answer(GOOD))

    server = serve(slow)
    assert ask(server, seconds=0.5) == (CARD_READ,)
    assert len(server.heads) == 1


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.01])
def test_without_time_nobody_is_asked(serve, ask, seconds) -> None:
    """The deadline may have passed before the question is put."""
    server = serve(answer(GOOD))
    with pytest.raises(NoAnswerInTimeError, match=r"^no answer in time$"):
        ask(server, seconds=seconds)
    assert server.heads == []


# The deadline


def test_whoever_waits_until_the_deadline_hears_of_it(serve, ask, over) -> None:
    """The end comes a moment before: an error on the dot would be taken for a thread that hangs."""
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask, serve(silent(over)), seconds=0.5, limits=Limits(early_seconds=0.3))
        with pytest.raises(InstitutionUnavailableError):
            asked.result(timeout=0.5)


def dripping(part: str, over: Event):
    """Sends a byte now and then, from the middle of its head or of its body on."""

    def drip(stream: socket.socket, _: str) -> None:
        full = answer(zlib.compress(os.urandom(5000)), Encoding="deflate") if part == "compressed" else answer(GOOD * 9)
        at = 10 if part == "head" else full.index(b"\r\n\r\n") + 8
        stream.sendall(full[:at])
        while not over.wait(0.02):
            stream.sendall(full[at : at + 1])
            at += 1

    return drip


@pytest.mark.parametrize("part", ["head", "body", "compressed"])
@pytest.mark.parametrize("tls", [False, True])
def test_a_byte_now_and_then_does_not_hold_us(serve, ask, over, part, tls) -> None:
    """No time-out of silence sees such a server: the deadline does, in its headers and in its body, twice."""
    ca = authority("institution")
    server = serve(dripping(part, over), pair=ca.issue() if tls else None)
    began = time.monotonic()
    with pytest.raises(NoAnswerInTimeError, match=r"^no answer in time$"):
        ask(server, ca=ca.pem if tls else None, seconds=1.0)
    assert 0.9 < time.monotonic() - began < 2
    assert len(server.heads) == 2


def test_a_silent_server_does_not_hold_us(serve, ask, over) -> None:
    """It took the request, and that was all."""
    began = time.monotonic()
    with pytest.raises(NoAnswerInTimeError, match=r"^no answer in time$"):
        ask(serve(silent(over)), seconds=0.8)
    assert 0.7 < time.monotonic() - began < 1.8


@pytest.mark.parametrize("drips", [False, True])
def test_a_handshake_that_does_not_end_does_not_hold_us(ask, over, drips) -> None:
    """A port that takes connections and never speaks TLS, or says a byte of it now and then."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(2) as threads:

        def hang() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                while not over.wait(0.02):
                    # The first bytes of a handshake record that never comes whole.
                    connection.sendall(b"\x16" if drips else b"")

        hanging = [threads.submit(hang) for _ in range(2)]
        began = time.monotonic()
        with pytest.raises((InstitutionUnavailableError, AnswerRefusedError)):
            ask(f"https://127.0.0.1:{listener.getsockname()[1]}", seconds=0.8)
        assert time.monotonic() - began < 1.8
        over.set()
        for thread in hanging:
            if not thread.done():
                with suppress(OSError), socket.create_connection(listener.getsockname()[:2]):
                    pass


def test_a_name_that_cannot_be_looked_up_in_time_does_not_hold_us(ask, over, monkeypatch) -> None:
    """The system's resolver knows no deadline of ours."""
    real = socket.getaddrinfo

    def hang(host, *args, **options):
        if host == "slow.example.no" and not options.get("flags"):
            over.wait(20)
        return real("127.0.0.1" if not options.get("flags") else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    with pytest.raises(NoAnswerInTimeError, match=r"^no answer in time$"):
        ask("http://slow.example.no:9", seconds=0.6)
    assert time.monotonic() - began < 1.6


def test_every_address_of_a_name_is_tried(serve, ask, monkeypatch) -> None:
    """The first may be one that nobody listens at."""
    server = serve(answer(GOOD))
    port = int(server.url.split(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    real = socket.getaddrinfo

    def two(host, *args, **options):
        if host == "bank.example.no" and not options.get("flags"):
            return [(*kind, dead), (*kind, ("127.0.0.1", port))]
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", two)
    assert ask(f"http://bank.example.no:{port}/debt-information/v1") == (CARD_READ,)


# Connections


def test_connections_are_kept_between_questions(serve, make) -> None:
    """One handshake for many questions, with our certificate, however the answers end."""
    theirs, ours = authority("institution"), authority("ours")
    answers = (answer(GOOD, keep=True), chunked(GOOD))
    server = serve(
        lambda stream, _: stream.sendall(answers[len(server.heads) % 2]),
        pair=theirs.issue(),
        client_ca=ours.pem,
        keep=True,
    )
    client = make(certificate=ClientCertificate(*ours.issue()), allow_plain_http=False)
    provider = Provider(PROVIDER, url=server.url, ca=theirs.pem)
    for _ in range(20):
        assert client.ask(provider, FI, CUSTOMER, time.monotonic() + 5) == (CARD_READ,)
    assert len(server.heads) == 20
    assert server.connections == 1


def test_questions_at_the_same_time_have_connections_of_their_own(serve, make) -> None:
    """And never more than were needed at a time; each gets its own answer."""
    people = [CUSTOMER, OTHER_CUSTOMER, "57912075186", "12829499914"]
    together = Barrier(len(people))

    def echo(stream: socket.socket, head: str) -> None:
        with suppress(Exception):
            together.wait(5)
        number = head.partition("customerID: ")[2][:11]
        stream.sendall(answer(body(one({**CARD, "accountID": number}, customer=number)), keep=True))

    server = serve(echo, keep=True)
    client = make()
    provider = Provider(PROVIDER, url=server.url)

    def questions(number: str) -> list[str]:
        loans = [client.ask(provider, FI, number, time.monotonic() + 10) for _ in range(10)]
        return [loan.account_id for found in loans for loan in found]

    with ThreadPoolExecutor(len(people)) as threads:
        assert list(threads.map(questions, people)) == [[number] * 10 for number in people]
    assert len(server.heads) == 40
    assert server.connections == len(people)


def test_a_connection_that_the_server_closed_is_not_used_again(serve, make) -> None:
    """Its good-bye has arrived before the next question: that one finds a new connection, at the first try."""

    def answer_and_close(stream: socket.socket, _: str) -> None:
        stream.sendall(answer(GOOD, keep=True))
        stream.shutdown(socket.SHUT_RDWR)

    ca = authority("institution")
    server = serve(answer_and_close, pair=ca.issue())
    client = make(limits=Limits(pauses=()))
    provider = Provider(PROVIDER, url=server.url, ca=ca.pem)
    for _ in range(3):
        assert client.ask(provider, FI, CUSTOMER, time.monotonic() + 5) == (CARD_READ,)
        time.sleep(0.05)
    assert len(server.heads) == 3


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_that_closes_as_we_ask_is_replaced_at_once(serve, make, tls) -> None:
    """The server's good-bye and our question cross: no failure, no pause, and no try that counts."""
    ca = authority("institution")

    def close(stream: socket.socket, _: str) -> None:
        stream.shutdown(socket.SHUT_RDWR)

    server = serve(answer(GOOD, keep=True), close, answer(GOOD, keep=True), keep=True, pair=ca.issue() if tls else None)
    client = make(limits=Limits(pauses=()))
    provider = Provider(PROVIDER, url=server.url, ca=ca.pem if tls else None)
    assert client.ask(provider, FI, CUSTOMER, time.monotonic() + 5) == (CARD_READ,)
    assert client.ask(provider, FI, CUSTOMER, time.monotonic() + 5) == (CARD_READ,)
    assert len(server.heads) == 3
    assert server.connections == 2


@pytest.mark.parametrize(
    "first",
    [
        answer(GOOD, status="503 Service Unavailable", keep=True),
        answer(GOOD, Content_Type="text/html", keep=True),
        answer(GOOD),
        answer(GOOD, keep=True) + b"more",
    ],
    ids=["503", "refused", "Connection: close", "more than was announced"],
)
def test_a_connection_with_anything_left_on_it_is_not_kept(serve, make, first) -> None:
    """What is left would be read as the answer to the next question, which is about another person."""
    server = serve(first, answer(body(spec()), keep=True), keep=True)
    client = make()
    provider = Provider(PROVIDER, url=server.url)
    with suppress(AnswerRefusedError):
        client.ask(provider, FI, CUSTOMER, time.monotonic() + 5)
    assert client.ask(provider, FI, CUSTOMER, time.monotonic() + 5) == ()


def test_an_answer_that_nobody_asked_for_is_never_read(serve, make) -> None:
    """It came after the one that was asked for, and would be taken for the answer to the next question."""

    def twice(stream: socket.socket, _: str) -> None:
        stream.sendall(answer(body(one()), keep=True))
        time.sleep(0.05)
        stream.sendall(answer(GOOD, keep=True))

    server = serve(twice, answer(body(one()), keep=True), keep=True)
    client = make()
    provider = Provider(PROVIDER, url=server.url)
    assert client.ask(provider, FI, CUSTOMER, time.monotonic() + 5) == ()
    time.sleep(0.2)
    assert client.ask(provider, FI, CUSTOMER, time.monotonic() + 5) == ()
    assert server.connections == 2


def test_an_answer_that_came_with_the_one_before_is_never_read(serve, make) -> None:
    """Over TLS both may be in one record: the second waits in OpenSSL then, and the socket itself is quiet."""
    ca = authority("institution")
    long_one = answer(body(one()) + b" " * 9000, keep=True)
    server = serve(long_one + answer(GOOD, keep=True), answer(body(one()), keep=True), keep=True, pair=ca.issue())
    client = make()
    provider = Provider(PROVIDER, url=server.url, ca=ca.pem)
    for _ in range(2):
        assert client.ask(provider, FI, CUSTOMER, time.monotonic() + 5) == ()
    assert server.connections == 2


def test_an_idle_connection_is_given_up(serve, ask, kept, monkeypatch) -> None:
    """By the clock and by the calendar: a frozen function's clock may have stood still."""
    server = serve(answer(GOOD, keep=True), keep=True)
    for clock in ("monotonic", "time"):
        ask(server)
        before = server.connections
        ask(server)
        assert server.connections == before
        real = getattr(kept_connections, clock)
        monkeypatch.setattr(kept_connections, clock, lambda real=real: real() + kept_connections.IDLE_SECONDS)
        ask(server, seconds=kept_connections.IDLE_SECONDS + 10)
        assert server.connections == before + 1
        monkeypatch.setattr(kept_connections, clock, real)
        kept.close()


def test_not_more_connections_are_kept_than_allowed(serve, make) -> None:
    """The oldest go first; those of other servers too."""
    kept = KeptConnections(most=2)
    servers = [serve(answer(GOOD, keep=True), keep=True) for _ in range(3)]
    client = make(connections=kept)
    for server in (*servers, *reversed(servers)):
        client.ask(Provider(PROVIDER, url=server.url), FI, CUSTOMER, time.monotonic() + 5)
    kept.close()
    assert [server.connections for server in servers] == [2, 1, 1]


def test_nothing_is_left_open_by_a_client_that_is_no_more(serve) -> None:
    """Python would warn of each connection, which fails a test."""
    client = CustomerClient(lambda: None, accepts="synthetic", allow_plain_http=True, clock=lambda: NOW)
    client.ask(
        Provider(PROVIDER, url=serve(answer(GOOD, keep=True), keep=True).url), FI, CUSTOMER, time.monotonic() + 5
    )
    connection = client._connections._idle[0].connection
    del client
    gc.collect()
    assert connection.sock is None


def test_a_time_out_ends_all_kept_connections_to_that_server(serve, make, kept, over) -> None:
    """What made one of them hang makes the others hang: each would cost the next lookups most of their time."""
    both = Barrier(2)

    def together(stream: socket.socket, _: str) -> None:
        with suppress(Exception):
            both.wait(2)
        stream.sendall(answer(GOOD, keep=True))

    server = serve(together, together, silent(over), answer(GOOD, keep=True), keep=True)
    client = make()
    provider = Provider(PROVIDER, url=server.url)
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(client.ask, provider, FI, CUSTOMER, time.monotonic() + 5) for _ in range(2)]:
            assert done.result() == (CARD_READ,)
    assert (server.connections, len(kept._idle)) == (2, 2)
    assert client.ask(provider, FI, CUSTOMER, time.monotonic() + 1) == (CARD_READ,)
    assert (server.connections, len(kept._idle)) == (3, 1)
    assert client.ask(provider, FI, CUSTOMER, time.monotonic() + 1) == (CARD_READ,)
    assert server.connections == 3


def test_a_renewed_certificate_is_used_for_the_next_question(serve, make) -> None:
    """On a new connection: the old one was opened as who we were."""
    theirs, ours = authority("institution"), authority("ours")
    server = serve(answer(GOOD, keep=True), pair=theirs.issue(), client_ca=ours.pem, keep=True)
    certificates = [ClientCertificate(*ours.issue()), ClientCertificate(*ours.issue())]
    client = make(certificate=lambda: certificates[0])
    provider = Provider(PROVIDER, url=server.url, ca=theirs.pem)
    for expected in (1, 1, 2):
        client.ask(provider, FI, CUSTOMER, time.monotonic() + 5)
        assert server.connections == expected
        if len(server.heads) == 2:
            del certificates[0]


# TLS


def test_a_server_that_wants_a_certificate_refuses_us_without_one(serve, ask) -> None:
    """Its alert is a refusal, also in TLS 1.3, where it comes after the handshake."""
    theirs = authority("institution")
    server = serve(answer(GOOD), pair=theirs.issue(), client_ca=authority("ours").pem)
    with pytest.raises(AnswerRefusedError, match="TLS"):
        ask(server, ca=theirs.pem)


@pytest.mark.parametrize(
    ("trusted", "address"),
    [("public", "127.0.0.1"), ("other", "127.0.0.1"), ("institution", "127.0.0.2")],
)
def test_a_server_that_we_cannot_know_is_never_told_the_number(serve, ask, trusted, address) -> None:
    """The public authorities, another private one, or a certificate for another address: no request at all."""
    server = serve(answer(GOOD), pair=authority("institution").issue(address=address))
    with pytest.raises(AnswerRefusedError, match="certificate is not accepted"):
        ask(server, ca=None if trusted == "public" else authority(trusted).pem)
    assert server.heads == []


def test_a_server_that_speaks_no_tls_is_refused(ask) -> None:
    """A port of another service: asking again is no use."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer(b"", status="400 Bad Request"))
                connection.recv(4096)

        refusing = threads.submit(refuse)
        with pytest.raises(AnswerRefusedError, match="TLS: WRONG_VERSION_NUMBER"):
            ask(f"https://127.0.0.1:{listener.getsockname()[1]}")
        refusing.result()


# How it is set up


@pytest.mark.parametrize(
    ("provider", "options"),
    [
        (Provider(PROVIDER, url="http://127.0.0.1:9"), {"allow_plain_http": False}),
        (Provider(PROVIDER, url="ftp://127.0.0.1"), {}),
        (Provider(PROVIDER, url="https://"), {}),
        (Provider(PROVIDER, url="https://127.0.0.1:port"), {}),
        (Provider(PROVIDER, url=f"https://{'a' * 70}.no"), {}),
        (Provider(PROVIDER, dataset_url="https://127.0.0.1:9"), {}),
        (Provider(PROVIDER, url="https://127.0.0.1:9", ca="no PEM"), {}),
        (Provider(PROVIDER, url="https://127.0.0.1:9"), {"certificate": ClientCertificate("no PEM", "no PEM")}),
    ],
)
def test_a_wrong_set_up_is_named_as_such(make, provider, options) -> None:
    """Plain HTTP outside a local stack, no URL, no PEM: somebody of ours must act."""
    with pytest.raises(ConfigurationError):
        make(**options).ask(provider, FI, CUSTOMER, time.monotonic() + 5)


def test_a_default_port_is_left_out_of_the_host_header() -> None:
    """As HTTP wants it: some servers choose their site by the whole header."""
    connection = kept_connections._Connection(Server("bank.example.no", 443, object()))
    assert connection.default_port == 443
    assert kept_connections._Connection(Server("bank.example.no", 80, None)).default_port == 80
