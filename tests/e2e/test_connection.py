"""The connection check through the gateway, after two nights and some pushes."""

BANK = "920013015"
CONNECTION = "/debt-information/v1/connection"


def ask(parties, organisation: str | None):
    """The answer to an organisation's connection check."""
    return parties.call("GET", CONNECTION, certificate=parties.certificate(organisation))


def test_a_provider_sees_its_own_deliveries(parties, nights, pushed) -> None:
    """When its dataset was accepted and when it last pushed, of its own institutions only."""
    answer = ask(parties, BANK)
    body = answer.json()

    assert answer.status_code == 200
    assert body["organisation"] == f"NTRNO-{BANK}"
    assert [one["financialInstitutionID"] for one in body["institutions"]] == [BANK]
    (entry,) = body["institutions"]
    assert entry["lastPush"][:10] == body["timestamp"][:10]
    assert entry["dataset"]["lastAccepted"] is not None
    assert entry["dataset"]["lastRun"]["status"] == "loaded"


def test_a_stranger_reads_what_its_certificate_names(parties) -> None:
    """403 with the organisation that we read; without one, 401."""
    stranger = ask(parties, "810034882")
    assert stranger.status_code == 403
    assert "NTRNO-810034882" in stranger.json()["errorMessage"]
    assert ask(parties, None).status_code == 401
