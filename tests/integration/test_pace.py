"""The pace that all functions keep together when they ask one provider, in a real table."""

import pytest

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.pace import SharedPace

PROVIDER, OTHER = "9908:920013015", "9908:985815534"
NOW = 1_795_000_000.0


@pytest.fixture
def pace(aws) -> SharedPace:
    """25 requests a second: one each 40 ms."""
    return SharedPace(aws["PARTNER_TABLE"], aws_clients.dynamodb(), 25)


def test_turns_lie_one_interval_apart_and_begin_now(pace) -> None:
    """The first comes at once, each of the others behind the one before; other providers have rows of their own."""
    turns = [pace.turn(PROVIDER, NOW, NOW + 60) for _ in range(4)]
    assert turns == pytest.approx([NOW, NOW + 0.04, NOW + 0.08, NOW + 0.12])
    assert pace.turn(OTHER, NOW, NOW + 60) == NOW


def test_a_pause_is_not_made_up_for(pace) -> None:
    """After a minute without requests there is one turn at once, not a minute's worth."""
    pace.turn(PROVIDER, NOW, NOW + 60)
    later = NOW + 60
    assert [pace.turn(PROVIDER, later, later + 60) for _ in range(2)] == pytest.approx([later, later + 0.04])


def test_whoever_would_wait_too_long_takes_no_turn(pace) -> None:
    """Turns that nobody uses would slow the others down."""
    for _ in range(5):
        pace.turn(PROVIDER, NOW, NOW + 60)
    assert pace.turn(PROVIDER, NOW, NOW + 0.19) is None
    assert pace.turn(PROVIDER, NOW, NOW + 60) == pytest.approx(NOW + 0.2)


def test_several_functions_never_share_a_turn(aws) -> None:
    """All functions together keep the pace, also when their clocks differ: so the institution was promised."""
    paces = [SharedPace(aws["PARTNER_TABLE"], aws_clients.dynamodb(), 25) for _ in range(8)]
    turns = [paces[number % 8].turn(PROVIDER, NOW + number % 3 / 1000, NOW + 60) for number in range(80)]
    assert turns == pytest.approx([NOW + number * 0.04 for number in range(80)])


def test_a_turn_that_another_function_takes_first_is_tried_for_again(pace) -> None:
    """Between two updates others may get in; whoever has no luck three times asks again a moment later."""
    taken = iter([None, None, None, 7.0])
    pace._take = lambda *_: next(taken)
    assert pace.turn(PROVIDER, NOW, NOW + 60) == 0.007
    pace._take = lambda *_: None
    assert pace.turn(PROVIDER, NOW, NOW + 60) is None


def test_a_row_that_nobody_uses_any_more_goes(aws, pace) -> None:
    """The table's time to live clears it away."""
    pace.turn(PROVIDER, NOW, NOW + 60)
    stored = aws_clients.dynamodb().get_item(
        TableName=aws["PARTNER_TABLE"], Key={"pk": {"S": "PACE"}, "sk": {"S": PROVIDER}}
    )["Item"]
    assert int(stored["expires"]["N"]) == NOW + 24 * 3600
