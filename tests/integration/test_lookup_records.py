"""The record of lookups and their announcement, on moto; and who looked somebody up, for an operator."""

import base64
import json
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import ClientError

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.announcements import Announcements
from gjeldsbro.adapters.lookups import LookupHistory, LookupRecorder
from gjeldsbro.adapters.partner_cache import CACHE_SECONDS, TIMES_SECONDS, CachedPartners
from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import InvalidMessageError, StoreUnavailableError, UnexpectedError
from gjeldsbro.log import known_error
from gjeldsbro.services.debt_lookup import LookupNotice
from gjeldsbro.services.lookup_records import AskedCreditor, LookupRecord
from gjeldsbro.services.ports import Institution, Lender
from gjeldsbro.services.show_lookups import ShowLookups

KEY = HashKey("1", b"k" * 64)
PERSON, OTHER_PERSON = "17912099997", "29822099635"
BANK, OTHER_BANK = "920013015", "985815534"
LOOKUP = "0b9cf2a5-5f5c-4a3e-8a3c-0b1f7c9d2e11"
NOW = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
RETENTION = timedelta(days=1095)


def a_record(person=PERSON, *, at=NOW, lookup=LOOKUP, role="applicant", on_behalf_of=None):
    """A lookup of one person in which one institution answered and one did not."""
    creditors = (AskedCreditor(BANK, True, "institution"), AskedCreditor(OTHER_BANK, False, "register"))
    return LookupRecord(
        KEY.partition_of(person),
        lookup,
        from_datetime(at),
        BANK,
        on_behalf_of,
        "loan 17",
        "payoutControl",
        role,
        creditors,
    )


def a_notice(person=PERSON, **values):
    """The notice of a lookup of one person."""
    given = {
        "customer_id": person,
        "lookup_id": LOOKUP,
        "at": from_datetime(NOW),
        "lender": BANK,
        "lender_name": "Testbanken AS",
        "on_behalf_of": OTHER_BANK,
        "reference": "loan 17",
        "purpose": "payoutControl",
        "message": "Vi har mottatt søknaden",
        "notice_required": True,
    }
    return LookupNotice(**{**given, **values})


@pytest.fixture
def recorder(aws):
    """Writes records."""
    return LookupRecorder(aws["LOOKUP_TABLE"], aws_clients.dynamodb(), RETENTION)


@pytest.fixture
def history(aws):
    """Reads records."""
    return LookupHistory(aws["LOOKUP_TABLE"], aws_clients.dynamodb())


@pytest.fixture
def bus(aws):
    """A bus whose events can be read afterwards: moto keeps those that an archive takes."""
    source = f"arn:aws:events:eu-north-1:123456789012:event-bus/{aws['LOOKUP_BUS']}"
    aws_clients.events().create_archive(ArchiveName="all", EventSourceArn=source)

    def told():
        from moto.events.models import events_backends

        archive = events_backends["123456789012"]["eu-north-1"].archives["all"]
        return [json.loads(event) if isinstance(event, str) else event for event in archive.events]

    return told


@pytest.fixture
def announcements(aws):
    """Announces one lookup, under a key that exists."""
    return Announcements(aws["LOOKUP_BUS"], aws["NOTICE_KEY"], aws_clients.events(), aws_clients.kms())


def test_what_was_recorded_is_shown_the_newest_first(recorder, history):
    """Every word of a record comes back, one person's only, in the order that people look for."""
    older = a_record(at=NOW - timedelta(days=1), lookup="1" * 36, on_behalf_of=OTHER_BANK)
    recorder.record([older])
    recorder.record([a_record(), a_record(OTHER_PERSON, role="coBorrower")])
    assert history.of(KEY.partition_of(PERSON), NOW) == [a_record(), older]
    assert history.of(KEY.partition_of(OTHER_PERSON), NOW) == [a_record(OTHER_PERSON, role="coBorrower")]


@pytest.mark.parametrize("others", [[], [a_record(OTHER_PERSON, role="coBorrower")]], ids=["alone", "with another"])
def test_no_record_replaces_another(recorder, history, others):
    """A lookup with the id and time of an earlier one fails as a whole, and the earlier record stays as it was."""
    recorder.record([a_record()])
    with pytest.raises(ClientError) as caught:
        recorder.record([a_record(on_behalf_of=OTHER_BANK), *others])
    assert type(known_error(caught.value)) is UnexpectedError
    assert history.of(KEY.partition_of(PERSON), NOW) == [a_record()]
    assert history.of(KEY.partition_of(OTHER_PERSON), NOW) == []


def test_a_record_names_nobody_and_expires(recorder, aws):
    """The person is a keyed hash, there is neither debt nor a number of loans, and the retention is in the item."""
    recorder.record([a_record()])
    (item,) = aws_clients.dynamodb().scan(TableName=aws["LOOKUP_TABLE"])["Items"]
    assert PERSON not in json.dumps(item)
    assert item["pk"]["S"] == KEY.partition_of(PERSON)
    assert int(item["expires"]["N"]) == int((NOW + RETENTION).timestamp())
    assert item.keys() == {
        *("pk", "sk", "lookupID", "lender", "referenceID", "purpose", "role", "creditors", "expires"),
    }
    assert item["creditors"]["L"][0]["M"].keys() == {"institution", "answered", "source"}


def test_what_has_expired_is_not_shown_before_it_is_deleted(recorder, history):
    """DynamoDB deletes days later than it should: a reader does not wait for that."""
    recorder.record([a_record()])
    assert history.of(KEY.partition_of(PERSON), NOW + RETENTION - timedelta(seconds=1))
    assert history.of(KEY.partition_of(PERSON), NOW + RETENTION) == []


def test_persons_of_one_lookup_are_recorded_together_or_not_at_all(recorder, history):
    """A record that cannot be stored takes the others with it: the lookup fails as a whole."""
    with pytest.raises(ClientError):
        recorder.record([a_record(), a_record(OTHER_PERSON)._replace(reference="x" * 500_000)])
    assert history.of(KEY.partition_of(PERSON), NOW) == []


def test_an_announcement_says_all_but_who_it_is(announcements, bus):
    """The person is a ciphertext that belongs to this lookup alone; everything a notice must say is beside it."""
    announcements.prepare(LOOKUP, [PERSON])
    announcements.announce([a_notice()])
    (event,) = bus()
    assert PERSON not in json.dumps(event)
    assert (event["source"], event["detail-type"]) == ("gjeldsbro", "DebtLookup")
    customer = event["detail"].pop("customer")
    assert event["detail"] == {
        "lookupID": LOOKUP,
        "at": "2026-11-22T06:30:00Z",
        "lender": BANK,
        "lenderName": "Testbanken AS",
        "onBehalfOf": OTHER_BANK,
        "referenceID": "loan 17",
        "purpose": "payoutControl",
        "messageToCustomer": "Vi har mottatt søknaden",
        "noticeRequired": True,
    }
    kms, ciphertext = boto3.client("kms"), base64.b64decode(customer["ciphertext"])
    told = kms.decrypt(KeyId=customer["keyId"], CiphertextBlob=ciphertext, EncryptionContext={"lookupID": LOOKUP})
    assert told["Plaintext"].decode() == PERSON
    with pytest.raises(ClientError):
        kms.decrypt(KeyId=customer["keyId"], CiphertextBlob=ciphertext, EncryptionContext={"lookupID": "another"})


def test_all_persons_are_announced_however_many(announcements, bus):
    """A person and ten co-borrowers are more than one call takes; what is not said is left out of an event."""
    persons = [f"{number:011d}" for number in range(11)]
    announcements.prepare(LOOKUP, persons)
    announcements.announce([a_notice(person, on_behalf_of=None, message=None) for person in persons])
    assert len(bus()) == 11
    assert not {"onBehalfOf", "messageToCustomer"} & bus()[0]["detail"].keys()


class StubbornBus:
    """Refuses each event as often as it is told to."""

    def __init__(self, refusals):
        self.refusals = refusals
        self.taken = []

    def put_events(self, *, Entries):  # noqa: N803 - AWS names it so
        """As boto3's."""
        refused = Entries[1:] if self.refusals else ()
        self.refusals -= 1
        self.taken += [json.loads(entry["Detail"])["referenceID"] for entry in Entries if entry not in refused]
        results = [{"ErrorCode": "InternalFailure"} if entry in refused else {"EventId": "1"} for entry in Entries]
        return {"FailedEntryCount": len(refused), "Entries": results}


def test_what_the_bus_refuses_is_sent_again_and_nothing_else(aws):
    """PutEvents takes some and refuses others with status 200: only those go once more."""
    stubborn = StubbornBus(refusals=2)
    announcements = Announcements("bus", aws["NOTICE_KEY"], stubborn, aws_clients.kms(), wait=lambda _: None)
    announcements.prepare(LOOKUP, ["1", "2", "3"])
    announcements.announce([a_notice(person, reference=person) for person in ("1", "2", "3")])
    assert stubborn.taken == ["1", "2", "3"]


def test_an_event_that_is_never_taken_fails_the_lookup(aws):
    """Whoever cannot be announced is not disclosed."""
    announcements = Announcements("bus", aws["NOTICE_KEY"], StubbornBus(99), aws_clients.kms(), wait=lambda _: None)
    announcements.prepare(LOOKUP, ["1", "2", "3", "4"])
    with pytest.raises(StoreUnavailableError):
        announcements.announce([a_notice(person) for person in ("1", "2", "3", "4")])


def test_a_person_that_cannot_be_encrypted_is_not_announced(aws, bus):
    """Nor does preparing raise: it is the announcement that fails."""
    announcements = Announcements(aws["LOOKUP_BUS"], "no-such-key", aws_clients.events(), aws_clients.kms())
    announcements.prepare(LOOKUP, [PERSON])
    with pytest.raises(ClientError):
        announcements.announce([a_notice()])
    assert bus() == []


@pytest.fixture
def show(partners, history):
    """The use case, with one lender and one institution that are still registered."""
    partners.put_lender(Lender(BANK, "Testbanken AS", purposes=("payoutControl",)))
    partners.put_institution(Institution(OTHER_BANK, "Andrebanken AS"))
    return ShowLookups(partners, history, HashKeys.of(KEY), "synthetic")


def test_an_operator_sees_who_looked_and_leaves_a_trail(show, recorder, partners):
    """Names where they are known, and on the trail the person only as a keyed hash."""
    recorder.record([a_record(on_behalf_of=OTHER_BANK)])
    shown = show.show(PERSON, operator="kari", reason="access request", now=NOW)
    assert shown == {
        "lookups": [
            {
                "at": "2026-11-22T06:30:00Z",
                "lookupID": LOOKUP,
                "lender": BANK,
                "lenderName": "Testbanken AS",
                "onBehalfOf": OTHER_BANK,
                "referenceID": "loan 17",
                "purpose": "payoutControl",
                "role": "applicant",
                "creditors": [
                    {"institution": BANK, "name": None, "answered": True, "source": "institution"},
                    {"institution": OTHER_BANK, "name": "Andrebanken AS", "answered": False, "source": "register"},
                ],
            }
        ]
    }
    (entry,) = partners.trail(NOW - timedelta(days=1))
    assert (entry["who"], entry["action"], entry["reason"]) == ("kari", "lookups", "access request")
    assert entry["subject"] == f"customer {KEY.partition_of(PERSON)}"


@pytest.mark.parametrize(
    "wrong", [{"operator": " "}, {"operator": PERSON}, {"reason": f"about {PERSON}"}, {"customer_id": "17912099998"}]
)
def test_nobody_looks_without_a_name_and_a_right_number(show, partners, wrong):
    """What is refused leaves no trail, for nothing was looked at."""
    given = {"customer_id": PERSON, "operator": "kari", "reason": "access request", **wrong}
    with pytest.raises(InvalidMessageError):
        show.show(given.pop("customer_id"), now=NOW, **given)
    assert partners.trail(NOW - timedelta(days=1)) == []


def test_without_a_trail_nothing_is_shown(show, recorder, partners, monkeypatch):
    """The trail comes first: when it cannot be recorded, nobody has seen anything."""
    recorder.record([a_record()])

    def fail(**_):
        raise StoreUnavailableError("x")

    monkeypatch.setattr(partners, "record_trail", fail)
    with pytest.raises(StoreUnavailableError):
        show.show(PERSON, operator="kari", reason=None, now=NOW)


def test_partners_are_kept_for_half_a_minute_and_datasets_times_for_two_seconds(partners):
    """Who may look up and whom to ask seldom changes; how fresh the register is must soon be seen."""
    now = [100.0]
    cached = CachedPartners(partners, clock=lambda: now[0])
    assert (cached.lenders(), cached.institutions(), cached.dataset_times()) == ([], [], [])
    lender, institution = Lender(BANK, "Testbanken AS"), Institution(BANK, "Testbanken AS")
    partners.put_lender(lender)
    partners.put_institution(institution)
    partners.take_lease(BANK, "9908:920013015", "run", NOW, 60)
    now[0] += TIMES_SECONDS - 0.1
    assert (cached.lenders(), cached.institutions(), cached.dataset_times()) == ([], [], [])
    now[0] += 0.1
    assert (cached.lenders(), cached.institutions(), len(cached.dataset_times())) == ([], [], 1)
    now[0] = 100.0 + CACHE_SECONDS - 0.1
    assert (cached.lenders(), cached.institutions()) == ([], [])
    now[0] += 0.1
    assert (cached.lenders(), cached.institutions()) == ([lender], [institution])
