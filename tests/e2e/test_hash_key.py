"""A rotation of the hash key on the deployed stack, at the end of the story: what is seen before, during and after."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

FUNCTIONS = ("ReceivePush", "SearchDebt", "ShowCustomer", "ShowLookups", "FetchPages", "BuildSlice")
REASON = "trying a rotation"
LONG_AGO = "2026-01-01T00:00:00Z"


def put_into_force(stack) -> None:
    """As if the half hour had passed: the newest key is in force, and functions have read it."""
    secrets, name = stack.client("secretsmanager"), stack.outputs["HashKeySecretName"]
    keys = json.loads(secrets.get_secret_value(SecretId=name)["SecretString"])
    keys["keys"][-1]["from"] = LONG_AGO
    secrets.put_secret_value(SecretId=name, SecretString=json.dumps(keys))
    names, functions = stack.resources(), stack.client("lambda")
    for function in FUNCTIONS:
        name = names[f"{function}Function"]
        memory = functions.get_function_configuration(FunctionName=name)["MemorySize"]
        functions.update_function_configuration(FunctionName=name, MemorySize=memory)  # which ends its processes


@dataclass
class Rotated:
    """What operators were told and shown, before, during and after."""

    told: dict[str, Any]
    night: dict[str, Any]
    statuses: list[list[dict[str, Any]]]
    seen: list[Any]


@pytest.fixture(scope="module")
def rotated(parties, answers) -> Rotated:
    """A rotation: one institution has its next night, and one provider pushes again what it pushed before."""
    message = json.loads(json.dumps(parties.accepted[0]))
    institution, provider = parties.first_night.datasets[3]
    customers = [customer["customerID"] for customer in parties.second_night.customers(institution, provider, 0, 2)]
    pushed = [customer["customerID"] for customer in message["customers"]][:2]

    def look() -> Any:
        found = [parties.gjeldsbro("show-customer", person, "--reason", REASON) for person in customers + pushed]
        loans = [one["loans"] for shown in found for one in shown["institutions"]]
        return [{**loan, "timestamp": None, "source": None} for of_one in loans for loan in of_one]

    def status() -> list[dict[str, Any]]:
        return parties.gjeldsbro("hash-key", "status")["keys"]

    seen, statuses = [look()], [status()]
    told = parties.gjeldsbro("hash-key", "rotate", "--reason", REASON)
    seen.append(look())
    statuses.append(status())
    put_into_force(parties.stack)
    seen.append(look())
    night = parties.gjeldsbro("nightly", "run", "--institution", institution, "--wait")["datasets"]
    seen.append(look())
    now = datetime.now(UTC).isoformat()
    for customer in message["customers"]:
        customer["loans"] = [{**loan, "timestamp": now} for loan in customer["loans"]]
    assert parties.push(message).status_code == 200
    seen.append(look())
    statuses.append(status())
    parties.gjeldsbro("hash-key", "finish", "--reason", REASON, status=1)
    return Rotated(told, night[0], statuses, seen)


def test_nobody_sees_less_at_any_step_of_a_rotation(parties, rotated) -> None:
    """The same debts before it, with a key to come, in force, after the dataset's move, and after pushes under it."""
    assert rotated.seen[0]
    for later in rotated.seen[1:]:
        assert later == rotated.seen[0]


def test_a_dataset_and_pushes_move_to_the_new_key(parties, rotated) -> None:
    """The status says what lies under which version; nothing else has moved, so the old key is not retired."""
    first, coming, last = rotated.statuses
    assert [key["state"] for key in first] == ["current"]
    assert [key["state"] for key in coming] == ["current", "coming"]
    assert (rotated.night["status"], rotated.night["rekeyed"]) == ("loaded", True)
    old, new = last
    assert (old["state"], new["state"]) == ("old", "current")
    subject = "#".join(parties.first_night.datasets[3])
    assert (subject in old["datasets"], subject in new["datasets"]) == (False, True)
    assert sum(new["pushes"].values()) > 0


def test_a_lookup_is_recorded_under_the_new_key_and_shown_with_those_under_the_old(parties, rotated, looked_up) -> None:
    """A person's record is whole, whatever key its parts were made with."""
    asked = {"ssn": looked_up.person, "referenceID": "after the rotation", "purpose": "changeOfTerms"}
    answer = parties.search({**asked, "maxTimeToWait": 10000})
    assert answer.status_code == 200, answer.text
    shown = parties.gjeldsbro("lookups", looked_up.person, "--reason", REASON)["lookups"]
    references = [one["referenceID"] for one in shown]
    assert {"after the rotation", looked_up.record["lookups"][-1]["referenceID"]} <= set(references)


def test_each_step_of_a_rotation_is_on_the_trail_and_nobody_sees_a_key(parties, rotated) -> None:
    """Who, when and why; what was refused was not done, and is not there."""
    trail = parties.gjeldsbro("trail")["trail"]
    found = [(one["action"], one["subject"]) for one in trail if one["action"].startswith("hash-key")]
    assert found == [("hash-key rotate", "hash key 2")]
    assert set(rotated.told) == {"version", "from"}
