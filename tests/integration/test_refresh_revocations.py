"""Revocation lists from a real HTTP server into the PartnerTable on moto, and what is left there when one is bad."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import sleep
from types import SimpleNamespace

import boto3
import pytest
from cryptography import x509
from functions.refresh_revocations import refresh_revocations
from tests.integration.enforcement import beside
from tests.integration.partner_rights import allowed_by, covers, requests_of
from tests.integration.raw_server import RawServer, answer
from tests.integration.raw_server import authority as tls_authority
from tests.integration.revocation_server import RevocationServer
from tests.revocation_lists import HOUR, make_list
from tests.unit.test_crl import BROKEN_NAME

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters import crl_client
from gjeldsbro.adapters.crl import issuer_of
from gjeldsbro.adapters.crl_client import Limits, fetch_list
from gjeldsbro.adapters.revocations import Revocations
from gjeldsbro.domain.callers import Caller
from gjeldsbro.domain.revocation import CHUNKS, chunk_of, chunks_of
from gjeldsbro.errors import NotAuthenticatedError, RevocationListError, RevocationUnknownError, UnexpectedError
from gjeldsbro.services.ports import RevocationList
from gjeldsbro.services.refresh_revocations import MOST_FAILING, is_old
from gjeldsbro.services.revocation import RevocationCheck
from gjeldsbro_local.certificates import Authority

NOW = datetime.now(UTC).replace(microsecond=0)
GRACE = timedelta(days=3)


@lru_cache(maxsize=None)
def authority(name="Authority"):
    """One authority a name."""
    return Authority.create(name)


def caller(serial, issuer=None):
    """The owner of a certificate of the authority's."""
    issuer = issuer or issuer_of(authority().certificate_pem)
    return Caller("NTRNO-920013015", issuer, serial, NOW + timedelta(days=700))


@pytest.fixture
def server(tmp_path):
    """A server with a good list, on which the certificate 7 is."""
    with RevocationServer(authority(), tmp_path) as running:
        yield running


@pytest.fixture
def revocations(aws):
    """The lists in the PartnerTable."""
    return Revocations(aws["PARTNER_TABLE"], aws_clients.dynamodb())


@pytest.fixture
def refresh(aws):
    """Invokes the function."""

    def invoke(event=None, remaining=300_000):
        context = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: remaining)
        return refresh_revocations.lambda_handler({} if event is None else event, context)

    return invoke


@pytest.fixture
def put(server, refresh):
    """Configures the authority's list."""

    def configure(name="Authority", url=None, certificate=None):
        certificate = certificate or authority().certificate_pem
        return refresh({"put": {"name": name, "url": url or server.url, "certificate": certificate}})

    return configure


def revoked(revocations, *serials, at=NOW):
    """Those of these serial numbers that are refused as revoked."""
    found = set()
    for serial in serials:
        try:
            RevocationCheck(revocations, GRACE).check(caller(serial), at)
        except NotAuthenticatedError:
            found.add(serial)
    return found


def items(aws):
    """Everything in the table, by key, without the time of the last try."""
    found = aws_clients.dynamodb().scan(TableName=aws["PARTNER_TABLE"])["Items"]
    return {(item["pk"]["S"], item["sk"]["S"]): item for item in found}


def test_a_list_is_fetched_when_it_is_configured(put, revocations, server):
    """The first fetch tells what is on the list, and its callers are checked from then on."""
    told = put()
    assert told["old"] == 0
    assert [told["lists"][0][name] for name in ("name", "status", "revoked", "problem")] == [
        "Authority",
        "refreshed",
        1,
        None,
    ]
    assert revoked(revocations, 6, 7) == {7}
    (found,) = revocations.lists()
    assert (found.url, found.certificate) == (server.url, authority().certificate_pem)
    assert found.this_update + 25 * HOUR == found.next_update
    head = server.heads[0].splitlines()
    assert "Accept-Encoding: identity" in head


def test_a_list_that_cannot_be_used_is_not_configured(put, refresh, server, aws):
    """Neither a new list nor a changed address is stored before it has shown that it works."""
    server.response = answer(b"<html>", Content_Type="text/html")
    with pytest.raises(RevocationListError, match="a web page"):
        put()
    assert items(aws) == {}
    server.give(7)
    put()
    before = items(aws)
    server.give(this_update=NOW - 2 * HOUR)
    with pytest.raises(RevocationListError, match="older list"):
        put()
    server.response = answer(b"", status="404 Not Found")
    with pytest.raises(RevocationListError, match="HTTP 404"):
        put(url=f"{server.url}/elsewhere")
    with pytest.raises(RevocationListError, match="not PEM"):
        put(certificate="-----BEGIN CERTIFICATE-----")
    assert items(aws) == before


@pytest.mark.parametrize("stored", [0, 5, 15])
def test_a_first_list_that_is_not_stored_whole_lets_nobody_in(put, refresh, revocations, server, monkeypatch, stored):
    """The function may die between two chunks: whoever's chunk is not there gets 503, until the next refresh."""
    original = Revocations.store

    def die(self, issuer, chunks, *times):
        original(self, issuer, {name: chunks[name] for name in CHUNKS[:stored]}, *times)

    with monkeypatch.context() as patch:
        patch.setattr(Revocations, "store", die)
        with pytest.raises(UnexpectedError, match="KeyError"):
            put()
    unknown = set()
    for serial in range(200):
        try:
            RevocationCheck(revocations, GRACE).check(caller(serial), NOW)
        except RevocationUnknownError:
            unknown.add(chunk_of(serial))
        except NotAuthenticatedError:
            assert serial == 7
    assert unknown == set(CHUNKS[stored:])
    assert revocations.lists()[0].digest is None
    assert refresh()["lists"][0]["status"] == "refreshed"
    assert revoked(revocations, *range(200)) == {7}


def test_a_list_that_is_put_again_stays_in_use_meanwhile(put, revocations):
    """Chunks that are there are not closed, whatever comes of the new address."""
    put()
    (good,) = revocations.lists()
    revocations.configure(replace(good, url="http://another.example.no/ca.crl"))
    assert revoked(revocations, 6, 7) == {7}
    assert revocations.lists() == [replace(good, url="http://another.example.no/ca.crl")]


def test_a_newer_list_takes_the_place_of_the_older_one(put, refresh, revocations, server):
    """What is added counts, what is gone (a hold that was lifted) does not any more."""
    put()
    server.give(8, 9, pem=True, this_update=NOW)
    told = refresh()
    assert [told["lists"][0][name] for name in ("status", "revoked")] == ["refreshed", 2]
    assert revoked(revocations, 7, 8, 9) == {8, 9}


def test_the_same_list_is_not_written_again(put, refresh, revocations, aws):
    """An unchanged list costs one write: when it was read last, so that its server does not seem to fail."""
    put()
    before, (first,) = items(aws), revocations.lists()
    assert refresh()["lists"][0]["status"] == "unchanged"
    assert revocations.lists()[0].read_at > first.read_at
    after = items(aws)
    assert {key for key in after if after[key] != before[key]} == {("REVOCATION", caller(1).issuer)}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: setattr(s, "response", answer(b"", status="503 Busy")), "HTTP 503"),
        (lambda s: setattr(s, "response", answer(b"", status="302 Found", Location="http://x/")), "redirects"),
        (lambda s: setattr(s, "response", answer(b"<!DOCTYPE html>", Content_Type="text/html")), "a web page"),
        (lambda s: setattr(s, "response", s.response[:-40]), "the answer breaks off"),
        (lambda s: setattr(s, "response", answer(b"x", Content_Encoding="gzip")), "compresses"),
        (lambda s: setattr(s, "response", b""), "connection fails"),
        (lambda s: s.give(this_update=NOW - 9 * HOUR, next_update=NOW - HOUR), "has ended"),
        (lambda s: s.give(key=authority("Another").key), "not signed with the issuer's key"),
        (lambda s: s.give(issuer=authority("Another").certificate.subject), "another issuer's"),
        (lambda s: s.give(this_update=NOW - 2 * HOUR), "older list"),
        (lambda s: s.give(extensions=[(x509.DeltaCRLIndicator(1), True)]), "delta"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_list_changes_nothing_but_the_record_of_the_try(
    put, refresh, revocations, server, aws, log_stream, change, text
):
    """Whatever is wrong: the last good list stays in use, and its record says what was wrong, until a try succeeds."""
    put()
    before, (good,) = items(aws), revocations.lists()
    change(server)
    told = refresh()
    assert told["lists"][0]["status"] == "failed"
    assert revoked(revocations, 6, 7) == {7}
    (failed,) = revocations.lists()
    assert failed.checked_at > good.checked_at
    assert (failed.this_update, failed.read_at, failed.count) == (good.this_update, good.read_at, good.count)
    assert failed.problem == told["lists"][0]["problem"]
    assert text in failed.problem
    assert "REVOCATION_LIST_FAILED" in log_stream.getvalue()
    after = items(aws)
    assert {key[0] for key in after if after[key] != before[key]} == {"REVOCATION"}
    server.give(7, 8, this_update=NOW)
    refresh()
    assert revocations.lists()[0].problem is None


def test_a_server_that_is_not_there_and_one_that_never_ends(put, refresh, revocations, server, monkeypatch):
    """Neither a refused connection nor one byte a moment holds the other lists up for long."""
    put()
    monkeypatch.setattr(refresh_revocations, "fetch_list", lambda url: fetch_list(url, Limits(seconds=0.5)))

    def drip(stream, _):
        stream.sendall(answer(b"", length=10**6))
        while True:
            stream.sendall(b"x")
            sleep(0.01)

    server.script = drip
    assert refresh()["lists"][0]["problem"] == "the server is too slow"
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"  # its end is that of the connection
    server.script = lambda stream, _: (stream.sendall(head + b"0"), stream.recv(1))
    assert refresh()["lists"][0]["problem"] == "the server is too slow"
    server.script = lambda stream, _: stream.recv(1)
    assert refresh()["lists"][0]["problem"] == "the server is too slow"
    with pytest.raises(RevocationListError, match="the connection fails"):
        fetch_list("http://127.0.0.1:1/ca.crl")
    for wrong in ("http://", "ftp://127.0.0.1/ca.crl", "ca.crl", "http://[::1/x"):
        with pytest.raises(RevocationListError, match="its address is no URL"):
            fetch_list(wrong)


def test_a_huge_list_is_not_read_to_its_end(server):
    """More than the limit is refused, before the memory is full."""
    server.response = answer(b"x" * 2000)
    with pytest.raises(RevocationListError, match="the list has more than 0 MiB"):
        fetch_list(server.url, Limits(size=1999))
    assert len(fetch_list(server.url, Limits(size=2000))) == 2000


def test_the_largest_list_fits_into_its_chunks(aws, revocations):
    """A list of the greatest size that is read makes chunks that DynamoDB takes: below 400 KB."""
    least_entry = 2 + (2 + 3) + (2 + 13)  # SEQUENCE, INTEGER of three bytes, UTCTime
    entries = crl_client.Limits().size // least_entry
    largest = chunks_of(range(1 << 16, (1 << 16) + entries))
    assert max(map(len, largest.values())) + 1000 < 400 << 10
    assert revocations.store("a" * 64, largest, NOW, NOW + HOUR)
    assert revocations.chunk("a" * 64, "0").digests == largest["0"]


def test_over_https_the_servers_certificate_counts(tmp_path):
    """A list may be published over https, but then by a server with a public certificate."""
    with (
        RawServer(lambda *_: None, pair=tls_authority("CA").issue(), folder=tmp_path) as secure,
        pytest.raises(RevocationListError, match="TLS fails"),
    ):
        fetch_list(secure.url)


def test_two_runs_at_once_never_go_back(revocations, put):
    """A run that read an older list stores none of its chunks over those of a newer one, nor its times."""
    put()
    (good,) = revocations.lists()
    earlier = good.this_update - HOUR
    assert not revocations.store(good.issuer, chunks_of([]), earlier, NOW + 99 * HOUR)
    assert revoked(revocations, 7) == {7}
    revocations.record(replace(good, this_update=earlier, count=0))
    assert revocations.lists() == [good]
    assert revocations.store(good.issuer, chunks_of([8]), good.this_update, good.next_update)


def test_a_list_that_is_removed_while_it_is_read_leaves_nothing(revocations, put, aws):
    """An operator's remove wins over a run that is at work: no chunks are left that nobody would refresh."""
    put()
    (good,) = revocations.lists()
    revocations.remove(good.issuer)
    assert items(aws) == {}
    revocations.store(good.issuer, chunks_of([7]), good.this_update, good.next_update)
    revocations.record(good)
    revocations.record_failure(good.issuer, NOW, "the connection fails")
    assert items(aws) == {}
    assert revoked(revocations, 7) == set()


def test_each_list_counts_for_its_own_issuer(put, refresh, revocations, server):
    """Two authorities, one function call: the good list is refreshed beside the bad one, and only chosen ones are."""
    put()
    other = authority("Other")
    server.give(8, authority=other)
    put("Other", certificate=other.certificate_pem)
    issuer = issuer_of(other.certificate_pem)
    with pytest.raises(NotAuthenticatedError):
        RevocationCheck(revocations, GRACE).check(caller(8, issuer), NOW)
    assert revoked(revocations, 7, 8) == {7}
    told = refresh()
    assert {found["name"]: found["status"] for found in told["lists"]} == {"Authority": "failed", "Other": "unchanged"}
    assert [found["name"] for found in refresh({"issuers": [issuer]})["lists"]] == ["Other"]


@pytest.mark.parametrize("what", ["list", "reader"])
def test_a_list_that_breaks_its_reader_keeps_no_other_one_from_being_read(put, refresh, revocations, server, what):
    """A malformed list, and even a fault of ours over one list, is that list's problem alone."""
    put()
    server.give(8, authority=authority("Other"))
    put("Other", certificate=authority("Other").certificate_pem)
    server.response = answer(make_list(authority(), [7]).replace(*BROKEN_NAME))
    with pytest.MonkeyPatch.context() as patch:
        if what == "reader":
            patch.setattr(refresh_revocations, "read_list", _breaks)
        told = refresh()
    problems = {"list": "cannot be read", "reader": "UnexpectedError: TypeError"}
    assert {found["name"]: found["status"] for found in told["lists"]} == {"Authority": "failed", "Other": "failed"}
    assert problems[what] in revocations.lists()[0].problem
    server.give(8, authority=authority("Other"), this_update=NOW)
    assert [found["status"] for found in refresh()["lists"]] == ["failed", "refreshed"]


def _breaks(*_, **__):
    raise TypeError("what stands in the list")


def test_a_run_without_time_goes_on_with_the_list_that_waited_longest(put, refresh, server, revocations):
    """When an hour's time is not enough, the next hour begins with what is left."""
    put()
    server.give(8, authority=authority("Other"))
    put("Other", certificate=authority("Other").certificate_pem)
    assert [[found["name"] for found in refresh(remaining=1)["lists"]] for _ in range(3)] == [
        ["Authority"],
        ["Other"],
        ["Authority"],
    ]


def test_the_metric_counts_lists_that_somebody_must_look_after(put, refresh, server, capsys, monkeypatch):
    """Every run writes the number of old lists, also when it is nothing: its absence sets off another alarm."""
    assert refresh() == {"lists": [], "old": 0}
    server.give(7, this_update=NOW - HOUR, next_update=NOW + HOUR)
    put()
    numbers = _metric(capsys)
    assert numbers == [0, 0]
    in_two_hours = SimpleNamespace(now=lambda zone: datetime.now(zone) + 2 * HOUR)
    monkeypatch.setattr(refresh_revocations, "datetime", in_two_hours)
    assert refresh()["old"] == 1
    assert _metric(capsys) == [1]


def _metric(capsys):
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"_aws"')]
    assert all(line["service"] == "gjeldsbro-test" for line in lines)
    return [line["RevocationListsOld"][0] for line in lines]


def test_a_list_is_old_when_its_successor_is_due_or_its_server_fails_for_a_day():
    """Also a list that is in force for years needs somebody when its server has been gone for a day."""
    found = RevocationList("a", "A", "http://x", "pem", NOW, NOW + 48 * HOUR, NOW, NOW)
    assert not is_old(found, NOW + MOST_FAILING - HOUR)
    assert is_old(found, NOW + MOST_FAILING)
    fresh = RevocationList("a", "A", "http://x", "pem", NOW, NOW + HOUR, NOW + HOUR, NOW)
    assert not is_old(fresh, NOW + HOUR)
    assert is_old(fresh, NOW + HOUR + timedelta(seconds=1))
    assert is_old(RevocationList("a", "A", "http://x", "pem"), NOW)


def test_the_days_of_grace_run_from_the_stored_list(put, revocations):
    """What the table says of nextUpdate decides, to the second."""
    put()
    (found,) = revocations.lists()
    RevocationCheck(revocations, GRACE).check(caller(6), found.next_update + GRACE)
    with pytest.raises(RevocationUnknownError):
        RevocationCheck(revocations, GRACE).check(caller(6), found.next_update + GRACE + timedelta(seconds=1))


def test_the_function_asks_the_table_for_what_it_may_have(put, refresh, server, aws, revocations):
    """Nothing here enforces rights on parts of a table: what is asked for is held against the template."""
    asked = set()

    def note(params, model, **_):
        asked.update(requests_of(model.name, params))

    aws_clients.dynamodb().meta.events.register("before-parameter-build.dynamodb", note)
    put()
    server.give(8, this_update=NOW)
    refresh()
    server.response = b""
    refresh()
    (good,) = revocations.lists()
    original = Revocations.store

    def remove_meanwhile(self, *arguments):
        stored = original(self, *arguments)
        key = {"pk": {"S": "REVOCATION"}, "sk": {"S": good.issuer}}
        beside(lambda: boto3.client("dynamodb").delete_item(TableName=aws["PARTNER_TABLE"], Key=key))
        return stored

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Revocations, "store", remove_meanwhile)
        server.give(9, this_update=NOW)
        refresh()
    assert boto3.client("dynamodb").scan(TableName=aws["PARTNER_TABLE"])["Items"] == []
    allowed = allowed_by("RefreshRevocationsRights")
    assert {one for one in asked if not any(covers(right, one) for right in allowed)} == set()
    assert {right for right in allowed if not any(covers(right, one) for one in asked)} == set()
