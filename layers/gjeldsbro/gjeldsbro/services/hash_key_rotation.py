"""A new key of the keyed hash, from its making to the end of the old one (decision record 0021).

Nobody sees a key: the function makes it, and only functions can read it. It comes into force when everybody who reads
has it; from then on datasets move to it, each with its next load, and pushes stay under the old key until a dataset or
a newer push supersedes them. When nothing of the register is under the old key, it is retired: only records of lookups
are still looked for under it, for as long as they are kept.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from gjeldsbro.domain.customer_keys import FIRST_VERSION, HashKey, HashKeys
from gjeldsbro.domain.identity_numbers import mentions_a_person
from gjeldsbro.domain.timestamps import from_datetime, shorten, to_datetime
from gjeldsbro.errors import ConfigurationError, InvalidMessageError, Violation
from gjeldsbro.services.ports import Dataset
from gjeldsbro.services.trail import Trail

SETTLING = timedelta(minutes=30)
"""From the making of a key to its first use, and from that to the end of the one before.

Secrets are kept for 5 minutes, a function runs for 15 with what it read at its start; clocks may differ by the rest.
"""

KEY_BYTES = 48


class KeyStore(Protocol):
    """Where the keys are kept."""

    def read(self) -> HashKeys:
        """The keys as they are now."""
        ...

    def replace(self, keys: HashKeys) -> None:
        """Store the keys in place of what was there."""
        ...


class RotationPartners(Trail, Protocol):
    """The datasets' records, and the trail."""

    def datasets(self, institution: str | None = None) -> list[Dataset]:
        """All datasets."""
        ...


class OutstandingPushes(Protocol):
    """The pushes that no dataset has superseded."""

    def versions(self) -> Iterable[tuple[str, str]]:
        """Of each: the version of the hash key that it lies under, and ``institution#provider``."""
        ...


@dataclass(frozen=True)
class HashKeyRotation:
    """Makes keys, says what is under which, and retires those that are used no more.

    ``kept`` is how long records of lookups are.
    """

    store: KeyStore
    partners: RotationPartners
    pushes: OutstandingPushes
    kept: timedelta
    clock: Callable[[], datetime]

    def status(self) -> dict[str, Any]:
        """``{"keys": [{version, from, state, retiredAt, datasets, pushes}]}``, the oldest first; no secret.

        ``state``: coming (made, and not in force yet), current, old (readers still ask under it) or retired.
        ``datasets`` are those that have something under it (``institution#provider``); ``pushes`` is how many of each
        ``institution#provider`` lie under it.
        """
        keys, now = self.store.read(), self.clock()
        datasets, pushes = self._used()
        return {
            "keys": [
                {
                    "version": key.version,
                    "from": shorten(key.since) if key.since else None,
                    "state": _state(key, keys, now),
                    "retiredAt": None if key.retired_at is None else shorten(key.retired_at),
                    "datasets": sorted(datasets.get(key.version, ())),
                    "pushes": dict(sorted(pushes.get(key.version, Counter()).items())),
                }
                for key in keys.keys
            ]
        }

    def rotate(self, *, operator: str, reason: str) -> dict[str, Any]:
        """Make a new key; ``{"version", "from"}``. Keys under which no record of a lookup can be any more are dropped.

        Raises ConfigurationError while the newest key is not in force yet.
        """
        keys, now = self.store.read(), self.clock()
        newest = keys.keys[-1]
        if keys.at(now) != newest:
            raise ConfigurationError(
                f"version {newest.version} was made already, and is in force from {shorten(newest.since)}"
            )
        version = str(newest.number + 1)
        self._record(operator, "hash-key rotate", f"hash key {version}", reason, now)
        new = HashKey(version, secrets.token_urlsafe(KEY_BYTES).encode(), from_datetime(now + SETTLING))
        self.store.replace(HashKeys.of(*(key for key in keys.keys if not self._is_forgotten(key, now)), new))
        return {"version": version, "from": shorten(new.since)}

    def finish(self, *, operator: str, reason: str) -> dict[str, Any]:
        """Retire the old keys that are used no more; ``{"retired": [versions], "left": [versions]}``.

        Raises ConfigurationError when none can be retired, and says what is still under them.
        """
        keys, now = self.store.read(), self.clock()
        current = keys.at(now)
        old = [key for key in keys.readable if key.number < current.number]
        if not old:
            raise ConfigurationError("there is no old key to retire")
        settled = to_datetime(current.since) + SETTLING
        if now < settled:
            raise ConfigurationError(
                f"functions may write under the key before until {shorten(from_datetime(settled))}: finish after that"
            )
        datasets, pushes = self._used()
        unused = [key for key in old if not datasets.get(key.version) and not pushes.get(key.version)]
        if not unused:
            first = old[0].version
            raise ConfigurationError(
                f"version {first} is still used: datasets of {_some(datasets.get(first, ()))}; "
                f"pushes of {_some(pushes.get(first, ()))}"
            )
        self._record(operator, "hash-key finish", f"hash key {', '.join(key.version for key in unused)}", reason, now)
        at = from_datetime(now)
        self.store.replace(HashKeys.of(*(key._replace(retired_at=at) if key in unused else key for key in keys.keys)))
        return {
            "retired": [key.version for key in unused],
            "left": [key.version for key in old if key not in unused],
        }

    def _used(self) -> tuple[dict[str, set[str]], dict[str, Counter[str]]]:
        """What lies, or may come to lie, under each version: datasets, and how many pushes of whom."""
        datasets: dict[str, set[str]] = {}
        for dataset in self.partners.datasets():
            for version in _versions(dataset):
                datasets.setdefault(version, set()).add(f"{dataset.institution}#{dataset.provider}")
        pushes: dict[str, Counter[str]] = {}
        for version, subject in self.pushes.versions():
            pushes.setdefault(version, Counter())[subject] += 1
        return datasets, pushes

    def _is_forgotten(self, key: HashKey, now: datetime) -> bool:
        return key.retired_at is not None and to_datetime(key.retired_at) + self.kept < now

    def _record(self, operator: str, action: str, subject: str, reason: str, now: datetime) -> None:
        if not operator.strip() or mentions_a_person(operator):
            raise InvalidMessageError([Violation("/operator", "must name who asks, without an identity number")])
        if not reason.strip() or mentions_a_person(reason):
            raise InvalidMessageError([Violation("/reason", "must say why, without an identity number")])
        self.partners.record_trail(who=operator, action=action, subject=subject, reason=reason, now=now)


def _versions(dataset: Dataset) -> set[str]:
    """The versions under which something of a dataset lies, or is about to be written."""
    found = {one["version"] for one in dataset.retired or ()}
    found |= set() if dataset.key_version is None else {dataset.key_version}
    found |= set() if dataset.rekey is None else {dataset.rekey["version"]}
    return found | (set() if dataset.fetch is None else {dataset.fetch.get("keyVersion", FIRST_VERSION)})


def _state(key: HashKey, keys: HashKeys, now: datetime) -> str:
    if key.retired_at is not None:
        return "retired"
    current = keys.at(now)
    if key == current:
        return "current"
    return "coming" if key.number > current.number else "old"


def _some(subjects: Iterable[str]) -> str:
    found = sorted(subjects)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "") or "nobody"
