"""Runs from scratch through the whole night on moto: real Scans, real files, the functions' own rights."""

import pytest
from tests.integration.flows import GOOD, MOVED, NOON_2, REFUSED, SHOWN, P, Story

from gjeldsbro.adapters import aws as aws_clients

SCRATCH = {"fromScratch": True}


@pytest.fixture
def story(aws, monkeypatch) -> Story:
    """The story after its first night, and the day after it."""
    story = Story(aws, monkeypatch)
    story.first_night()
    return story


def items_of(table: str) -> list[dict]:
    """Everything in a table."""
    return aws_clients.dynamodb().scan(TableName=table)["Items"]


def empty(table: str) -> None:
    """Delete everything in a table."""
    for item in items_of(table):
        aws_clients.dynamodb().delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})


def test_the_register_is_rebuilt_without_an_index(story: Story) -> None:
    """All files are lost: an ordinary night stops and says so, a run from scratch ends as if nothing had happened."""
    story.store.delete_prefix("")
    story.night("night-2")
    outcome = story.partners.outcomes("night-2")[f"{GOOD}#9908:{GOOD}"]
    assert (outcome["status"], outcome["error"]) == ("failed", "ConfigurationError")
    assert "is missing in the data bucket" in outcome["reason"]
    # MOVED's new provider has no index to lose; the old one's data is not withdrawn, and older.
    assert story.shown() == SHOWN[1] | {P[3]: {GOOD: 100, MOVED: 310}, P[4]: {GOOD: 444}}
    story.night("night-3", SCRATCH)
    assert story.shown() == SHOWN[2]
    assert story.statuses("night-3")[f"{REFUSED}#9908:{REFUSED}"] == "refused"


def test_a_lost_register_comes_back_from_the_institutions(story: Story) -> None:
    """But for what was refused, and for what was pushed since: both come with what is sent next."""
    empty(story.environment["REGISTER_TABLE"])
    story.night("night-2", SCRATCH)
    without = {person: {of: debt for of, debt in debts.items() if of != REFUSED} for person, debts in SHOWN[2].items()}
    expected = {person: debts for person, debts in without.items() if debts} | {P[4]: {GOOD: 100}}
    assert story.shown() == expected
    story.push(P[4], 444, NOON_2)
    assert story.shown() == expected | {P[4]: {GOOD: 444}}


def test_a_partner_table_of_yesterday_does_not_mislead(story: Story) -> None:
    """Restored, its records point to indexes that are gone, and know of a provider whose data was withdrawn since."""
    table = story.environment["PARTNER_TABLE"]
    yesterday = items_of(table)
    story.night("night-2")
    assert story.shown() == SHOWN[2]
    empty(table)
    for item in yesterday:
        aws_clients.dynamodb().put_item(TableName=table, Item=item)
    story.night("night-3", SCRATCH)
    story.assert_second_night_is_there()
