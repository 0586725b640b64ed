"""A lender's lookup: who may, what is on record before anything is told, and what is told (design decision 11)."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.lookup_world import (
    BANK,
    KEY,
    KEYS,
    NOW,
    OTHER_BANK,
    PARTNER,
    PERSON,
    THIRD_BANK,
    LookupWorld,
    bank,
    loan,
    provider_of,
    server,
)

from gjeldsbro.domain.loans import ChargeCard, CreditFacility
from gjeldsbro.domain.search_messages import PURPOSES, SearchRequest, SearchResponse, parse_search
from gjeldsbro.errors import InstitutionUnavailableError, NotEntitledError, StoreUnavailableError
from gjeldsbro.services.debt_lookup import DebtLookup, LookupNotice, NothingFound
from gjeldsbro.services.lookup_records import AskedCreditor, LookupRecord
from gjeldsbro.services.ports import Lender

LENDER, CLIENT = "971171324", "983544622"
ORGANISATION = f"NTRNO-{LENDER}"
LOOKUP_ID = "6f1c1f0e-4f3f-4f67-9b53-1d0a3c8f2a11"
AT = "2026-11-22T12:00:00.0000000Z"
DOWN = InstitutionUnavailableError("no answer in time")
CARD = ChargeCard("4003", AT, "Kortet", 0, 12500, 1)
FACILITY = CreditFacility("4002", AT, "Kreditten", 10000000, 500000, 0, 800, 5000, 2)


class Ledger:
    """Takes records and announcements, and notes the order; fails where it is told to."""

    def __init__(self, order: list[str]) -> None:
        self.order = order
        self.records: list[LookupRecord] = []
        self.notices: list[LookupNotice] = []
        self.broken = ""

    def _note(self, what: str) -> None:
        self.order.append(what)
        if self.broken == what:
            raise StoreUnavailableError("throttled")

    def prepare(self, lookup_id: str, customer_ids: Any) -> None:
        """As the bus does."""
        self._note("prepare")
        self.prepared = (lookup_id, tuple(customer_ids))

    def record(self, records: Any) -> None:
        """As the table does."""
        self._note("record")
        self.records += records

    def announce(self, notices: Any) -> None:
        """As the bus does."""
        self._note("announce")
        self.notices += notices


class LenderWorld(LookupWorld):
    """A world with a lender that looks people up in it."""

    def __init__(self, *institutions: Any, **values: Any) -> None:
        super().__init__(*institutions, **values)
        self.partners.registered = [Lender(LENDER, "Lånebanken AS", (CLIENT,), PURPOSES)]
        self.ledger = Ledger(self.order)
        self.lookup = DebtLookup(self.partners, self.debt, self.ledger, self.ledger, KEYS, self.clock)

    def look_up(
        self,
        *co_borrowers: str,
        organisation: str = ORGANISATION,
        now: datetime = NOW,
        seconds: float = 20,
        **fields: Any,
    ) -> SearchResponse | NothingFound:
        """Look the person up."""
        return self.lookup.look_up(
            request(*co_borrowers, **fields),
            organisation,
            lookup_id=LOOKUP_ID,
            now=now,
            deadline=self.clock() + seconds,
        )

    def told(self, *co_borrowers: str, **values: Any) -> dict[str, Any]:
        """What the lender is told, as JSON."""
        answer = self.look_up(*co_borrowers, **values)
        assert isinstance(answer, SearchResponse)
        body: dict[str, Any] = json.loads(answer.model_dump_json())
        jsonschema.validate(body, SearchResponse.model_json_schema(mode="serialization"))
        return body


def request(*co_borrowers: str, ssn: str = PERSON, **fields: Any) -> SearchRequest:
    """A lender's request."""
    others = [{"ssn": number} for number in co_borrowers]
    message = {"ssn": ssn, "referenceID": "SAK-1", "coBorrowers": others, **fields}
    return parse_search(json.dumps(message).encode(), accepts="synthetic")


def two_creditors() -> LenderWorld:
    """One creditor that answers and one that does not, of which a loan is stored."""
    world = LenderWorld(bank(), bank(OTHER_BANK))
    world.store(loan(100))
    world.store(CARD, of=OTHER_BANK)
    world.answers(loan(50), FACILITY)
    world.does(DOWN, of=OTHER_BANK)
    return world


# Who may


def test_who_is_no_lender_gets_nothing():
    """Providers and strangers are refused before anything is read, recorded or asked."""
    world = two_creditors()
    with pytest.raises(NotEntitledError, match="not registered as a lender"):
        world.look_up(organisation=f"NTRNO-{BANK}")
    assert world.order == []
    assert world.servers.asked == []


@pytest.mark.parametrize("on_behalf_of", [None, LENDER, CLIENT])
def test_a_lender_acts_for_itself_and_for_those_that_it_is_registered_for(on_behalf_of):
    """Naming itself is the same as naming nobody."""
    world = two_creditors()
    world.told(onBehalfOfOrganization=on_behalf_of)
    (record,), (notice,) = world.ledger.records, world.ledger.notices
    expected = CLIENT if on_behalf_of == CLIENT else None
    assert (record.lender, record.on_behalf_of) == (notice.lender, notice.on_behalf_of) == (LENDER, expected)


def test_a_lender_does_not_act_for_others():
    """An organisation that nobody registered for the lender is refused, whoever it is."""
    world = two_creditors()
    with pytest.raises(NotEntitledError, match=r"^/onBehalfOfOrganization: "):
        world.look_up(onBehalfOfOrganization=BANK)
    assert world.order == []


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_purpose_must_be_registered(purpose):
    """Also the purpose that is meant when none is given."""
    world = two_creditors()
    others = tuple(other for other in PURPOSES if other != purpose)
    world.partners.registered = [Lender(LENDER, "Lånebanken AS", (), others)]
    fields = {} if purpose == "creditApplication" else {"purpose": purpose}
    with pytest.raises(NotEntitledError, match=r"^/purpose: "):
        world.look_up(**fields)
    assert world.order == []
    world.partners.registered = [Lender(LENDER, "Lånebanken AS", (), (purpose,))]
    world.told(purpose=purpose)
    assert world.ledger.records[0].purpose == purpose


def test_a_certificate_may_name_several_lenders():
    """A service provider's certificate may stand for more than one: the one that may make the request makes it."""
    world = two_creditors()
    world.partners.registered = [
        Lender(CLIENT, "Annen bank AS", (), ("startLoan",), (ORGANISATION,)),
        Lender(LENDER, "Lånebanken AS", (), ("payoutControl",)),
    ]
    world.told(purpose="payoutControl")
    world.told(purpose="startLoan")
    assert [record.lender for record in world.ledger.records] == [LENDER, CLIENT]


# On record first


@pytest.mark.parametrize("broken", ["record", "announce"])
def test_nothing_is_told_that_is_not_on_record_and_announced(broken):
    """If either fails the lookup fails; nothing is announced that is not recorded."""
    world = two_creditors()
    world.ledger.broken = broken
    with pytest.raises(StoreUnavailableError):
        world.look_up(PARTNER)
    assert world.order == ["prepare", "times", "items", "record", "announce"][: 4 if broken == "record" else 5]
    assert world.ledger.prepared == (LOOKUP_ID, (PERSON, PARTNER))
    assert len(world.ledger.records) == (0 if broken == "record" else 2)
    assert world.ledger.notices == []


def test_the_record_of_a_lookup():
    """When, who, for whom, reference, purpose and which creditors answered; keyed like the register, no debt."""
    world = two_creditors()
    world.told(onBehalfOfOrganization=CLIENT, purpose="payoutControl")
    assert world.ledger.records == [
        LookupRecord(
            customer=KEY.partition_of(PERSON),
            lookup_id=LOOKUP_ID,
            at=AT,
            lender=LENDER,
            on_behalf_of=CLIENT,
            reference="SAK-1",
            purpose="payoutControl",
            role="applicant",
            creditors=(AskedCreditor(BANK, True, "institution"), AskedCreditor(OTHER_BANK, False, "register")),
        )
    ]


def test_the_notice_of_a_lookup():
    """What a notification service needs; a bureau's own assessment needs no notice of ours."""
    world = two_creditors()
    for purpose in PURPOSES:
        world.told(messageToCustomer="Hei", purpose=purpose)
    assert world.ledger.notices[0] == LookupNotice(
        customer_id=PERSON,
        lookup_id=LOOKUP_ID,
        at=AT,
        lender=LENDER,
        lender_name="Lånebanken AS",
        on_behalf_of=None,
        reference="SAK-1",
        purpose="creditApplication",
        message="Hei",
        notice_required=True,
    )
    required = {notice.purpose: notice.notice_required for notice in world.ledger.notices}
    assert required == {purpose: purpose != "creditAssessment" for purpose in PURPOSES}


def test_a_lookup_that_finds_nothing_is_on_record_too():
    """That somebody has no debt is told, so it is recorded and announced."""
    world = LenderWorld(bank())
    assert world.look_up(PARTNER) == NothingFound(LOOKUP_ID)
    assert [(record.role, record.creditors) for record in world.ledger.records] == [
        ("applicant", ()),
        ("coBorrower", ()),
    ]
    assert [notice.customer_id for notice in world.ledger.notices] == [PERSON, PARTNER]


def test_a_register_that_fails_tells_and_records_nothing():
    """Without the register there is no lookup."""
    world = two_creditors()
    world.register.items_of_many = lambda keys: (_ for _ in ()).throw(StoreUnavailableError("throttled"))
    with pytest.raises(StoreUnavailableError):
        world.look_up()
    assert world.ledger.records == []


# How long


@pytest.mark.parametrize(
    ("fields", "seconds", "expected"),
    [({}, 20, 3), ({"maxTimeToWait": 60000}, 20, 20), ({"maxTimeToWait": "1000"}, 20, 1), ({}, 2, 2)],
)
def test_institutions_have_the_time_that_the_lender_gives_them(fields, seconds, expected):
    """Three seconds unless told, and never longer than the lender's own connection lasts."""
    world = two_creditors()
    world.told(seconds=seconds, **fields)
    assert world.servers.deadlines == {world.clock() + expected}


# What is told


def test_an_answer():
    """Loans without names, each with its source; creditors without names; and how many answered."""
    world = two_creditors()
    body = world.told()
    assert {name: value for name, value in body.items() if name != "loans"} == {
        "timestamp": "2026-11-22T12:00:00Z",
        "uuid": LOOKUP_ID,
        "referenceID": "SAK-1",
        "ssn": PERSON,
        "creditors": [
            {"answered": True, "source": "institution", "numberOfLoans": 2},
            {"answered": False, "source": "register", "numberOfLoans": 1},
        ],
        "numberOfCreditorsAnswered": 1,
        "numberOfcreditorsMissing": 1,
    }
    loans = {entry["loan"].pop("type"): (entry["source"], entry["loan"]) for entry in body["loans"]}
    common = {"timestamp": "2026-11-22T12:00:00Z", "installmentCharges": "0", "installmentChargePeriod": "MONTHLY"}
    for _, shown in loans.values():
        assert len(shown.pop("accountID")) == 24
    assert loans == {
        "repaymentLoan": (
            "institution",
            common
            | {
                "originalBalance": "1000",
                "balance": "50",
                "terms": "12",
                "nominalInterestRate": "1020",
                "coBorrower": "0",
            },
        ),
        "creditFacility": (
            "institution",
            common
            | {
                "creditLimit": "10000000",
                "interestBearingBalance": "500000",
                "nonInterestBearingBalance": "0",
                "nominalInterestRate": "800",
                "installmentCharges": "5000",
                "coBorrower": "2",
            },
        ),
        "chargeCard": (
            "register",
            {
                "timestamp": "2026-11-22T12:00:00Z",
                "interestBearingBalance": "0",
                "nonInterestBearingBalance": "12500",
                "coBorrower": "1",
            },
        ),
    }


def test_a_creditor_whose_loans_are_not_known_is_a_loan_that_is_null():
    """The lender must know that something is missing; the null comes last, wherever the creditor stands."""
    world = LenderWorld(bank(lookup="live"), bank(OTHER_BANK))
    world.store()
    world.store(CARD, of=OTHER_BANK)
    world.does(DOWN)
    world.answers(CARD, of=OTHER_BANK)
    body = world.told()
    assert [entry["source"] for entry in body["loans"]] == ["institution", "none"]
    assert body["loans"][1]["loan"] is None
    assert body["creditors"] == [
        {"answered": True, "source": "institution", "numberOfLoans": 1},
        {"answered": False, "source": "none", "numberOfLoans": 0},
    ]
    assert (body["numberOfCreditorsAnswered"], body["numberOfcreditorsMissing"]) == (1, 1)


def test_an_institution_that_has_nothing_is_not_a_creditor():
    """That it was asked would tell that there was debt: it is on the person's record and not in the answer."""
    world = LenderWorld(bank(), bank(OTHER_BANK))
    world.store(loan(100))
    world.store(CARD, of=OTHER_BANK)
    world.answers()
    world.answers(CARD, of=OTHER_BANK)
    assert world.told()["creditors"] == [{"answered": True, "source": "institution", "numberOfLoans": 1}]
    assert len(world.ledger.records[0].creditors) == 2
    world.answers(of=OTHER_BANK)
    assert isinstance(world.look_up(), NothingFound)


def test_a_missing_creditor_is_told_even_if_nothing_is_known_of_it():
    """The register says repaid, the institution says nothing: that is not the same as no debt."""
    world = LenderWorld(bank())
    world.store(loan(100))
    world.push(loan(0, tick=9))
    world.does(DOWN)
    body = world.told()
    assert body["loans"] == []
    assert body["creditors"] == [{"answered": False, "source": "register", "numberOfLoans": 0}]


def test_co_borrowers_are_told_apart_and_in_their_order():
    """Each person's debt under the number that the lender sent; without co-borrowers there is no word of any."""
    world = two_creditors()
    world.store(CARD, of=OTHER_BANK, person=PARTNER)
    body = world.told(PARTNER)
    (partner,) = body["coBorrowers"]
    assert partner["ssn"] == PARTNER
    assert [entry["loan"]["type"] for entry in partner["loans"]] == ["chargeCard"]
    assert (partner["numberOfCreditorsAnswered"], partner["numberOfcreditorsMissing"]) == (0, 1)
    assert [(record.customer, record.role) for record in world.ledger.records] == [
        (KEY.partition_of(PERSON), "applicant"),
        (KEY.partition_of(PARTNER), "coBorrower"),
    ]
    assert "coBorrowers" not in world.told()


def test_one_persons_debt_is_enough_for_an_answer():
    """204 is for nothing at all: a person without debt has empty arrays beside one with debt."""
    world = LenderWorld(bank())
    world.store(loan(100), person=PARTNER)
    world.answers(loan(100))
    body = world.told(PARTNER)
    assert (body["loans"], body["creditors"], body["numberOfCreditorsAnswered"]) == ([], [], 0)
    assert len(body["coBorrowers"][0]["loans"]) == 1


def account_ids(world: LenderWorld, **values: Any) -> list[str]:
    """The account ids of the answer about one person."""
    return [entry["loan"]["accountID"] for entry in world.told(**values)["loans"]]


def test_borrowers_of_one_account_are_not_linked():
    """The same account at the same institution has another id for each of its borrowers."""
    world = LenderWorld(bank())
    for person in (PERSON, PARTNER):
        world.store(loan(100), person=person)
    world.answers(loan(100))
    body = world.told(PARTNER)
    first, second = body["loans"], body["coBorrowers"][0]["loans"]
    assert first[0]["loan"].pop("accountID") != second[0]["loan"].pop("accountID")
    assert first == second


def test_an_account_id_lasts_a_quarter_and_is_one_lenders():
    """The same loan has the same id for the same lender in the same quarter, and another one otherwise."""
    world = two_creditors()
    ids = account_ids(world)
    assert account_ids(world, now=NOW + timedelta(days=30)) == ids
    for other in ({"now": datetime(2027, 1, 1, tzinfo=UTC)}, {"onBehalfOfOrganization": CLIENT}):
        assert not set(ids) & set(account_ids(world, **other))


NAMES = (BANK, OTHER_BANK, THIRD_BANK, "0007:5567890123")
LOANS = st.lists(
    st.builds(loan, st.integers(1, 3), st.sampled_from("abc"), st.integers(1, 4), st.integers(0, 2)),
    max_size=3,
    unique_by=lambda drawn: drawn.account_id,
)
CREDITORS = st.tuples(st.sampled_from(["live", "both", "stored"]), LOANS, st.sampled_from([LOANS, None]))


@st.composite
def creditors(draw: Any) -> list[tuple[str, list[Any], Any]]:
    """For each of some institutions its mode, what is stored, and what it answers (None: it is down)."""
    drawn = draw(st.lists(CREDITORS, min_size=1, max_size=4))
    return [(mode, stored, None if answer is None else draw(answer)) for mode, stored, answer in drawn]


def world_of(plan: list[tuple[str, list[Any], Any]], names: tuple[str, ...]) -> LenderWorld:
    """A world in which institutions with these names do that; two persons owe the same."""
    world = LenderWorld(*(bank(name, lookup=mode) for name, (mode, _, _) in zip(names, plan, strict=False)))
    for name, (_, stored, answer) in zip(names, plan, strict=False):
        for person in (PERSON, PARTNER):
            world.store(*stored, of=name, person=person)
        world.does(DOWN if answer is None else tuple(answer), of=name)
    return world


def without_ids(person: dict[str, Any]) -> dict[str, Any]:
    """A person's debt without what the account ids decide: the ids and the order of the loans."""
    loans = [
        (
            entry["source"],
            sorted((entry["loan"] or {}).items() - {("accountID", (entry["loan"] or {}).get("accountID"))}),
        )
        for entry in person["loans"]
    ]
    return {**person, "ssn": "", "loans": sorted(loans)}


@given(creditors(), st.permutations(NAMES))
def test_an_answer_does_not_depend_on_who_the_creditors_are(plan, names):
    """Other names, in any order: the same answer but for account ids. And no answer holds what it must not."""
    answers = [world_of(plan, order).look_up(PARTNER) for order in (NAMES, tuple(names))]
    if isinstance(answers[0], NothingFound):
        assert answers[1] == answers[0]
        return
    bodies = [json.loads(answer.model_dump_json()) for answer in answers]
    persons = [[body, body.pop("coBorrowers")[0]] for body in bodies]
    for first, second in zip(*persons, strict=True):
        assert without_ids(first) == without_ids(second)
    for body, partner in persons:
        for hidden in (*NAMES, *(provider_of(name) for name in NAMES), "accountName", "Forbrukslån", "5569622441"):
            assert hidden not in json.dumps([body, partner], ensure_ascii=False)
        loans = [entry["loan"] for entry in body["loans"]]
        ids = [shown["accountID"] for shown in loans if shown is not None]
        assert ids == sorted(set(ids))
        assert loans[len(ids) :] == [None] * (len(loans) - len(ids))
        assert {shown["timestamp"] for shown in loans if shown} <= {"2026-11-22T12:00:00Z"}
        assert not set(ids) & {entry["loan"]["accountID"] for entry in partner["loans"] if entry["loan"]}
        assert body["numberOfCreditorsAnswered"] + body["numberOfcreditorsMissing"] == len(body["creditors"])
        assert sum(entry["numberOfLoans"] for entry in body["creditors"]) == len(ids)


@pytest.mark.parametrize(("mode", "second"), [("both", "register"), ("live", "none")])
def test_each_loan_says_where_it_comes_from(mode, second):
    """One of an institution's two providers is down: the creditor has not answered, yet one loan is its own word."""
    world = LenderWorld(bank(BANK, server(BANK), server(BANK, 1), lookup=mode))
    world.store(FACILITY)
    world.store(CARD, number=1)
    world.answers(FACILITY)
    world.does(DOWN, number=1)
    body = world.told()
    assert sorted(entry["source"] for entry in body["loans"]) == ["institution", second]
    expected = 2 if mode == "both" else 1
    assert body["creditors"] == [{"answered": False, "source": second, "numberOfLoans": expected}]
