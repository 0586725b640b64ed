"""Taking a push: who may, what is stored, and what a message sent again changes."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.register_reader import loans_shown

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import CustomerLoans, Message, RepaymentLoan, account_of
from gjeldsbro.domain.register import DatasetItem, PushItem, StoredItem, push_version
from gjeldsbro.errors import InvalidMessageError, MessageTooLargeError, NotEntitledError, StoreUnavailableError
from gjeldsbro.services.customer_lookup import dataset_times
from gjeldsbro.services.ports import Dataset, Institution, Provider
from gjeldsbro.services.push import MAX_CUSTOMERS, PushService, Receipt, read_message

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
BANK, OTHER_BANK = "920013015", "985815534"
OWNER = f"NTRNO-{BANK}"
PROVIDER, OTHER_PROVIDER = f"9908:{BANK}", f"9908:{OTHER_BANK}"
KEY = HashKey("1", b"k" * 32)
KEYS = HashKeys.of(KEY)
PERSON = "17912099997"


def at(tick: int) -> str:
    """The tick-th minute of the morning."""
    return f"2026-11-22T05:{tick:02d}:00.0000000Z"


def loan(tick: int, balance: int = 100, account: str = "a") -> RepaymentLoan:
    """A loan as of a tick."""
    return RepaymentLoan(account, at(tick), None, 1000, balance, 12, 1020, 0, 0)


def message(*loans, provider=PROVIDER, institution=BANK, person=PERSON) -> Message:
    """A push about one person."""
    return Message(provider, (CustomerLoans(person, institution, loans),))


class FakeRegister:
    """The register in memory; ``fail_after`` puts it refuses the rest."""

    newest_version = KEY.number

    def __init__(self) -> None:
        self.items = {}
        self.fail_after = None
        self.asked = 0

    def add(self, person, item) -> None:
        """Store a dataset's item."""
        self.items.setdefault(person, {})[item[:2]] = item

    def items_of_many(self, customer_ids):
        """As the table does."""
        return [
            [StoredItem(KEY.number, item) for item in self.items.get(customer, {}).values()]
            for customer in customer_ids
        ]

    def delete_pushes(self, pushes):
        """As the table does; there are none under other keys."""
        assert pushes == []

    def put_pushes(self, pushes, key):
        """As the table does: never over a newer one."""
        written = 0
        assert key == KEY
        for customer, item in pushes:
            if self.fail_after is not None and written >= self.fail_after:
                raise StoreUnavailableError("throttled")
            place = (item.institution, item.provider, account_of(item.loan))
            held = self.items.setdefault(customer, {})
            if place not in held or push_version(held[place].loan) < push_version(item.loan):
                held[place] = item
                written += 1
        return written


class FakePartners:
    """Two banks; the first one's dataset is as of ``as_of``."""

    def __init__(self, as_of=None) -> None:
        self.known = {
            BANK: Institution(BANK, "Testbanken", providers=(Provider(PROVIDER, url="https://x"),)),
            OTHER_BANK: Institution(OTHER_BANK, "Andrebanken", providers=(Provider(OTHER_PROVIDER),)),
        }
        self.known_datasets = [Dataset(BANK, PROVIDER, as_of=as_of)] if as_of else []
        self.pushed = []

    def institution(self, institution):
        """One institution."""
        return self.known.get(institution)

    def institutions(self):
        """All of them."""
        return list(self.known.values())

    def datasets(self, institution=None):
        """Its datasets, or all."""
        return [dataset for dataset in self.known_datasets if institution in (None, dataset.institution)]

    def record_push(self, institution, provider, now):
        """Remembered in order."""
        self.pushed.append((institution, provider, now))


def service(as_of=None, register=None) -> PushService:
    """A service over fakes."""
    return PushService(FakePartners(as_of), register or FakeRegister(), KEYS)


# Who may


def test_the_provider_must_be_the_certificates_organisation():
    """SPEC 4.2.1: the providerID is matched against the certificate."""
    with pytest.raises(NotEntitledError, match="/providerID"):
        service().receive(message(loan(1)), f"NTRNO-{OTHER_BANK}", NOW)


@pytest.mark.parametrize(
    "institution",
    [
        None,
        Institution(BANK, "x"),
        Institution(BANK, "x", providers=(Provider(OTHER_PROVIDER),)),
        Institution(BANK, "x", providers=(Provider(PROVIDER, ended=True),)),
        Institution(BANK, "x", providers=(Provider(PROVIDER),), ended=True),
    ],
    ids=["unknown", "no providers", "other provider", "provider ended", "institution ended"],
)
def test_the_provider_must_be_registered_for_every_institution(institution):
    """A provider may only report the institutions that it is registered for now, and then nothing is stored."""
    asked = service()
    asked.partners.known[BANK] = institution
    asked.partners.known[OTHER_BANK] = Institution(OTHER_BANK, "y", providers=(Provider(PROVIDER),))
    both = Message(PROVIDER, (*message(loan(1), institution=OTHER_BANK).customers, *message(loan(1)).customers))

    with pytest.raises(NotEntitledError, match="/customers/1/financialInstitutionID"):
        asked.receive(both, OWNER, NOW)
    assert asked.register.items == {}


def test_one_provider_may_report_several_institutions():
    """SPEC appendix C, case B: each customer goes to its own institution."""
    asked = service()
    asked.partners.known[OTHER_BANK] = Institution(OTHER_BANK, "y", providers=(Provider(PROVIDER),))
    both = Message(PROVIDER, (*message(loan(1)).customers, *message(loan(2), institution=OTHER_BANK).customers))

    assert asked.receive(both, OWNER, NOW) == Receipt(2, 0)
    assert asked.partners.pushed == [(BANK, PROVIDER, NOW), (OTHER_BANK, PROVIDER, NOW)]
    assert sorted(loans_shown(asked.register, asked.partners, PERSON)) == [BANK, OTHER_BANK]


# What is stored


def test_a_push_is_in_the_register_when_it_was_received():
    """What a lookup reads afterwards is what was pushed."""
    asked = service()
    asked.receive(message(loan(1), loan(2, 50, "b")), OWNER, NOW)
    loans = loans_shown(asked.register, asked.partners, PERSON)

    assert [current.loan for current in loans[BANK]] == [loan(1), loan(2, 50, "b")]


def test_the_same_message_again_changes_nothing():
    """A sender that got no answer sends again."""
    asked = service()
    assert asked.receive(message(loan(1)), OWNER, NOW) == Receipt(1, 0)
    assert asked.receive(message(loan(1)), OWNER, NOW) == Receipt(0, 1)


def test_an_older_push_changes_nothing():
    """Older than the cover, than the dataset's loan or than the stored push: accepted, and not stored."""
    register = FakeRegister()
    register.add(PERSON, DatasetItem(BANK, PROVIDER, (loan(12, 500, "late"),)))
    asked = service(at(10), register)
    asked.receive(message(loan(20, 7)), OWNER, NOW)
    before = {key: dict(items) for key, items in register.items.items()}

    for older in (loan(10, 1, "covered"), loan(12, 1, "late"), loan(19, 1)):
        assert asked.receive(message(older), OWNER, NOW) == Receipt(0, 1)
    assert register.items == before


def test_without_loans_nothing_changes():
    """A push with an empty loans array is not a message that everything is repaid (contract)."""
    asked = service()

    assert asked.receive(message(), OWNER, NOW) == Receipt(0, 0)
    assert asked.register.items == {}


def test_a_failure_in_the_middle_is_mended_by_sending_again():
    """The sender hears of a failure, and the rest is stored when the same message comes again."""
    asked = service()
    asked.register.fail_after = 1
    with pytest.raises(StoreUnavailableError):
        asked.receive(message(loan(1), loan(1, 5, "b")), OWNER, NOW)

    asked.register.fail_after = None
    assert asked.receive(message(loan(1), loan(1, 5, "b")), OWNER, NOW) == Receipt(1, 1)


@given(
    st.none() | st.integers(0, 5).map(at),
    st.lists(st.builds(loan, st.integers(0, 5), st.sampled_from([0, 1, 2]), st.sampled_from(["a", "b"])), max_size=6),
    st.randoms(),
)
def test_in_whatever_order_pushes_come_the_same_is_shown(as_of, loans, random):
    """Late, repeated and shuffled pushes end in the same register."""
    resent = [*loans, *random.choices(loans, k=2)] if loans else []
    random.shuffle(resent)
    shown = []
    for order in (loans, resent):
        asked = service(as_of)
        for pushed in order:
            asked.receive(message(pushed), OWNER, NOW)
        shown.append(loans_shown(asked.register, asked.partners, PERSON))

    assert shown[0] == shown[1]


@given(
    st.integers(0, 5),
    st.integers(0, 5),
    st.lists(st.builds(loan, st.integers(0, 5), st.sampled_from([0, 1, 2]), st.sampled_from(["a", "b"])), max_size=2),
    st.lists(st.builds(loan, st.integers(0, 6), st.sampled_from([0, 3, 4]), st.sampled_from(["a", "b"])), max_size=4),
)
def test_times_from_before_a_commit_change_nothing_that_is_shown(before, later, held, pushed):
    """Datasets' records may be older than the items that are read after them: more is stored, and the same shown."""
    loans = tuple({account_of(one): one for one in held}.values())
    now = max(before, later)
    shown = []
    for known in (at(min(before, later)), at(now)):
        register = FakeRegister()
        register.add(PERSON, DatasetItem(BANK, PROVIDER, loans))
        for one in pushed:
            service(known, register).receive(message(one), OWNER, NOW)
        shown.append(loans_shown(register, FakePartners(at(now)), PERSON))

    assert shown[0] == shown[1]


# The message


def test_more_than_a_thousand_customers_are_too_many():
    """The contract's limit is looked at before anything else in the message."""
    body = json.dumps({"providerID": "x", "customers": [{}] * (MAX_CUSTOMERS + 1)}).encode()
    with pytest.raises(MessageTooLargeError):
        read_message(body, accepts="synthetic", now=NOW)

    body = json.dumps({"providerID": PROVIDER, "customers": [{}] * MAX_CUSTOMERS}).encode()
    with pytest.raises(InvalidMessageError):
        read_message(body, accepts="synthetic", now=NOW)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"customers":' + b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_message_is_invalid(body):
    """Counting customers first does not change what a broken message is told."""
    with pytest.raises(InvalidMessageError):
        read_message(body, accepts="synthetic", now=NOW)


# Which datasets there are


def test_dataset_times_know_who_delivers():
    """Fetched providers count before their first commit, removed ones while their data is there, pushers never."""
    institution = Institution(
        BANK,
        "x",
        providers=(
            Provider("fetched", url="https://x"),
            Provider("at its own address", dataset_url="https://x"),
            Provider("committed", url="https://x"),
            Provider("removed", url="https://x", ended=True),
            Provider("removed and withdrawn", url="https://x", ended=True),
            Provider("pushes"),
        ),
    )
    datasets = [
        Dataset(BANK, "committed", as_of=at(1)),
        Dataset(BANK, "removed", as_of=at(2)),
        Dataset(BANK, "removed and withdrawn"),
        Dataset(OTHER_BANK, "left over", as_of=at(3)),
    ]

    assert dataset_times([institution], datasets) == {
        BANK: {"fetched": None, "at its own address": None, "committed": at(1), "removed": at(2)},
        OTHER_BANK: {"left over": at(3)},
    }


def test_a_push_is_about_its_own_institution_only():
    """The same account id at another institution is neither older nor newer."""
    register = FakeRegister()
    register.add(PERSON, DatasetItem(OTHER_BANK, PROVIDER, (loan(9),)))
    asked = service(register=register)

    assert asked.receive(message(loan(1)), OWNER, NOW) == Receipt(1, 0)
    assert StoredItem(1, PushItem(BANK, PROVIDER, loan(1))) in register.items_of_many([PERSON])[0]
