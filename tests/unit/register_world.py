"""A small abstract world for the exhaustive search over short histories (design decision 4).

One institution, one or two accounts with the values 0 (no debt), 1 and 2. Things happen one at a time, each at a tick
of its own. The register's side (``Side``: items, index, left-over keys, ``asOf``) does what the nightly load and the
push do, with the product's own rules. Beside it runs a plain model that knows nothing of items, covers and digests: per
account the newest thing that anybody told us, be it an extract that was accepted or a push that was delivered.

Times matter only by their order, so states are stored with ticks replaced by their ranks: histories that differ in
nothing the rules can see become one state, and the search counts how many histories it stands for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from gjeldsbro.domain.loans import RepaymentLoan
from gjeldsbro.domain.register import (
    DatasetItem,
    Item,
    PushItem,
    cover_of,
    dataset_as_of,
    dataset_loan_times,
    is_superseded,
    merge,
    push_counts,
)

FI = "920013015"
PUSHER = "P"

Told = tuple[int, int]
"""(value, tick at which it was true)"""


class Side(NamedTuple):
    """What is kept of one provider's dataset: ``items`` in the register, ``index`` of what the last commit said."""

    items: tuple[Told | None, ...]
    index: tuple[int, ...]
    pending: frozenset[int] = frozenset()
    as_of: int | None = None
    fetch_start: int | None = None
    extract: tuple[Told, ...] | None = None
    extracted: int | None = None
    begun: tuple[Told, ...] | None = None
    """An extraction that has passed the first account but not the second."""


class World(NamedTuple):
    """Everything there is, after some history."""

    now: int
    truth: tuple[int, ...]
    changed: tuple[int, ...]
    """When each account changed last; kept only where loans are stamped with it."""
    home: tuple[int, ...]
    """Which provider each account is with."""
    sides: tuple[Side, ...]
    pushes: tuple[Told | None, ...]
    held: frozenset[tuple[int, int, int]]
    """Pushes (account, value, tick) that were not delivered: some come late, some never."""
    base: tuple[Told, ...]
    """The plain model: the newest thing told of each account."""
    maybe: tuple[frozenset[Told], ...]
    """What each account may show instead while a load has died half-way."""


@dataclass(frozen=True)
class Setting:
    """What kind of world: see the tests for why each is there."""

    accounts: int = 1
    datasets: int = 1
    own_pushes: bool = True
    """Pushes come from the provider that delivers the dataset; else from one that only pushes."""
    steady: bool = True
    """Every dataset also holds another customer's loan, so that none is empty."""
    gliding: bool = False
    """An extraction takes time: other things happen between the first account and the second."""
    stamp_changes: bool = False
    """Loans are stamped with their last change, which SPEC 4.2.3 forbids."""
    lively: bool = False
    """Every dataset holds a loan that was stamped as late as can be (with ``stamp_changes``: one that just changed)."""
    timestamps_alone: bool = False
    """The rule that decision 4 warns of: no asOf, no cover."""
    moves: bool = False
    """An account may move to the other provider (a hand-over)."""


def start(setting: Setting) -> World:
    """Nobody has debt, nothing was fetched."""
    accounts = range(setting.accounts)
    side = Side(items=tuple(None for _ in accounts), index=tuple(0 for _ in accounts))
    zero = tuple(0 for _ in accounts)
    told = tuple((0, 0) for _ in accounts)
    return World(
        now=1,
        truth=zero,
        changed=zero,
        home=tuple(account % setting.datasets for account in accounts),
        sides=tuple(side for _ in range(setting.datasets)),
        pushes=tuple(None for _ in accounts),
        held=frozenset(),
        base=told,
        maybe=tuple(frozenset() for _ in accounts),
    )


# What can happen


def events(world: World, setting: Setting) -> Iterator[tuple[str, World]]:
    """Every single thing that can happen next, by name."""
    for account, value in enumerate(world.truth):
        for new in {0, 1, 2} - {value}:
            changed = _with_truth(world, setting, account, new)
            yield f"change {account} to {new}, push in time", deliver(changed, setting, account, new, world.now)
            yield (
                f"change {account} to {new}, push held",
                changed._replace(held=world.held | {(account, new, world.now)}),
            )
        if setting.moves:
            home = tuple(1 - at if moved == account else at for moved, at in enumerate(world.home))
            yield f"move {account}", world._replace(now=world.now + 1, home=home)
    for account, value, tick in sorted(world.held):
        late = world._replace(now=world.now + 1, held=world.held - {(account, value, tick)})
        yield f"late push {account}={value} of {tick}", deliver(late, setting, account, value, tick)
    for number, side in enumerate(world.sides):
        yield from _side_events(world, setting, number, side)


def _side_events(world: World, setting: Setting, number: int, side: Side) -> Iterator[tuple[str, World]]:
    if not setting.gliding:
        yield f"extract {number}", extract(world, setting, number)
    elif side.begun is None:
        yield "begin extract", _with_side(world, number, side._replace(begun=(_told(world, setting, 0, 0),)))
    else:
        whole = (*side.begun, _told(world, setting, 1, 0))
        done = side._replace(begun=None, extract=whole, extracted=side.begun[0][1])
        yield "end extract", _with_side(world, number, done)
    if side.extract is None:
        return
    yield f"fetch {number} refused", world._replace(now=world.now + 1)
    yield f"fetch {number}", fetch(world, setting, number)
    yield f"fetch {number}, pushes not cleaned up", fetch(world, setting, number, clean_up=False)
    yield f"fetch {number} in full", fetch(world, setting, number, in_full=True)
    changing = _changing(side)
    for size in range(len(changing) + 1):
        for written in combinations(sorted(changing), size):
            yield f"fetch {number} died after {written}", _die(world, number, written, changing)


def deliver(world: World, setting: Setting, account: int, value: int, tick: int) -> World:
    """A push reaches us."""
    pusher = _pusher(world, setting, account)
    times = _times(world, setting)
    push = _loan(account, value, tick)
    in_datasets = dataset_loan_times(_items(world, setting, account), times)
    stored = world.pushes[account]
    pushes = world.pushes
    if push_counts(push, cover_of(pusher, times), in_datasets) and (stored is None or stored[1] < tick):
        pushes = _put(pushes, account, (value, tick))
    return world._replace(
        pushes=pushes,
        base=_put(world.base, account, _newer(world.base[account], (value, tick))),
        maybe=_put(
            world.maybe,
            account,
            frozenset(_newer(told, (value, tick)) for told in world.maybe[account]),
        ),
    )


def extract(world: World, setting: Setting, number: int) -> World:
    """A provider makes a new dataset, all of it at one instant."""
    rows = tuple(_told(world, setting, account, number) for account in range(setting.accounts))
    return _with_side(world, number, world.sides[number]._replace(extract=rows, extracted=world.now))


def fetch(world: World, setting: Setting, number: int, *, clean_up: bool = True, in_full: bool = False) -> World:
    """A dataset is fetched, accepted, loaded and committed."""
    side = world.sides[number]
    assert side.extract is not None
    writing = range(setting.accounts) if in_full else _changing(side)
    earliest, latest = _span(side, setting)
    as_of = None
    if not setting.timestamps_alone:
        as_of = _tick(
            dataset_as_of(earliest, latest, _stamp(side.as_of), _stamp(side.fetch_start), _text(world.now)),
        )
    loaded = side._replace(
        items=_written(side, writing),
        index=tuple(value for value, _ in side.extract),
        pending=frozenset(),
        as_of=as_of,
        fetch_start=world.now,
    )
    told = _by_dataset(side.extract, world, setting, number)
    base = tuple(_newer(old, told[account]) if account in told else old for account, old in enumerate(world.base))
    done = _with_side(world, number, loaded)._replace(base=base, maybe=tuple(frozenset() for _ in base))
    if not clean_up:
        return done
    times = _times(done, setting)
    return done._replace(
        pushes=tuple(
            None
            if push is not None and is_superseded(_text(push[1]), cover_of(_pusher(done, setting, account), times))
            else push
            for account, push in enumerate(done.pushes)
        ),
    )


def _die(world: World, number: int, written: tuple[int, ...], changing: frozenset[int]) -> World:
    """A load dies after it has stored which keys it was about to change, and has changed some of them."""
    side = world.sides[number]
    assert side.extract is not None
    died = side._replace(items=_written(side, written), pending=changing)
    maybe = list(world.maybe)
    for account in written:
        told = side.extract[account]
        maybe[account] |= {_newer(old, told) for old in (world.base[account], *maybe[account])}
    return _with_side(world, number, died)._replace(maybe=tuple(maybe))


# What is shown, and what should be


def shown(world: World, setting: Setting) -> tuple[int, ...]:
    """The value that the product's merge rule shows of each account; 0 for no debt."""
    times = {FI: _times(world, setting)}
    values = []
    for account in range(setting.accounts):
        loans = merge(_items(world, setting, account), times).loans.get(FI, [])
        assert len(loans) <= 1, "one account is shown once"
        values.append(loans[0].loan.balance if loans else 0)
    return tuple(values)


def is_right(world: World, setting: Setting) -> bool:
    """Whether each account shows the newest thing told (or, while a load lies dead, what that load brought)."""
    return all(
        value == world.base[account][0] or value in {told[0] for told in world.maybe[account]}
        for account, value in enumerate(shown(world, setting))
    )


def heals(world: World, setting: Setting, nights: int = 1) -> bool:
    """Whether quiet nights show the truth, and pushes that come after them, ever so late, leave it so."""
    for _ in range(nights):
        for number in range(setting.datasets):
            world = extract(world, setting, number)
        for number in range(setting.datasets):
            world = fetch(world, setting, number)
    if shown(world, setting) != world.truth:
        return False
    for account, value, tick in sorted(world.held):
        world = deliver(world, setting, account, value, tick)
    return shown(world, setting) == world.truth


# The search


class Found(NamedTuple):
    """``histories`` of exactly the given depth, states seen, and a shortest history to each wrong or lasting state."""

    histories: int
    states: int
    wrong: dict[World, tuple[str, ...]]
    lasting: dict[World, tuple[str, ...]]


def search(setting: Setting, depth: int, nights: int = 1) -> Found:
    """Go through all histories of up to ``depth`` events; the wrong states, and those that quiet nights leave wrong."""
    level: dict[World, tuple[int, tuple[str, ...]]] = {start(setting): (1, ())}
    seen: set[World] = set()
    wrong: dict[World, tuple[str, ...]] = {}
    lasting: dict[World, tuple[str, ...]] = {}
    for _ in range(depth + 1):
        following: dict[World, tuple[int, tuple[str, ...]]] = {}
        for world, (histories, story) in level.items():
            if world not in seen:
                seen.add(world)
                if not is_right(world, setting):
                    wrong[world] = story
                if not heals(world, setting, nights):
                    lasting[world] = story
            if len(story) < depth:
                for name, after in events(world, setting):
                    ranked = in_ranks(after)
                    known = following.get(ranked)
                    following[ranked] = (histories + known[0], known[1]) if known else (histories, (*story, name))
        if following:
            level = following
    return Found(sum(histories for histories, _ in level.values()), len(seen), wrong, lasting)


def in_ranks(world: World) -> World:
    """The same world with each tick replaced by its rank among the ticks that still matter."""
    ticks = {0, *world.changed, *(tick for _, _, tick in world.held)}
    ticks.update(told[1] for told in (*world.base, *world.pushes, *(t for m in world.maybe for t in m)) if told)
    for side in world.sides:
        ticks.update(tick for tick in (side.as_of, side.fetch_start, side.extracted) if tick is not None)
        ticks.update(told[1] for rows in (side.items, side.extract, side.begun) for told in rows or () if told)
    rank = {tick: place for place, tick in enumerate(sorted(ticks))}

    def told(old: Told | None) -> Told | None:
        return None if old is None else (old[0], rank[old[1]])

    def rows(old: tuple[Told | None, ...] | None) -> tuple[Told | None, ...] | None:
        return None if old is None else tuple(told(row) for row in old)

    return world._replace(
        now=len(rank),
        changed=tuple(rank[tick] for tick in world.changed),
        sides=tuple(
            side._replace(
                items=rows(side.items),
                as_of=None if side.as_of is None else rank[side.as_of],
                fetch_start=None if side.fetch_start is None else rank[side.fetch_start],
                extract=rows(side.extract),
                extracted=None if side.extracted is None else rank[side.extracted],
                begun=rows(side.begun),
            )
            for side in world.sides
        ),
        pushes=rows(world.pushes),
        held=frozenset((account, value, rank[tick]) for account, value, tick in world.held),
        base=rows(world.base),
        maybe=tuple(frozenset((value, rank[tick]) for value, tick in one) for one in world.maybe),
    )


# Small things


def _newer(old: Told, new: Told) -> Told:
    return new if new[1] >= old[1] else old


def _put[T](values: tuple[T, ...], place: int, value: T) -> tuple[T, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _with_truth(world: World, setting: Setting, account: int, value: int) -> World:
    changed = _put(world.changed, account, world.now) if setting.stamp_changes else world.changed
    return world._replace(now=world.now + 1, truth=_put(world.truth, account, value), changed=changed)


def _with_side(world: World, number: int, side: Side) -> World:
    return world._replace(now=world.now + 1, sides=_put(world.sides, number, side))


def _told(world: World, setting: Setting, account: int, number: int) -> Told:
    """What an extraction now says of an account at a provider; value 0 means that the dataset has no row of it."""
    value = world.truth[account] if world.home[account] == number else 0
    return value, world.changed[account] if setting.stamp_changes and value else world.now


def _by_dataset(rows: tuple[Told, ...], world: World, setting: Setting, number: int) -> dict[int, Told]:
    """What the plain model learns from a dataset: with several providers only the account's home speaks for it."""
    if setting.datasets == 1:
        return dict(enumerate(rows))
    return {account: told for account, told in enumerate(rows) if told[0] or world.home[account] == number}


def _changing(side: Side) -> frozenset[int]:
    """The keys that a load writes or deletes: what differs from the last commit, and whatever is left over."""
    assert side.extract is not None
    differing = {account for account, (value, _) in enumerate(side.extract) if value != side.index[account]}
    return frozenset(differing) | side.pending


def _written(side: Side, accounts: Iterator[int] | tuple[int, ...] | range | frozenset[int]) -> tuple[Told | None, ...]:
    assert side.extract is not None
    items = list(side.items)
    for account in accounts:
        told = side.extract[account]
        items[account] = told if told[0] else None
    return tuple(items)


def _span(side: Side, setting: Setting) -> tuple[str | None, str | None]:
    assert side.extract is not None
    assert side.extracted is not None
    ticks = [tick for value, tick in side.extract if value]
    if setting.steady:
        ticks.append(0 if setting.stamp_changes else side.extracted)
    if setting.lively:
        ticks.append(side.extracted)
    return (_text(min(ticks)), _text(max(ticks))) if ticks else (None, None)


def _pusher(world: World, setting: Setting, account: int) -> str:
    return f"D{world.home[account]}" if setting.own_pushes else PUSHER


def _times(world: World, setting: Setting) -> dict[str, str | None]:
    return {f"D{number}": _stamp(side.as_of) for number, side in enumerate(world.sides)}


def _items(world: World, setting: Setting, account: int) -> list[Item]:
    items: list[Item] = []
    for number, side in enumerate(world.sides):
        told = side.items[account]
        if told is not None:
            items.append(DatasetItem(FI, f"D{number}", (_loan(account, *told),)))
    push = world.pushes[account]
    if push is not None:
        items.append(PushItem(FI, _pusher(world, setting, account), _loan(account, *push)))
    return items


@lru_cache(maxsize=None)
def _loan(account: int, value: int, tick: int) -> RepaymentLoan:
    return RepaymentLoan(f"account-{account}", _text(tick), None, value, value, value, 0, 0, 0)


@lru_cache(maxsize=None)
def _text(tick: int) -> str:
    return f"2026-01-01T00:{tick // 60:02d}:{tick % 60:02d}.0000000Z"


def _stamp(tick: int | None) -> str | None:
    return None if tick is None else _text(tick)


def _tick(text: str) -> int:
    return int(text[14:16]) * 60 + int(text[17:19])
