"""What every caller passes before any route."""

from datetime import UTC, datetime, timedelta

import pytest

from gjeldsbro.domain.callers import Caller
from gjeldsbro.errors import NotAuthenticatedError, RevocationUnknownError, TooManyRequestsError
from gjeldsbro.services.front_door import WINDOW, FrontDoor

NOW = datetime(2026, 11, 22, 6, 30, 3, 200000, tzinfo=UTC)
START = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
BANK, OTHER = (
    Caller(organisation, "issuer", 1, datetime(2027, 1, 1, tzinfo=UTC))
    for organisation in ("NTRNO-920013015", "NTRSE-5569622441")
)


class Rates:
    """Counts in memory, and remembers what was asked of it."""

    def __init__(self):
        self.counts = {}
        self.kept_until = set()

    def count(self, organisation, window_start, expires):
        """As CallerRates."""
        key = organisation, window_start
        self.counts[key] = self.counts.get(key, 0) + 1
        self.kept_until.add(expires)
        return self.counts[key]


class Revocations:
    """Raises what it is told to."""

    def __init__(self, error=None):
        self.error = error
        self.asked = []

    def check(self, caller, now):
        """As the port."""
        self.asked.append((caller, now))
        if self.error:
            raise self.error


@pytest.fixture
def rates():
    """No requests yet."""
    return Rates()


def retry_after(door, caller, now):
    """The seconds that a caller is told to wait; None when it is let in."""
    try:
        door.admit(caller, now)
    except TooManyRequestsError as exc:
        return exc.retry_after
    return None


def test_so_many_requests_in_a_window_and_then_no_more_until_the_next(rates):
    """The third of two is refused, with the seconds that are left of the window; in the next one all begins anew."""
    door = FrontDoor(None, rates, 2)
    assert [retry_after(door, BANK, NOW) for _ in range(3)] == [None, None, 7]
    assert retry_after(door, BANK, START + WINDOW - timedelta(microseconds=1)) == 1
    assert retry_after(door, BANK, START + WINDOW) is None
    assert set(rates.counts) == {("NTRNO-920013015", START), ("NTRNO-920013015", START + WINDOW)}
    assert rates.kept_until == {START + WINDOW, START + 2 * WINDOW}


def test_one_callers_requests_are_no_others(rates):
    """Who sends too much is alone with it."""
    door = FrontDoor(None, rates, 1)
    assert [retry_after(door, caller, NOW) for caller in (BANK, BANK, OTHER)] == [None, 7, None]


def test_all_processes_count_together(rates):
    """Two doors of one API are one limit."""
    one, other = FrontDoor(None, rates, 2), FrontDoor(None, rates, 2)
    assert [retry_after(door, BANK, NOW) for door in (one, other, one, other)] == [None, None, 7, 7]


def test_a_flood_is_not_written_down_request_by_request(rates):
    """A process that knows that a caller is over its number asks the table no more in that window."""
    door = FrontDoor(None, rates, 2)
    for _ in range(100):
        retry_after(door, BANK, NOW)
    assert rates.counts == {("NTRNO-920013015", START): 3}


@pytest.mark.parametrize("error", [NotAuthenticatedError("revoked"), RevocationUnknownError("too old")])
def test_a_revoked_certificate_is_not_even_counted(rates, error):
    """Neither one that was revoked nor one of which that cannot be told gets any further."""
    revocations = Revocations(error)
    with pytest.raises(type(error)):
        FrontDoor(revocations, rates, 2).admit(BANK, NOW)
    assert revocations.asked == [(BANK, NOW)]
    assert rates.counts == {}


def test_a_certificate_that_is_good_goes_on(rates):
    """The check comes first, and then the count."""
    revocations = Revocations()
    FrontDoor(revocations, rates, 2).admit(BANK, NOW)
    assert revocations.asked == [(BANK, NOW)]
    assert list(rates.counts.values()) == [1]
