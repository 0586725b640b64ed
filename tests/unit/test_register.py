"""The merge rule's parts, one by one, and its laws."""

from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.domain.loans import ChargeCard, CreditFacility, RepaymentLoan, content_digest
from gjeldsbro.domain.register import (
    CurrentLoan,
    DatasetItem,
    PushItem,
    cover_of,
    current_loans,
    dataset_as_of,
    dataset_loan_times,
    is_superseded,
    merge,
    push_counts,
    push_version,
)

FI = "920013015"
OTHER_FI = "985815534"
A, B, P = "9908:920013015", "9908:985815534", "9990:920013015"


def at(tick: int) -> str:
    """The tick-th minute of a day, in the fixed form."""
    return f"2026-11-22T{tick // 60:02d}:{tick % 60:02d}:00.0000000Z"


def loan(tick: int, balance: int = 100, account: str = "a") -> RepaymentLoan:
    """A repayment loan as of a tick."""
    return RepaymentLoan(account, at(tick), None, 1000, balance, 12, 1020, 0, 0)


def card(tick: int, balance: int) -> ChargeCard:
    """A charge card as of a tick."""
    return ChargeCard("card", at(tick), None, 0, balance, 0)


# asOf


def test_as_of_is_the_earliest_timestamp():
    """A dataset speaks as of its earliest loan: that one was extracted first."""
    assert dataset_as_of(at(10), at(12), None, None, at(20)) == at(10)


def test_as_of_is_not_after_the_fetch():
    """An institution's clock that runs ahead does not make its dataset younger than our fetch of it."""
    assert dataset_as_of(at(22), at(23), None, None, at(20)) == at(20)


def test_as_of_never_goes_back():
    """A dataset with older stamps than the last one still replaced it."""
    assert dataset_as_of(at(5), at(5), at(10), at(11), at(20)) == at(10)


def test_a_fresh_stamp_proves_that_the_dataset_is_newer_than_the_previous_fetch():
    """One loan stamped after the start of the previous fetch lifts asOf to that start; one stamped at it does not."""
    assert dataset_as_of(at(5), at(12), at(3), at(11), at(20)) == at(11)
    assert dataset_as_of(at(5), at(11), at(3), at(11), at(20)) == at(5)


def test_an_empty_dataset_speaks_as_of_its_fetch():
    """Without loans there is no stamp, and everything before the fetch is covered."""
    assert dataset_as_of(None, None, at(3), at(11), at(20)) == at(20)
    assert dataset_as_of(None, None, None, None, at(20)) == at(20)


# Cover


def test_a_provider_with_datasets_is_covered_by_its_own():
    """Another provider's fresher dataset says nothing about this one's loans."""
    assert cover_of(A, {A: at(1), B: at(9)}) == at(1)


def test_a_provider_without_datasets_is_covered_by_the_oldest():
    """Nobody knows which dataset carries the loan, so only what all of them cover is covered."""
    assert cover_of(P, {A: at(1), B: at(9)}) == at(1)


def test_nothing_committed_covers_nothing():
    """Before its first commit a dataset covers neither its provider's pushes nor those of one that only pushes."""
    assert cover_of(A, {A: None, B: at(9)}) is None
    assert cover_of(P, {A: None, B: at(9)}) is None


def test_an_institution_without_datasets_has_no_cover():
    """Pushes of an institution that only pushes count for ever."""
    assert cover_of(P, {}) is None
    assert not is_superseded(at(1), None)


def test_a_push_at_the_instant_of_its_cover_is_superseded():
    """The dataset speaks as of that instant."""
    assert is_superseded(at(5), at(5))
    assert not is_superseded(at(6), at(5))


# Current loans


def test_a_dataset_loan_is_as_fresh_as_its_dataset():
    """An unchanged loan is not rewritten, yet its effective time is asOf."""
    current = current_loans([DatasetItem(FI, A, (loan(1),))], {FI: {A: at(9)}})

    assert current == {FI: [CurrentLoan(loan(1), at(9), A, "dataset")]}


def test_a_loan_stamped_after_as_of_keeps_its_own_time():
    """The dataset's asOf is its earliest stamp; a later stamp is the loan's own."""
    current = current_loans([DatasetItem(FI, A, (loan(12),))], {FI: {A: at(9)}})

    assert current[FI][0].effective == at(12)


def test_a_newer_push_is_shown_and_an_older_one_is_not():
    """A push counts while it is later than its cover."""
    dataset = DatasetItem(FI, A, (loan(1, 100),))

    assert _balance([dataset, PushItem(FI, A, loan(10, 200))], {A: at(9)}) == 200
    assert _balance([dataset, PushItem(FI, A, loan(9, 200))], {A: at(9)}) == 100


def test_a_push_older_than_the_loan_itself_does_not_count():
    """Later than the cover is not enough where the loan was extracted later still."""
    items = [DatasetItem(FI, A, (loan(12, 100),)), PushItem(FI, A, loan(12, 200))]

    assert _balance(items, {A: at(9)}) == 100


def test_an_uncommitted_load_counts_by_its_own_timestamps():
    """Items of the first load are readable before its commit, and a later push still replaces them."""
    dataset = DatasetItem(FI, A, (loan(5, 100),))

    assert _balance([dataset], {A: None}) == 100
    assert _balance([dataset, PushItem(FI, A, loan(4, 200))], {A: None}) == 100
    assert _balance([dataset, PushItem(FI, A, loan(6, 200))], {A: None}) == 200


def test_a_push_that_says_repaid_hides_the_loan():
    """The newest word wins before it is asked whether it says debt."""
    items = [DatasetItem(FI, A, (loan(1),)), PushItem(FI, A, loan(10, 0))]

    assert current_loans(items, {FI: {A: at(9)}}) == {}


def test_a_charge_card_is_hidden_by_a_push_only():
    """A charge card with both balances 0 is debt in a dataset, and not in a push."""
    items = [DatasetItem(FI, A, (card(1, 0),))]

    assert current_loans(items, {FI: {A: at(9)}})[FI][0].source == "dataset"
    assert current_loans([*items, PushItem(FI, A, card(10, 0))], {FI: {A: at(9)}}) == {}
    assert current_loans([*items, PushItem(FI, A, card(10, 7))], {FI: {A: at(9)}})[FI][0].source == "push"


def test_an_unused_credit_limit_is_debt():
    """A credit facility goes only when limit and balances are 0."""
    unused = CreditFacility("k", at(10), None, 5000, 0, 0, 0, 0, 0)
    ended = CreditFacility("k", at(11), None, 0, 0, 0, 0, 0, 0)

    assert current_loans([PushItem(FI, P, unused)], {}) == {FI: [CurrentLoan(unused, at(10), P, "push")]}
    assert current_loans([PushItem(FI, P, ended)], {}) == {}


def test_the_same_account_number_of_another_type_is_another_loan():
    """An account is (type, accountID)."""
    facility = CreditFacility("a", at(1), None, 5000, 0, 0, 0, 0, 0)
    current = current_loans([DatasetItem(FI, A, (loan(1), facility))], {FI: {A: at(9)}})

    assert [type(each.loan) for each in current[FI]] == [CreditFacility, RepaymentLoan]


def test_institutions_do_not_mix():
    """The same account id at two institutions is two loans, each under its own institution and cover."""
    items = [
        DatasetItem(FI, A, (loan(1, 100),)),
        DatasetItem(OTHER_FI, A, (loan(1, 300),)),
        PushItem(OTHER_FI, A, loan(10, 400)),
    ]
    current = current_loans(items, {FI: {A: at(20)}, OTHER_FI: {A: at(9)}})

    assert {institution: loans[0].loan.balance for institution, loans in current.items()} == {FI: 100, OTHER_FI: 400}


def test_of_two_providers_the_newest_counts_and_the_conflict_is_counted():
    """During a hand-over both sides may deliver the same account: it is shown once."""
    items = [DatasetItem(FI, A, (loan(1, 100),)), DatasetItem(FI, B, (loan(1, 200),))]
    merged = merge(items, {FI: {A: at(9), B: at(10)}})

    assert [(current.loan.balance, current.provider) for current in merged.loans[FI]] == [(200, B)]
    assert merged.conflicts == 1


def test_two_providers_that_agree_are_no_conflict():
    """The same content from both is not a conflict, and neither is a provider's push over its own dataset."""
    same = [DatasetItem(FI, A, (loan(1),)), DatasetItem(FI, B, (loan(2),))]
    own = [DatasetItem(FI, A, (loan(1),)), PushItem(FI, A, loan(12, 5))]

    assert merge(same, {FI: {A: at(9), B: at(10)}}).conflicts == 0
    assert merge(own, {FI: {A: at(9)}}).conflicts == 0


def test_equal_times_go_to_the_greater_digest():
    """Where two providers' words are equally new, the choice does not depend on who was read first."""
    loans = loan(1, 100), loan(1, 200)
    for first, second in (loans, loans[::-1]):
        items = [DatasetItem(FI, A, (first,)), DatasetItem(FI, B, (second,))]
        for order in (items, items[::-1]):
            shown = current_loans(order, {FI: {A: at(9), B: at(9)}})[FI]
            assert [current.loan for current in shown] == [max(loans, key=content_digest)]


def test_a_push_is_compared_with_the_effective_time_of_any_dataset():
    """A loan that another provider's newer dataset carries is newer than the push, though its own stamp is older."""
    items = [DatasetItem(FI, A, (loan(1),))]
    times = {A: at(30), B: at(10)}

    assert dataset_loan_times(items, times) == {("repaymentLoan", "a"): at(30)}
    assert not push_counts(loan(20, 5), cover_of(P, times), dataset_loan_times(items, times))
    assert push_counts(loan(20, 5, "b"), cover_of(P, times), dataset_loan_times(items, times))
    assert _balance([*items, PushItem(FI, P, loan(20, 5))], times) == 100


def test_a_removed_providers_data_stays_until_it_is_withdrawn():
    """An institution that nobody registers any more still shows the items it has."""
    assert current_loans([DatasetItem(FI, A, (loan(1),))], {})[FI][0].effective == at(1)


# Laws

TICKS = st.integers(0, 6)
LOANS = st.builds(loan, TICKS, st.sampled_from([0, 100, 200]), st.sampled_from(["a", "b"]))
DATASETS = st.builds(
    DatasetItem,
    st.just(FI),
    st.sampled_from([A, B]),
    st.lists(LOANS, max_size=2, unique_by=lambda each: each.account_id).map(tuple),
)
PUSHES = st.builds(PushItem, st.just(FI), st.sampled_from([A, B, P]), LOANS)
TIMES = st.fixed_dictionaries({A: st.none() | TICKS.map(at)}, optional={B: st.none() | TICKS.map(at)})


def _of_dataset(item: DatasetItem | PushItem) -> object:
    """What the table allows once: a dataset's item, or a push about one account."""
    return item.provider if isinstance(item, DatasetItem) else (item.provider, item.loan.account_id)


ITEMS = st.lists(DATASETS | PUSHES, max_size=6, unique_by=_of_dataset)


@given(ITEMS, TIMES, st.randoms())
def test_the_order_of_items_does_not_matter(items, times, random):
    """What is shown is a function of the set of items."""
    shuffled = list(items)
    random.shuffle(shuffled)

    assert merge(items, {FI: times}) == merge(shuffled, {FI: times})


@given(ITEMS, TIMES)
def test_each_account_is_shown_once_and_as_the_newest_word(items, times):
    """No account twice, nothing that is not debt, and nothing older than a dataset's word on the account."""
    shown = current_loans(items, {FI: times}).get(FI, [])
    newest = dataset_loan_times(items, times)

    accounts = [current.loan.account_id for current in shown]
    assert accounts == sorted(set(accounts))
    for current in shown:
        assert current.loan.balance
        assert current.effective >= newest.get(("repaymentLoan", current.loan.account_id), "")


@given(st.lists(LOANS, min_size=1, max_size=5), st.randoms())
def test_pushes_end_the_same_in_any_order_and_however_often_they_are_sent(loans, random):
    """Keeping the greatest version leaves the same push whatever the order and the repetitions."""
    resent = [*loans, *random.choices(loans, k=3)]
    random.shuffle(resent)

    assert max(map(push_version, loans)) == max(map(push_version, resent))
    assert max(loans, key=push_version).timestamp == max(each.timestamp for each in loans)


@given(ITEMS, TIMES, LOANS, st.sampled_from([A, B, P]))
def test_a_push_that_does_not_count_changes_nothing(items, times, pushed, provider):
    """What the push service leaves out of the register would not have been shown."""
    items = [item for item in items if isinstance(item, DatasetItem)]
    if not push_counts(pushed, cover_of(provider, times), dataset_loan_times(items, times)):
        assert merge([*items, PushItem(FI, provider, pushed)], {FI: times}) == merge(items, {FI: times})


@given(ITEMS, TIMES)
def test_deleting_superseded_pushes_changes_nothing(items, times):
    """The clean-up after a commit removes only what no reader counts."""
    kept = [
        item
        for item in items
        if isinstance(item, DatasetItem) or not is_superseded(item.loan.timestamp, cover_of(item.provider, times))
    ]

    assert merge(kept, {FI: times}) == merge(items, {FI: times})


@given(TICKS, TICKS, st.none() | TICKS, st.none() | TICKS, TICKS)
def test_as_of_stays_within_its_bounds(first, second, previous, previous_start, start):
    """No asOf lies before the previous one, or after the fetch unless an earlier one already was."""
    earliest, latest = sorted((first, second))
    bounds = [None if tick is None else at(tick) for tick in (previous, previous_start)]
    as_of = dataset_as_of(at(earliest), at(latest), *bounds, at(start))

    assert as_of >= (bounds[0] or "")
    assert as_of <= max([at(start), *(bound for bound in bounds if bound)])


def _balance(items, times):
    return current_loans(items, {FI: times})[FI][0].loan.balance
