"""The demo's lookup: a lender looks a person up at three institutions, one of which is down."""

import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import requests
from rich.table import Table

from gjeldsbro_population.expectation import disclosed, packaged
from gjeldsbro_population.population import Population

if TYPE_CHECKING:
    from gjeldsbro_local.demo import Demo

LENDER, STRANGER = "985815534", "983544622"
SEARCH = "/debt-search/v1/search"
REFERENCE = "application 2026-117"
LATER_PERCENT = 60
"""So much of the population changes after the night: what institutions answer must differ from what is stored."""

_NIGHTS = range(3, 23)


def look_up(demo: "Demo") -> None:
    """A lookup, what became of it on the person's record, and who is told nothing."""
    demo.step("Lookup by a lender")
    demo.put("lender", LENDER, "Långiverbanken AS")
    pushed = {customer["customerID"] for message in demo.accepted for customer in message["customers"]}
    person, institutions, later = somebody_in_debt(demo.second_night, but=pushed, not_at=demo.refused[0])
    down = institutions[-1]
    demo.simulator.serve(later)
    demo.simulator.behave()
    demo.simulator.misbehave(down, "status:503")
    demo.say(f"{down} is down, and what the others say has changed since the night")
    request = {"ssn": person, "referenceID": REFERENCE, "maxTimeToWait": 5000, "messageToCustomer": "Søknad om lån"}
    answer = search(demo, request, LENDER)
    demo.check("a registered lender is answered with 200", answer.status_code == 200)
    found = answer.json()
    _show(demo, found)
    expected = demo.second_night.expected_lookup(person, live=later, down=[down])
    demo.check(
        "two institutions' loans are as they say now, those of the one that is down as the register has them",
        disclosed(found["loans"]) == expected,
    )
    counts = (found["numberOfCreditorsAnswered"], found["numberOfcreditorsMissing"])
    demo.check("the answer says that two creditors answered and one did not", counts == (2, 1))
    text = json.dumps(found)
    named = [one for institution in institutions for one in (institution, institution.rpartition(":")[2])]
    accounts = [loan["accountID"] for loans in later.expected_loans(person).values() for loan in loans]
    demo.check("it names no creditor and no account", not any(value in text for value in (*named, *accounts)))
    _record(demo, person, institutions, down)
    forged = {"X-SSL-Client-S-DN": f"organizationIdentifier=NTRNO-{LENDER}", "X-Client-Cert": f"NTRNO-{LENDER}"}
    for what, headers in (
        ("another organisation", {}),
        ("another organisation, with the lender's name forged", forged),
    ):
        refused = search(demo, request, STRANGER, headers)
        body = refused.json()
        demo.say(f"  {what}: {refused.status_code} {body['errorMessage']}")
        demo.check(f"{what} is told nothing", refused.status_code == 403 and "loans" not in body)
    demo.simulator.behave()


class InDebt(NamedTuple):
    """Somebody to look up: the person, the institutions where there is debt, and the population that they serve now."""

    person: str
    institutions: list[str]
    later: Population


def somebody_in_debt(stored: Population, *, but: Collection[str], not_at: str, at: str | None = None) -> InDebt:
    """A person with debt at three institutions, which has changed at each of them since ``stored``.

    Of institutions that have one provider each, one of them ``at``, and not the one whose last dataset was refused;
    nobody of ``but``.
    """
    simple = {one.institution for one in stored.institutions if len(one.providers) == 1} - {not_at}
    known = {person: stored.expected_loans(person) for person in stored.customer_ids if person not in but}
    candidates = {
        person: loans
        for person, loans in known.items()
        if len(loans) == 3 and loans.keys() <= simple and at in {None, *loans}
    }
    for night in _NIGHTS:
        # What is extracted has timestamps of the hour that follows, and none may be from the future.
        later = stored.changed(night, LATER_PERCENT, extracted_at=datetime.now(UTC) - timedelta(hours=1))
        for person, before in candidates.items():
            now = later.expected_loans(person)
            if all(packaged(now.get(one, [])) not in ([], packaged(loans)) for one, loans in before.items()):
                return InDebt(person, list(before), later)
    raise ValueError("the population has nobody of that kind")


def search(demo: "Demo", request: dict[str, Any], owner: str, headers: dict[str, str] | None = None) -> Any:
    """Look somebody up through the gateway with a certificate of ``owner``."""
    files = demo.stack.client_ca.issue_client(owner).write(demo.directory, f"client-{owner}")
    with requests.Session() as session:
        session.trust_env = False
        return session.post(
            f"{demo.stack.gateway_url}{SEARCH}",
            json=request,
            headers=headers,
            cert=(str(files.cert_file), str(files.key_file)),
            verify=str(demo.stack.gateway_ca_file),
            timeout=60,
        )


def _show(demo: "Demo", found: dict[str, Any]) -> None:
    table = Table("Source", "Type", "Account", "Limit or original", "Balance")
    for entry in found["loans"]:
        loan = entry["loan"] or {}
        names = ("balance", "interestBearingBalance", "nonInterestBearingBalance")
        balance = sum(int(loan.get(name, 0)) for name in names)
        limit = loan.get("creditLimit") or loan.get("originalBalance")
        table.add_row(entry["source"], loan.get("type"), loan.get("accountID"), str(limit or ""), str(balance))
    demo.console.print(table)


def _record(demo: "Demo", person: str, institutions: list[str], down: str) -> None:
    """The person's record, as an operator sees it."""
    told = demo.gjeldsbro("lookups", person, "--reason", "demo")["lookups"]
    demo.check("the lookup is on the person's record", [one["referenceID"] for one in told] == [REFERENCE])
    asked = {creditor["institution"]: (creditor["answered"], creditor["source"]) for creditor in told[0]["creditors"]}
    wanted = dict.fromkeys(institutions, (True, "institution")) | {down: (False, "register")}
    demo.check("with who asked, and which creditors answered", (told[0]["lender"], asked) == (LENDER, wanted))
