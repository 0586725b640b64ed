"""The connection check: what a caller is told of itself, and that it is told of nobody else."""

import json
from datetime import UTC, datetime

import pytest

from gjeldsbro.domain.callers import Caller
from gjeldsbro.domain.connection_messages import ConnectionResponse
from gjeldsbro.errors import NotEntitledError
from gjeldsbro.services.connection_check import ConnectionCheck
from gjeldsbro.services.ports import Dataset, Institution, Lender, Provider

BANK, OTHER_BANK, THIRD_BANK = "920013015", "985815534", "983544622"
PROVIDER, OTHER_PROVIDER = f"9908:{BANK}", f"9908:{OTHER_BANK}"
AT = "2026-11-22T05:00:01.5000000Z"
OUTCOME = {"institution": BANK, "provider": PROVIDER, "run": "a-run", "at": AT}


class FakePartners:
    """Three banks: the first reports itself, and through it the second one's cards; the third is somebody else's."""

    def __init__(self) -> None:
        self.known = [
            Institution(BANK, "Testbanken AS", providers=(Provider(PROVIDER, url="https://x"), Provider("9990:x-1"))),
            Institution(THIRD_BANK, "Tredjebanken", providers=(Provider(OTHER_PROVIDER, url="https://y"),)),
            Institution(
                OTHER_BANK,
                "Andrebanken",
                providers=(Provider(OTHER_PROVIDER, url="https://y"), Provider(PROVIDER)),
                lookup="live",
            ),
        ]
        self.known_lenders = []
        self.known_datasets = {}
        self.pushes = {}
        self.asked = []

    def institutions(self):
        """All of them."""
        return self.known

    def lenders(self):
        """All of them."""
        return self.known_lenders

    def dataset(self, institution, provider):
        """As the table does."""
        self.asked.append((institution, provider))
        return self.known_datasets.get((institution, provider), Dataset(institution, provider))

    def last_push(self, institution, provider):
        """As the table does."""
        self.asked.append((institution, provider))
        return self.pushes.get((institution, provider))


def caller(organisation=f"NTRNO-{BANK}") -> Caller:
    """Whoever showed a certificate that names ``organisation``."""
    return Caller(organisation, "0" * 64, 0xAB01, datetime(2027, 3, 1, 12, tzinfo=UTC))


def checked(partners, organisation=f"NTRNO-{BANK}"):
    """The answer, when it is what the API's description says."""
    found = ConnectionCheck(partners).check(caller(organisation))
    whole = {"timestamp": "2026-11-22T06:30:01Z", "uuid": "0b9cf2a5-5f5c-4a3e-8a3c-0b1f7c9d2e11", **found}
    model = ConnectionResponse.model_validate_json(json.dumps(whole))
    assert model.model_dump(mode="json") == whole
    return found


def test_a_caller_is_told_what_was_read_from_its_certificate():
    """The organisation, and which of its certificates this is."""
    found = checked(FakePartners())

    assert found["organisation"] == f"NTRNO-{BANK}"
    assert found["certificate"] == {"serialNumber": "AB01", "validUntil": "2027-03-01T12:00:00Z"}


def test_a_provider_sees_the_institutions_that_it_reports_and_no_others():
    """One entry for each institution and provider that the certificate belongs to; nothing of others is even read."""
    partners = FakePartners()
    found = checked(partners)

    assert [(one["financialInstitutionID"], one["providerID"]) for one in found["institutions"]] == [
        (BANK, PROVIDER),
        (OTHER_BANK, PROVIDER),
    ]
    assert [one["mayPush"] for one in found["institutions"]] == [True, True]
    assert [one["lookup"] for one in found["institutions"]] == ["both", "live"]
    assert found["lender"] is None
    assert set(partners.asked) == {(BANK, PROVIDER), (OTHER_BANK, PROVIDER)}
    assert OTHER_PROVIDER not in str(found)


def test_what_never_came_is_null():
    """A new provider has neither pushed nor delivered; one without an address has no dataset at all."""
    first, second = checked(FakePartners())["institutions"]

    assert (first["lastPush"], first["dataset"]) == (None, {"kind": "loans", "lastAccepted": None, "lastRun": None})
    assert (second["lastPush"], second["dataset"]) == (None, None)


def test_it_tells_when_the_last_data_came():
    """The last push, the dataset in use, and the last run, which needs no reason when all went well."""
    partners = FakePartners()
    partners.pushes[BANK, PROVIDER] = AT
    run = {**OUTCOME, "status": "loaded", "customers": 17}
    partners.known_datasets[BANK, PROVIDER] = Dataset(BANK, PROVIDER, fetch_start=AT, last_run=run)
    entry = checked(partners)["institutions"][0]

    assert entry["lastPush"] == "2026-11-22T05:00:01.5Z"
    assert entry["dataset"]["lastAccepted"] == "2026-11-22T05:00:01.5Z"
    assert entry["dataset"]["lastRun"] == {
        "status": "loaded",
        "at": "2026-11-22T05:00:01.5Z",
        "reason": None,
        "violations": [],
        "totalViolations": 0,
    }


def test_a_refused_dataset_is_told_with_places_and_rules():
    """What has to be mended, and how much of it there is."""
    partners = FakePartners()
    rules = [{"place": "page 0 /customers/3/loans/0/balance", "rule": "must be a JSON integer"}]
    run = {**OUTCOME, "status": "refused", "reason": "page 0: x", "violations": rules, "totalViolations": 7}
    partners.known_datasets[BANK, PROVIDER] = Dataset(BANK, PROVIDER, last_run=run)
    told = checked(partners)["institutions"][0]["dataset"]["lastRun"]

    assert (told["status"], told["reason"]) == ("refused", "page 0: x")
    assert (told["violations"], told["totalViolations"]) == (rules, 7)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ({"status": "held", "reason": "customers: 7 after 9"}, "customers: 7 after 9"),
        ({"status": "failed", "error": "InstitutionUnavailableError", "reason": "no answer"}, "no answer"),
        ({"status": "failed", "error": "UnexpectedError", "reason": "KeyError"}, "ask us"),
        ({"status": "failed", "reason": "it ended without an outcome"}, "ask us"),
    ],
    ids=["held", "unreachable", "our fault", "unknown"],
)
def test_a_reason_is_told_when_it_is_the_institutions(run, reason):
    """An institution reads what it can do something about; what is wrong with us stays inside."""
    partners = FakePartners()
    partners.known_datasets[BANK, PROVIDER] = Dataset(BANK, PROVIDER, last_run={**OUTCOME, **run})
    told = checked(partners)["institutions"][0]["dataset"]["lastRun"]

    assert told["status"] == run["status"]
    assert told["reason"].endswith(reason)
    assert "KeyError" not in told["reason"]


def test_a_provider_that_was_dropped_may_not_push():
    """It still sees its entry, while its data is in use."""
    partners = FakePartners()
    partners.known = [Institution(BANK, "Testbanken AS", providers=(Provider(PROVIDER, ended=True),))]
    partners.known_datasets[BANK, PROVIDER] = Dataset(BANK, PROVIDER, fetch_start=AT)
    (entry,) = checked(partners)["institutions"]

    assert entry["mayPush"] is False
    assert entry["dataset"]["lastAccepted"] == "2026-11-22T05:00:01.5Z"


def test_a_lender_sees_what_it_may_look_up():
    """A lender that reports nothing is told whom it may act for, and that it is a provider of nobody."""
    partners = FakePartners()
    partners.known_lenders = [
        Lender(BANK, "Testbanken AS", (OTHER_BANK,), ("creditApplication",)),
        Lender("0007:5560000001", "Långivaren", certificates=("PSDSE-FINA-44059",)),
    ]

    found = checked(partners, "PSDSE-FINA-44059")
    assert found["institutions"] == []
    assert found["lender"]["name"] == "Långivaren"
    both = checked(partners)
    assert len(both["institutions"]) == 2
    assert both["lender"] == {
        "lenderID": BANK,
        "name": "Testbanken AS",
        "onBehalfOf": [OTHER_BANK],
        "purposes": ["creditApplication"],
    }


def test_who_is_neither_is_told_what_its_certificate_says():
    """403 names the organisation, which is what somebody with the wrong certificate needs to know."""
    with pytest.raises(NotEntitledError, match="NTRNO-810034882"):
        ConnectionCheck(FakePartners()).check(caller("NTRNO-810034882"))
