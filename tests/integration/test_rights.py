"""Who may report what: SPEC appendix C, example by example, through the push function on moto.

The parties: a bank that reports its own loans, its group's other banks, a service provider, and a Swedish bank.
"""

import json
from types import SimpleNamespace
from uuid import uuid4

import pytest
from functions.receive_push import receive_push
from tests.client_certificates import certificate, request, seid_2
from tests.register_reader import loans_shown
from tests.spec_messages import CHARGE_CARD, CREDIT_FACILITY, CUSTOMER, OTHER_CUSTOMER, REPAYMENT_LOAN, customer

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.register import Register
from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.services.ports import Institution, Provider

BANK = "920013015"
FIRST, SECOND = "985815534", "983544622"
SERVICE = "810034882"
SWEDISH = "0007:5569622441"
KEY = HashKey("1", b"k" * 64)
NOT_YOU = "/providerID: is not the organisation in the client certificate (SPEC 4.2.1)"


def not_registered(number: int) -> str:
    """The refusal of what a provider may not report, at a customer of the message."""
    return f"/customers/{number}/financialInstitutionID: this providerID is not registered for the institution"


@pytest.fixture
def enrol(partners):
    """Registers institutions with their providers."""

    def put(institution: str, *providers: Provider | str, ended: bool = False):
        found = tuple(one if isinstance(one, Provider) else Provider(one) for one in providers)
        partners.put_institution(Institution(institution, "Testbanken AS", providers=found, ended=ended))

    return put


@pytest.fixture
def push(aws):
    """Sends a message; the status, and the message of a refusal."""
    receive_push._secrets.cache_clear()

    def send(provider, *customers, pem=None):
        context = SimpleNamespace(aws_request_id=str(uuid4()), get_remaining_time_in_millis=lambda: 29_000)
        message = {"providerID": provider, "customers": list(customers)}
        pem = pem or seid_2(provider.rpartition(":")[2])
        answer = receive_push.lambda_handler(request(message, pem=pem), context)
        return answer["statusCode"], json.loads(answer["body"]).get("errorMessage")

    return send


@pytest.fixture
def shown(aws, partners):
    """What a lookup of a person would show: (institution, account) of each loan."""

    def read(person=CUSTOMER):
        register = Register(aws["REGISTER_TABLE"], aws_clients.dynamodb(), HashKeys.of(KEY))
        found = loans_shown(register, partners, person)
        return {(institution, current.loan.account_id) for institution, loans in found.items() for current in loans}

    return read


def loan(pattern, account):
    """A loan of SPEC's examples with this accountID."""
    return {**pattern, "accountID": account}


def test_case_a_one_organisation_reports_for_itself(enrol, push, shown):
    """Appendix C, case A: provider and institution are the same organisation."""
    enrol(BANK, f"9908:{BANK}")
    assert push(f"9908:{BANK}", customer(institution=BANK)) == (200, None)
    assert shown() == {(BANK, "4001"), (BANK, "4002"), (BANK, "4003")}


def test_case_b_one_organisation_reports_for_several(enrol, push, shown):
    """Appendix C, case B: one certificate and one message, for institutions that each enrolled this provider."""
    for institution in (BANK, FIRST, SECOND):
        enrol(institution, f"9908:{SERVICE}")
    reported = [customer(CREDIT_FACILITY, institution=institution) for institution in (BANK, FIRST, SECOND)]
    assert push(f"9908:{SERVICE}", *reported) == (200, None)
    assert shown() == {(BANK, "4002"), (FIRST, "4002"), (SECOND, "4002")}


def test_example_1_loans_of_several_systems_come_as_one_customer(enrol, push, shown):
    """Principle 3: the institution puts together what its systems know, and all of it is registered."""
    enrol(BANK, f"9908:{BANK}")
    both = customer(loan(CREDIT_FACILITY, "12"), loan(CHARGE_CARD, "52"), institution=BANK)
    assert push(f"9908:{BANK}", both) == (200, None)
    assert shown() == {(BANK, "12"), (BANK, "52")}


def test_example_1_one_customer_in_two_parts_is_refused(enrol, push, shown):
    """Principle 3: the same customer twice at one institution was not put together."""
    enrol(BANK, f"9908:{BANK}")
    parts = [customer(loan(CREDIT_FACILITY, account), institution=BANK) for account in ("12", "52")]
    status, message = push(f"9908:{BANK}", *parts)
    assert status == 400
    assert message.startswith("/customers/1")
    assert shown() == set()


def test_example_2_a_customer_of_several_institutions(enrol, push, shown):
    """Principle 4: one customer object for each institution, with that institution's loans only."""
    enrol(FIRST, f"9908:{BANK}")
    enrol(SECOND, f"9908:{BANK}")
    first = customer(loan(CREDIT_FACILITY, "47"), institution=FIRST)
    second = customer(loan(CREDIT_FACILITY, "39"), institution=SECOND)
    assert push(f"9908:{BANK}", first, second) == (200, None)
    assert shown() == {(FIRST, "47"), (SECOND, "39")}


def test_example_3_a_certificate_with_the_number_in_blanks(enrol, push, shown):
    """Principle 5: the certificate is the provider's, and its data is another organisation's."""
    enrol(FIRST, f"9908:{BANK}")
    pem = certificate(serial_numbers=("920 013 015",))
    assert push(f"9908:{BANK}", customer(CREDIT_FACILITY, institution=FIRST), pem=pem) == (200, None)
    assert shown() == {(FIRST, "4002")}


def test_example_4_a_group_of_banks_with_several_systems(enrol, push, shown):
    """Principle 6: several institutions and several loans of each, in one message of the group."""
    enrol(FIRST, f"9908:{BANK}")
    enrol(SECOND, f"9908:{BANK}")
    first = customer(loan(CREDIT_FACILITY, "47"), institution=FIRST)
    second = customer(loan(CREDIT_FACILITY, "39"), loan(REPAYMENT_LOAN, "31"), institution=SECOND)
    assert push(f"9908:{BANK}", first, second) == (200, None)
    assert shown() == {(FIRST, "47"), (SECOND, "39"), (SECOND, "31")}


def test_principle_7_several_providers_of_one_institution(enrol, push, shown):
    """Each provider has a certificate of its own, and none can write over another's customers."""
    enrol(BANK, f"9908:{BANK}", f"9908:{SERVICE}")
    assert push(f"9908:{BANK}", customer(loan(CREDIT_FACILITY, "1"), institution=BANK)) == (200, None)
    assert push(f"9908:{SERVICE}", customer(loan(CREDIT_FACILITY, "2"), institution=BANK)) == (200, None)
    assert shown() == {(BANK, "1"), (BANK, "2")}


def test_a_second_integration_under_9990(enrol, push, shown):
    """Appendix E: one organisation, one certificate, two providerIDs; each is registered by itself."""
    enrol(BANK, f"9908:{BANK}", f"9990:{BANK}")
    assert push(f"9908:{BANK}", customer(loan(CREDIT_FACILITY, "1"), institution=BANK)) == (200, None)
    assert push(f"9990:{BANK}", customer(loan(CREDIT_FACILITY, "2"), institution=BANK)) == (200, None)
    assert shown() == {(BANK, "1"), (BANK, "2")}

    enrol(BANK, f"9908:{BANK}")
    assert push(f"9990:{BANK}", customer(institution=BANK)) == (403, not_registered(0))


@pytest.mark.parametrize(
    ("provider", "pem"),
    [
        pytest.param(Provider(SWEDISH), certificate(identifiers=("NTRSE-5569622441",)), id="by its register number"),
        pytest.param(
            Provider(SWEDISH, certificates=("PSDSE-FINA-44059",)),
            certificate(identifiers=("PSDSE-FINA-44059",)),
            id="by a registered authorisation",
        ),
        pytest.param(
            Provider(SWEDISH, certificates=("PSDSE-FINA-44059",)),
            certificate(identifiers=("NTRSE-5569622441",)),
            id="by its register number beside it",
        ),
        pytest.param(
            Provider("0096:29403473", certificates=("NTRDK-29403473",)),
            certificate(identifiers=("NTRDK-29403473",)),
            id="from a country whose numbers we do not know",
        ),
    ],
)
def test_a_foreign_provider(enrol, push, shown, provider, pem):
    """Appendix E: a foreign institution under its ISO 6523 number, with a certificate that is known to be its own."""
    enrol(SWEDISH, provider)
    assert push(provider.provider, customer(CREDIT_FACILITY, institution=SWEDISH), pem=pem) == (200, None)
    assert shown() == {(SWEDISH, "4002")}


@pytest.mark.parametrize(
    ("provider", "identifier"),
    [
        (Provider(SWEDISH), "PSDSE-FINA-44059"),
        (Provider(SWEDISH), "NTRDK-5569622441"),
        (Provider(SWEDISH, certificates=("PSDSE-FINA-44059",)), "PSDSE-FINA-4405"),
        (Provider("0096:29403473"), "NTRDK-29403473"),
        (Provider(SWEDISH), f"NTRNO-{BANK}"),
    ],
)
def test_a_foreign_provider_that_is_not_known_by_its_certificate(enrol, push, shown, provider, identifier):
    """Nothing follows from a foreign certificate but what is registered, or is the provider's own number."""
    enrol(SWEDISH, provider)
    pem = certificate(identifiers=(identifier,))
    assert push(provider.provider, customer(institution=SWEDISH), pem=pem) == (403, NOT_YOU)
    assert shown() == set()


def test_an_institution_that_is_not_enrolled(enrol, push, shown):
    """A provider that we know, and data of an institution that we do not."""
    enrol(BANK, f"9908:{BANK}")
    assert push(f"9908:{BANK}", customer(institution=FIRST)) == (403, not_registered(0))
    assert shown() == set()


def test_an_institution_that_enrolled_with_another_provider(enrol, push, shown):
    """That the institution is ours and the provider is ours is not enough: the pair must be registered."""
    enrol(BANK, f"9908:{BANK}")
    enrol(FIRST, f"9908:{SERVICE}")
    assert push(f"9908:{BANK}", customer(institution=FIRST)) == (403, not_registered(0))
    assert shown() == set()


def test_one_institution_too_many_refuses_the_message(enrol, push, shown):
    """Data for an institution that the provider is not enrolled for is refused, with its place, and nothing is kept."""
    enrol(BANK, f"9908:{BANK}")
    enrol(FIRST, f"9908:{BANK}")
    message = [
        customer(institution=BANK),
        customer(institution=FIRST),
        customer(institution=SECOND),
        customer(institution=BANK, number=OTHER_CUSTOMER),
    ]
    assert push(f"9908:{BANK}", *message) == (403, not_registered(2))
    assert shown() == shown(OTHER_CUSTOMER) == set()


def test_an_institution_that_has_ended(enrol, push, shown):
    """From then on nothing is taken for it, from none of its providers."""
    enrol(BANK, f"9908:{BANK}", f"9908:{SERVICE}", ended=True)
    for provider in (f"9908:{BANK}", f"9908:{SERVICE}"):
        assert push(provider, customer(institution=BANK)) == (403, not_registered(0))
    assert shown() == set()


def test_a_provider_that_has_ended(enrol, push, shown):
    """The institution goes on with its other provider, and what the old one sends is refused."""
    enrol(BANK, Provider(f"9908:{BANK}", ended=True), f"9908:{SERVICE}")
    assert push(f"9908:{BANK}", customer(institution=BANK)) == (403, not_registered(0))
    assert push(f"9908:{SERVICE}", customer(CREDIT_FACILITY, institution=BANK)) == (200, None)
    assert shown() == {(BANK, "4002")}


def test_nobody_reports_in_anothers_name(enrol, push, shown):
    """The certificate must be that of the providerID, also when its owner may report for the same institution."""
    enrol(BANK, f"9908:{BANK}", f"9908:{SERVICE}")
    for organisation in (SERVICE, SECOND):
        assert push(f"9908:{BANK}", customer(institution=BANK), pem=seid_2(organisation)) == (403, NOT_YOU)
    assert shown() == set()


def test_who_is_nobody_learns_nothing_of_who_is_enrolled(enrol, push):
    """A stranger gets the same words whether an institution and a provider are known to us or not."""
    enrol(BANK, f"9908:{BANK}")
    for institution in (BANK, FIRST):
        assert push(f"9908:{BANK}", customer(institution=institution), pem=seid_2(SECOND)) == (403, NOT_YOU)


def test_a_message_without_customers_needs_no_rights(enrol, push):
    """There is nothing in it to be entitled to, but SPEC wants at least one customer."""
    assert push(f"9908:{BANK}")[0] == 400
