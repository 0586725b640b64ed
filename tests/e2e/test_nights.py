"""Nightly fetches on the deployed stack, against institutions over HTTPS."""

import time

import pytest


def test_the_first_night_loads_every_dataset(parties, nights) -> None:
    """Paged, deflated, with integers, two providers, a foreign institution: all of it is in the register."""
    assert nights.first.keys() == set(parties.first_night.datasets)
    for (institution, provider), outcome in nights.first.items():
        assert outcome["status"] == "loaded"
        if (institution, provider) != parties.asked:
            assert outcome["customers"] == parties.first_night.count_with_loans(institution, provider)


def test_of_an_institution_that_is_always_asked_only_its_customers_are_fetched(parties, nights) -> None:
    """The register is an index of it (SPEC 4.5): all its customers, and no loan."""
    institution, provider = parties.asked
    outcome = nights.second[parties.asked]
    assert (outcome["status"], outcome["dataset"]) in {("loaded", "ssn"), ("unchanged", "ssn")}
    assert outcome["customers"] == parties.second_night.count(institution, provider)
    paths = {request.path.partition("/debt-information/v1")[2] for request in parties.simulator.requests}
    assert f"/ssn/{institution}" in paths
    assert f"/loans/{institution}" not in paths


def test_the_second_night_writes_what_changed(parties, nights) -> None:
    """Added, changed, removed and unchanged are exactly the population's."""
    for dataset, changes in parties.second_night.changes.items():
        if dataset in {parties.refused, parties.asked}:
            continue
        outcome = nights.second[dataset]
        found = tuple(outcome[name] for name in ("added", "changed", "removed", "unchanged"))
        assert found == (changes.added, changes.changed, changes.removed, changes.unchanged)


def test_a_dataset_is_refused_as_a_whole(parties, nights) -> None:
    """One negative amount refuses the dataset; the reason names the place and the rule, and nobody's number."""
    outcome = nights.second[parties.refused]
    assert outcome["status"] == "refused"
    assert "/customers/" in outcome["reason"]
    assert not [number for number in parties.first_night.customer_ids if number in outcome["reason"]]


def test_working_files_are_gone(parties, nights, exported) -> None:
    """Pages, lists, numbers and slices are deleted when their run ends; an index per dataset stays."""
    pages = parties.stack.client("s3").get_paginator("list_objects_v2")
    keys = [
        entry["Key"]
        for page in pages.paginate(Bucket=parties.stack.outputs["DataBucketName"])
        for entry in page.get("Contents", ())
    ]
    ended = [next(iter(night.values()))["run"] for night in (nights.first, nights.second)] + [exported.told["run"]]
    left = [key for key in keys if any(run in key for run in ended)]
    assert {key.partition("/")[0] for key in left} == {"index"}
    assert len([key for key in keys if key.startswith("index/")]) == len(parties.first_night.datasets)


def test_each_run_has_its_report_as_a_page(parties, nights, exported) -> None:
    """Beside the JSON; what was refused stands on it with place and rule, and how it was a night before in pictures."""
    s3, bucket = parties.stack.client("s3"), parties.stack.outputs["ReportBucketName"]
    keys = {entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    second = nights.second[parties.refused]["run"]
    for name in (f"nightly/{second}", f"export/{exported.told['run']}"):
        assert {f"{name}.json", f"{name}.html"} <= keys
    page = s3.get_object(Bucket=bucket, Key=f"nightly/{second}.html")["Body"].read().decode()
    assert "must " in page
    assert nights.second[parties.refused]["violations"][0]["place"] in page
    assert "<svg" in page


def test_our_certificate_opens_the_institutions_doors(parties, nights) -> None:
    """The simulated institutions demand a client certificate: that anything was fetched shows that ours was used."""
    assert parties.simulator.origin.startswith("https://")
    assert [request.status for request in parties.simulator.requests].count(200) > len(parties.first_night.datasets)


def test_an_institution_that_is_down_fails_alone(parties, unavailable, exported) -> None:
    """503 for as long as we ask: the dataset fails under the name of our error, which the flow retried and caught."""
    states = parties.stack.client("stepfunctions")
    deadline = time.monotonic() + 180
    while (found := states.describe_execution(executionArn=unavailable["executionArn"])["status"]) == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    (outcome,) = parties.gjeldsbro("nightly", "status", "--run", unavailable["run"])["datasets"]
    assert found == "SUCCEEDED"
    assert (outcome["status"], outcome["error"]) == ("failed", "InstitutionUnavailableError")
    asked = [request for request in parties.simulator.requests if request.status == 503]
    assert len(asked) > 3, "the flow asks again after the function has given up"


def test_an_institution_that_shrinks_is_held_and_released(parties, nights, exported) -> None:
    """A dataset far smaller than the last one waits for an operator, who fetches it again without the hold."""
    institution, provider = parties.first_night.datasets[0]
    assert parties.first_night.count_with_loans(institution, provider) >= 100, "smaller ones are exempt"
    parties.simulator.misbehave(institution, "shrink", provider)
    try:
        told = parties.gjeldsbro("nightly", "run", "--institution", institution, "--wait", status=1)
        assert [outcome["status"] for outcome in told["datasets"]] == ["held"]
    finally:
        parties.simulator.behave(institution, provider)
    told = parties.gjeldsbro("nightly", "release", institution, "--wait")
    assert [outcome["status"] for outcome in told["datasets"]] == ["unchanged"]


@pytest.mark.parametrize("position", [0, 57, 233])
def test_a_person_is_shown_as_the_population_says(parties, exported, position: int) -> None:
    """show-customer gives the loans that count, per institution, pushes included."""
    number = parties.second_night.customer_ids[position]
    expected = parties.second_night.expected_loans(number, pushed=parties.accepted, instead=parties.instead)
    told = parties.gjeldsbro("show-customer", number, "--reason", "access request")
    found = {one["financialInstitutionID"]: len(one["loans"]) for one in told["institutions"] if one["loans"]}
    named = [one["financialInstitutionID"] for one in told["institutions"] if one["indexOnly"]]
    institution, provider = parties.asked
    assert found == {name: len(loans) for name, loans in expected.items() if name != institution}
    assert named == ([institution] if parties.second_night.customer(institution, provider, number) else [])


def test_looking_somebody_up_leaves_a_trail(parties, shown) -> None:
    """Who looked, when and why is recorded; whom, only as a reference."""
    (entry,) = [one for one in shown["trail"] if one.get("reason") == "inquiry 17"]
    assert entry["action"] == "show-customer"
    assert parties.second_night.customer_ids[3] not in str(entry)
