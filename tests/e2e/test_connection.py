"""The connection check through the gateway, after two nights and some pushes."""

from tests.e2e.conftest import BANK, CONNECTION


def ask(parties, organisation: str | None, **certificate):
    """The answer to an organisation's connection check."""
    return parties.call("GET", CONNECTION, certificate=parties.certificate(organisation, **certificate))


def test_a_provider_sees_its_own_deliveries(connected) -> None:
    """When its dataset was accepted and when it last pushed, of its own institutions only."""
    body = connected.json()

    assert connected.status_code == 200
    assert body["organisation"] == f"NTRNO-{BANK}"
    assert [one["financialInstitutionID"] for one in body["institutions"]] == [BANK]
    (entry,) = body["institutions"]
    assert entry["lastPush"][:10] == body["timestamp"][:10]
    assert entry["dataset"]["lastAccepted"] is not None
    assert entry["dataset"]["lastRun"]["status"] in {"loaded", "unchanged"}


def test_a_refused_dataset_is_told_with_its_places(parties, nights) -> None:
    """What the operator's report says of it, its own provider reads by itself; here a Swedish one."""
    prefix, _, number = parties.refused[1].partition(":")
    assert prefix == "0007"
    (entry,) = ask(parties, f"NTRSE-{number}", country="SE").json()["institutions"]
    told = entry["dataset"]["lastRun"]
    outcome = nights.second[parties.refused]

    assert (entry["financialInstitutionID"], entry["providerID"]) == parties.refused
    assert (told["status"], told["violations"]) == ("refused", outcome["violations"])
    assert entry["dataset"]["lastAccepted"] is not None


def test_a_stranger_reads_what_its_certificate_names(parties) -> None:
    """403 with the organisation that we read; without one, 401."""
    stranger = ask(parties, "810034882")
    assert stranger.status_code == 403
    assert "NTRNO-810034882" in stranger.json()["errorMessage"]
    assert ask(parties, None).status_code == 401
