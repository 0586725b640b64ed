"""Whether a certificate was revoked: the chunks that a list is kept in, and what follows from what they say."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.domain.callers import Caller
from gjeldsbro.domain.revocation import CHUNKS, DIGEST_SIZE, chunk_of, chunks_of, digest_of, holds
from gjeldsbro.errors import NotAuthenticatedError, RevocationUnknownError
from gjeldsbro.services.revocation import KEPT, MOST_KEPT, RevocationCheck, RevokedChunk

NOW = datetime(2026, 11, 22, 5, tzinfo=UTC)
ENDS = NOW + timedelta(hours=12)
GRACE = timedelta(days=3)
MOMENT = timedelta(microseconds=1)
SERIALS = st.integers(-(2**64), 2**160)


def caller(serial=1, issuer="a" * 64):
    """The owner of a certificate."""
    return Caller("NTRNO-920013015", issuer, serial, NOW + timedelta(days=700))


class Lists:
    """Lists in memory: issuer -> (serial numbers, nextUpdate). ``asked`` counts the readings."""

    def __init__(self, **lists):
        self.lists = lists
        self.asked = 0

    def chunk(self, issuer, name):
        """One chunk, or None."""
        self.asked += 1
        if issuer not in self.lists:
            return None
        serials, next_update = self.lists[issuer]
        return RevokedChunk(chunks_of(serials)[name], next_update)


@pytest.fixture
def lists():
    """The list of one issuer, with the serial number 7 on it."""
    return Lists(**{"a" * 64: ({7}, ENDS)})


@pytest.fixture
def check(lists):
    """The check over that list."""
    return RevocationCheck(lists, GRACE)


@given(st.sets(SERIALS, max_size=300), SERIALS)
def test_a_list_in_chunks_knows_what_the_list_knows(serials, other):
    """Every serial number of a list is found in its own chunk, and no other one is."""
    chunks = chunks_of(serials)
    assert set(chunks) == set(CHUNKS)
    assert all(holds(chunks[chunk_of(serial)], serial) for serial in serials)
    assert holds(chunks[chunk_of(other)], other) == (other in serials)
    assert sum(map(len, chunks.values())) == DIGEST_SIZE * len(serials)


@given(st.lists(SERIALS, max_size=50))
def test_the_order_of_a_list_makes_no_difference(serials):
    """The same serial numbers give the same chunks, however often and in whatever order they are listed."""
    assert chunks_of(serials) == chunks_of([*reversed(serials), *serials])


def test_a_digest_is_a_part_of_sha_256():
    """The digest is eight bytes over the hexadecimal digits, so that other tools can compute it."""
    assert digest_of(1).hex() == "6b86b273ff34fce1"  # printf 1 | sha256sum
    assert chunk_of(1) == "6"


def test_a_revoked_certificate_is_nobody(check):
    """A serial number on its issuer's list: 401."""
    with pytest.raises(NotAuthenticatedError, match="the client certificate is revoked"):
        check.check(caller(7), NOW)


def test_another_certificate_is_let_in(check, lists):
    """A serial number that is not on the list, and one that another issuer revoked."""
    check.check(caller(8), NOW)
    lists.lists["b" * 64] = (set(), ENDS)
    check.check(caller(7, "b" * 64), NOW)


def test_an_issuer_without_a_list_is_not_checked_and_the_log_says_so(check, log_stream):
    """Operators decide whose lists are read; whose are not stands in the log, by the issuer's digest."""
    check.check(caller(7, "c" * 64), NOW)
    assert "REVOCATION_NOT_CHECKED" in log_stream.getvalue()
    assert "c" * 64 in log_stream.getvalue()


def test_an_old_list_counts_until_the_days_of_grace_end(lists):
    """The last good list stays in use until nextUpdate and the grace are over; then nobody of that issuer is let in."""
    for late in (timedelta(0), MOMENT, GRACE):
        RevocationCheck(lists, GRACE).check(caller(8), ENDS + late)
    with pytest.raises(RevocationUnknownError):
        RevocationCheck(lists, GRACE).check(caller(8), ENDS + GRACE + MOMENT)


def test_who_is_revoked_stays_so_however_old_the_list(check):
    """A list that is too old still knows whom it revoked: 401, not 503."""
    with pytest.raises(NotAuthenticatedError):
        check.check(caller(7), ENDS + GRACE + timedelta(days=400))


def test_a_reading_is_kept_for_five_minutes(check, lists):
    """A process reads a certificate's chunk once in five minutes; then a new revocation counts."""
    check.check(caller(8), NOW)
    lists.lists["a" * 64] = ({7, 8}, ENDS)
    check.check(caller(8), NOW + KEPT - MOMENT)
    assert lists.asked == 1
    with pytest.raises(NotAuthenticatedError):
        check.check(caller(8), NOW + KEPT)
    assert lists.asked == 2


def test_certificates_do_not_share_a_reading(check, lists):
    """What is known of one certificate says nothing of another one, nor of another issuer's of the same number."""
    check.check(caller(8), NOW)
    with pytest.raises(NotAuthenticatedError):
        check.check(caller(7), NOW)
    lists.lists["b" * 64] = ({8}, ENDS)
    with pytest.raises(NotAuthenticatedError):
        check.check(caller(8, "b" * 64), NOW)


def test_a_clock_that_goes_back_does_not_keep_a_reading_for_longer(check, lists):
    """A reading from what is now the future is read anew."""
    check.check(caller(8), NOW)
    check.check(caller(8), NOW - MOMENT)
    assert lists.asked == 2


def test_a_reading_that_is_too_old_is_never_kept(check, lists):
    """As soon as a newer list is stored, its issuer's callers are let in again: the five minutes do not count."""
    check.check(caller(8), ENDS + GRACE)
    for _ in range(2):
        with pytest.raises(RevocationUnknownError):
            check.check(caller(8), ENDS + GRACE + MOMENT)
    assert lists.asked == 3
    lists.lists["a" * 64] = ({7}, ENDS + timedelta(days=7))
    check.check(caller(8), ENDS + GRACE + MOMENT)


def test_a_store_that_fails_lets_nobody_in(check, lists, monkeypatch):
    """A failure passes as it is (503); what was read before counts for its five minutes, and not for longer."""
    check.check(caller(8), NOW)

    def fail(*_):
        raise ConnectionError

    monkeypatch.setattr(lists, "chunk", fail)
    check.check(caller(8), NOW + KEPT - MOMENT)
    with pytest.raises(ConnectionError):
        check.check(caller(8), NOW + KEPT)
    with pytest.raises(ConnectionError):
        check.check(caller(9), NOW)


def test_a_process_remembers_a_bounded_number_of_certificates(check):
    """Many certificates make room for each other, the first first."""
    for serial in range(1000, 1000 + MOST_KEPT + 1):
        check.check(caller(serial), NOW)
    assert len(check._known) == MOST_KEPT
    assert ("a" * 64, 1000) not in check._known
