import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from gjeldsbro.domain.identity_numbers import customer_id_fault, institution_fault, provider_fault
from gjeldsbro.domain.timestamps import normalise
from gjeldsbro_population import Population, make_institutions, package_content, pages, ssn_list, write_dataset
from gjeldsbro_population.expectation import disclosed
from gjeldsbro_population.identity import broken

SEED = 4


@pytest.fixture(scope="module")
def population():
    """Enough people for each kind of case."""
    return Population(SEED, people=600, institutions=8)


@pytest.fixture(scope="module")
def later(population):
    """The night after."""
    return population.changed(night=2, percent=5)


def everything(population):
    """All datasets, customer by customer."""
    return {dataset: list(population.customers(*dataset)) for dataset in population.datasets}


def without_timestamps(customers):
    """What the customers with loans owe, whenever that was extracted."""
    return {
        customer["customerID"]: [
            {key: value for key, value in loan.items() if key != "timestamp"} for loan in customer["loans"]
        ]
        for customer in customers
        if customer["loans"]
    }


def test_the_same_seed_gives_the_same_population():
    """Seed, number of people and institutions decide everything; another seed gives other people."""
    assert everything(Population(SEED, 60, 3)) == everything(Population(SEED, 60, 3))
    assert set(Population(SEED, 60, 3).customer_ids).isdisjoint(Population(SEED + 1, 60, 3).customer_ids)


def test_every_number_is_synthetic_and_occurs_once(population):
    """All persons have 80 added to the month and valid check digits, so that none of them can be a real person."""
    assert len(set(population.customer_ids)) == population.people
    assert {customer_id_fault(number, "synthetic") for number in population.customer_ids} == {None}
    assert all(81 <= int(number[2:4]) <= 92 for number in population.customer_ids)


def test_the_population_holds_d_numbers_and_numbers_of_the_2032_rule(population):
    """Both kinds occur, so that a register that refuses one of them fails on this population."""
    d_numbers = [number for number in population.customer_ids if number[0] in "4567"]
    weights = (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)
    remainders = Counter(
        sum(int(digit) * weight for digit, weight in zip(number, weights, strict=False)) % 11
        for number in population.customer_ids
    )
    assert d_numbers
    assert set(remainders) == {0, 1, 2, 3}
    assert remainders[0] > 0.9 * population.people


def test_institutions_show_every_setup_of_the_specification():
    """Own delivery, one provider for two institutions, two providers for one, and a foreign institution occur."""
    institutions = make_institutions(SEED, 9)
    by_provider = Counter(provider for institution in institutions for provider in institution.providers)
    assert {institution_fault(institution.institution) for institution in institutions} == {None}
    assert {provider_fault(provider) for provider in by_provider} == {None}
    assert max(by_provider.values()) == 2
    assert [provider[:5] for provider in institutions[5].providers] == ["9908:", "9990:"]
    assert institutions[6].institution.startswith("0007:")


def test_datasets_hold_all_loan_types_debts_at_several_institutions_and_customers_without_loans(population):
    """The mix is realistic enough that each rule about what counts as debt has cases."""
    customers = [customer for dataset in everything(population).values() for customer in dataset]
    loans = [loan for customer in customers for loan in customer["loans"]]
    institutions = Counter(len(population.expected_loans(number)) for number in population.customer_ids)
    assert {loan["type"] for loan in loans} == {"repaymentLoan", "creditFacility", "chargeCard"}
    assert any(not customer["loans"] for customer in customers)
    assert institutions[0]
    assert sum(count for several, count in institutions.items() if several > 1) > 0.2 * population.people
    assert any(loan["type"] == "repaymentLoan" and loan["balance"] == 0 for loan in loans)
    assert any(
        loan["type"] == "creditFacility" and loan["interestBearingBalance"] == 0 and loan["creditLimit"]
        for loan in loans
    )


def test_account_ids_have_several_shapes_and_differ_within_a_customer(population):
    """Account numbers, KID, masked cards and hexadecimal ids occur, at most 25 printable characters each."""
    shapes = set()
    for customers in everything(population).values():
        for customer in customers:
            accounts = [(loan["type"], loan["accountID"]) for loan in customer["loans"]]
            assert len(set(accounts)) == len(accounts)
            for _, account in accounts:
                assert len(account) <= 25
                shapes.add((len(account), account.isdigit(), "*" in account))
    assert {(11, True, False), (14, True, False), (16, False, True), (24, False, False)} <= shapes


def test_co_borrowers_report_the_same_account(population):
    """A shared loan is whole at both borrowers: one has a co-borrower (2), the other is one (1)."""
    roles = {}
    for dataset, customers in everything(population).items():
        for customer in customers:
            for loan in customer["loans"]:
                if loan["coBorrower"]:
                    figures = tuple(v for k, v in loan.items() if k not in {"coBorrower", "timestamp"})
                    roles.setdefault((dataset, figures), []).append(loan["coBorrower"])
    assert roles
    assert all(sorted(pair) == [1, 2] for pair in roles.values())


def test_timestamps_lie_within_the_hour_after_the_extraction(population):
    """All forms of timestamps (0, 3, 6, 7 fractional digits, offsets) are valid and not before the extraction."""
    first, last = population.extracted_at, population.extracted_at + timedelta(hours=1)
    forms = set()
    for customers in everything(population).values():
        for customer in customers:
            for loan in customer["loans"]:
                forms.add(len(loan["timestamp"]))
                assert first <= datetime.fromisoformat(normalise(loan["timestamp"])[:26] + "+00:00") <= last
    assert len(forms) >= 4


def test_the_next_night_differs_by_the_stated_share(population, later):
    """``changes`` counts exactly what differs: 60 % of the changed pairs altered, 20 % gone, 20 % new."""
    pairs = changed = 0
    for dataset in population.datasets:
        before = without_timestamps(population.customers(*dataset))
        after = without_timestamps(later.customers(*dataset))
        changes = later.changes[dataset]
        assert changes.added == len(after.keys() - before.keys())
        assert changes.removed == len(before.keys() - after.keys())
        assert changes.changed == sum(before[number] != after[number] for number in before.keys() & after.keys())
        assert changes.unchanged + changes.changed + changes.removed == len(before)
        pairs += len(before)
        changed += changes.added + changes.changed + changes.removed
    assert changed == round(pairs * 0.05)
    assert sum(changes.removed for changes in later.changes.values()) == changed // 5


def test_the_next_night_has_new_timestamps_and_leaves_the_first_night_alone(population, later):
    """Every loan is extracted anew a day later; the population of the night before still says what it said."""
    assert later.night == 2
    assert later.extracted_at == population.extracted_at + timedelta(days=1)
    assert everything(population) == everything(Population(SEED, people=600, institutions=8))
    assert everything(later.changed(night=3, percent=1)) != everything(later)


def test_expected_loans_follow_the_contract_on_what_counts_as_debt(population):
    """Repaid repayment loans and closed facilities are left out, unused limits and idle charge cards are not."""
    counted = Counter()
    for number in population.customer_ids:
        delivered = [
            loan
            for dataset in population.datasets
            for loan in (population.customer(*dataset, number) or {"loans": []})["loans"]
        ]
        shown = [loan for loans in population.expected_loans(number).values() for loan in loans]
        for loan in delivered:
            figures = [
                value
                for key, value in loan.items()
                if key in {"balance", "creditLimit", "interestBearingBalance", "nonInterestBearingBalance"}
            ]
            debt = loan["type"] == "chargeCard" or any(figures)
            counted[debt] += 1
            assert (loan in shown) == debt
    assert counted[False]


def test_pushes_replace_what_the_dataset_said(population):
    """A pushed new loan appears, a pushed change replaces the account's figures, a repaid loan disappears."""
    institution, provider = population.datasets[0]
    messages = population.pushes(institution, provider, datetime(2026, 1, 6, tzinfo=UTC), count=3)
    new, other, repaid = (message["customers"][0] for message in messages)

    def loans(customer, *, pushed):
        return population.expected_loans(customer["customerID"], pushed=pushed).get(institution, [])

    assert len(loans(new, pushed=messages)) == len(loans(new, pushed=())) + 1
    assert [loan for loan in loans(other, pushed=messages) if loan["timestamp"] == "2026-01-06T00:00:00.000Z"]
    account = repaid["loans"][0]["accountID"]
    assert account in {
        loan["accountID"] for loan in population.customer(institution, provider, repaid["customerID"])["loans"]
    }
    assert account not in {loan["accountID"] for loan in loans(repaid, pushed=messages)}


def test_a_dataset_that_was_not_loaded_shows_what_was_in_use(population, later):
    """``instead`` names the night whose data a refused dataset still shows, or None when there never was any."""
    dataset = population.datasets[0]
    institution = dataset[0]
    for number in population.customer_ids[:100]:
        tonight = later.expected_loans(number, instead={dataset: population}).get(institution)
        assert tonight == population.expected_loans(number).get(institution)
        assert institution not in later.expected_loans(number, instead={dataset: None})


def test_a_package_compares_equal_to_what_is_expected_of_it(population):
    """Order, account ids, names and timestamps do not matter; a figure or a missing loan does."""
    number = next(number for number in population.customer_ids if len(population.expected_loans(number)) > 1)
    loans = [
        {**{key: str(value) for key, value in loan.items()}, "accountID": "0" * 24, "timestamp": "2026-10-01T04:00:00Z"}
        for loans in population.expected_loans(number).values()
        for loan in reversed(loans)
    ]
    document = {"providerID": "9908:1", "customers": [{"customerID": number, "loans": loans}]}
    expected = population.expected_package([number])
    assert package_content(document) == expected
    assert package_content({"customers": [{"customerID": number, "loans": loans[1:]}]}) != expected
    with pytest.raises(ValueError, match="twice"):
        package_content({"customers": [document["customers"][0]] * 2})


def test_a_lookup_compares_equal_to_what_is_expected_of_it(population, later):
    """Loans as they are now, and as the register has them where an institution is down, each with its source."""
    number = next(one for one in population.customer_ids if len(population.expected_loans(one)) > 1)
    down, *others = population.expected_loans(number)
    entries = [
        {"source": "register" if institution == down else "institution", "loan": {**loan, "accountID": "1"}}
        for institution in (down, *others)
        for loan in (population if institution == down else later).expected_loans(number).get(institution, [])
    ]
    missing = {"source": "none", "loan": None}
    expected = population.expected_lookup(number, live=later, down=[down])
    assert disclosed([*reversed(entries), missing]) == expected
    assert disclosed(entries[1:]) != expected
    entries[0]["source"] = "institution"
    assert disclosed(entries) != expected


def test_pages_hold_each_customer_once_and_numbers_in_the_asked_form(population, tmp_path):
    """A dataset is split into complete JSON documents; numbers are strings, padded strings or integers."""
    institution, provider = population.datasets[0]
    size = population.count(institution, provider) // 2 - 1
    bodies = {
        form: list(pages(population, institution, provider, page_size=size, numbers=form))
        for form in ("strings", "padded", "integers")
    }
    documents = {form: [json.loads(body) for body in listed] for form, listed in bodies.items()}
    customers = {form: [c for document in listed for c in document["customers"]] for form, listed in documents.items()}
    assert [len(listed) for listed in bodies.values()] == [3, 3, 3]
    assert customers["integers"] == list(population.customers(institution, provider))
    rates = {
        form: [loan["nominalInterestRate"] for customer in listed for loan in customer["loans"] if "terms" in loan]
        for form, listed in customers.items()
    }
    assert rates["strings"] == [str(rate) for rate in rates["integers"]]
    assert rates["padded"] == [f"{rate:06d}" for rate in rates["integers"]]
    files = write_dataset(population, institution, provider, tmp_path, page_size=size, numbers="padded")
    assert [file.read_bytes() for file in files] == bodies["padded"]
    assert str(files[0].relative_to(tmp_path)) == f"{institution}/{provider.replace(':', '-')}/00000.json"


def test_an_ssn_list_holds_the_numbers_and_the_given_faults(population):
    """Invalid texts and duplicates are mixed in, given or made, and the order depends on the seed only."""
    numbers = population.customer_ids[:10]
    listed = ssn_list(numbers, invalid=["abc", "12345678901"], duplicates=[numbers[3]]).decode().split(",")
    assert Counter(listed) == Counter([*numbers, "abc", "12345678901", numbers[3]])
    made = ssn_list(numbers, invalid=2, duplicates=1).decode().split(",")
    wrong = [number for number in made if number not in numbers]
    assert len(made) == 13
    assert len(wrong) == 2
    assert None not in {customer_id_fault(number, "synthetic") for number in wrong}
    assert ssn_list(numbers, seed=1) == ssn_list(numbers, seed=1) != ssn_list(numbers, seed=2)
    assert customer_id_fault(broken(numbers[0]), "format") is None
