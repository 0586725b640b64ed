"""A dataset of 10,000 pages, as many as a fetch takes: how long, and how much memory."""

# ruff: noqa: D102 - services/night/ports.py says what the stores do; the figures are what this is for

import json
import resource
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from random import Random
from typing import IO, Any

from tests.unit.night_world import FI, PROVIDER, World, customer_json, page_json

from gjeldsbro.services.night.fetch import MAX_PAGES
from gjeldsbro.services.night.ports import FetchedPage
from gjeldsbro_population.identity import customer_ids

CUSTOMERS = 100
"""Of a page: a million in all."""

MAX_MEMORY = 400 << 20
"""What the night may take beyond what the test itself had before; a function has 1769 MB."""


class DiskObjects:
    """The data bucket as files, so that what is stored takes no memory."""

    bucket = "data"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.opened = 0

    def _file(self, key: str) -> Path:
        return self._folder / key.replace("/", "|")

    def put(self, key: str, data: bytes) -> None:
        self._file(key).write_bytes(data)

    def put_json(self, key: str, value: Any) -> None:
        self.put(key, json.dumps(value).encode())

    def get_json(self, key: str) -> Any:
        return json.loads(self._file(key).read_bytes())

    def open(self, key: str, *, start: int = 0, chunk: int = 1 << 20) -> Iterator[bytes]:
        path = self._file(key)
        for at in range(start, path.stat().st_size, chunk):
            self.opened += 1
            with path.open("rb") as file:  # as from S3: nothing stays open between the reads
                file.seek(at)
                data = file.read(chunk)
            yield data

    def keys(self, prefix: str) -> Iterator[str]:
        names = sorted(path.name.replace("|", "/") for path in self._folder.iterdir())
        yield from (name for name in names if name.startswith(prefix))

    def delete(self, keys: Iterable[str]) -> int:
        named = list(keys)
        for key in named:
            self._file(key).unlink(missing_ok=True)
        return len(named)

    def delete_prefix(self, prefix: str) -> int:
        return self.delete(list(self.keys(prefix)))

    @contextmanager
    def writer(self, key: str) -> Iterator[IO[bytes]]:
        with self._file(key).open("wb") as file:
            yield file


class CountingRegister:
    """Takes what is written, and keeps nothing of it."""

    def __init__(self) -> None:
        self.puts = 0

    def write_dataset_items(self, institution: str, provider: str, run: str, rows: Iterable[Any]) -> int:
        count = sum(1 for _ in rows)
        self.puts += count
        return count

    def delete_dataset_items(self, institution: str, provider: str, customer_keys: Iterable[bytes]) -> int:
        return sum(1 for _ in customer_keys)

    def delete_superseded_pushes(self, institution: str, provider: str, latest: str, cover: Any) -> int:
        return 0


def peak() -> int:
    """The largest memory that this process has had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_ten_thousand_pages_are_loaded_in_flat_memory(tmp_path, monkeypatch) -> None:
    """A million customers, a hundred a page: every one is written once, and memory does not grow with the pages."""
    world = World()
    objects, register = DiskObjects(tmp_path), CountingRegister()
    monkeypatch.setattr(world, "objects", objects)
    monkeypatch.setattr(world.register, "under", lambda version: register)
    people = customer_ids(Random(11))
    at = (world.now - timedelta(hours=1)).isoformat()

    def page(number: int) -> FetchedPage:
        body = page_json(customer_json(person, 1 + number, timestamp=at) for person in islice(people, CUSTOMERS))
        return FetchedPage(body, str(MAX_PAGES), len(body))

    world.served[FI, PROVIDER] = page
    before = peak()
    took = {}
    for name, step in (("plan", world.plan), ("fetch", world.fetch), ("judge", world.judge), ("load", world.load)):
        began = time.monotonic()
        step("n1")
        took[name] = time.monotonic() - began
        print(f"{name}: {took[name]:.0f} s, {(peak() - before) >> 20} MB more than before, {objects.opened} reads")
        objects.opened = 0
    assert register.puts == MAX_PAGES * CUSTOMERS
    assert peak() - before < MAX_MEMORY
