"""The files in which a fetch keeps pages, how they are merged, and how single records are read from them.

Some hundred files are merged at once, whatever the number of pages: more pages than that are merged in groups as they
come, rows and records, and in the end the groups. So memory stays flat, and an invocation that is killed repeats one
group at most.
"""

from collections.abc import Iterator
from itertools import batched
from typing import Any

from gjeldsbro.domain.dataset_index import (
    GROUP_ROW_SIZE,
    KEY_SIZE,
    PAGE_ROW_SIZE,
    Duplicates,
    Place,
    blocks,
    dataset_rows,
    merge_files,
    merge_group,
    numbered,
    rows,
)
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.night.common import Job
from gjeldsbro.services.night.ports import Objects

MERGE_WIDTH = 256
"""Files that are merged at once."""

CHUNK_BUDGET = 64 << 20
"""Bytes of rows that a merge reads ahead in all its files together."""

_AT_ONCE = 4096

WINDOW_BUDGET = 64 << 20
"""Bytes that all windows may take together; each has 64 KiB at least, and there are no more than MERGE_WIDTH."""


def stored_by(cursor: dict[str, Any], pages: int) -> list[str]:
    """For each page of a fetch, the token of the invocation that stored it.

    Two invocations of a run may fetch the same page, at two times; the records of the one never stand under rows of the
    other. A cursor says from which page on an invocation stored them.
    """
    tokens = [""] * pages
    for first, token in cursor.get("storedBy", ()):
        tokens[first:] = [token] * (pages - first)
    return tokens


def record_files(job: Job, cursor: dict[str, Any]) -> list[str]:
    """The files with records that the rows of a fetched dataset point to, in the order of their numbers."""
    if cursor.get("groups"):
        return [job.group_records_key(group, by) for group, by in enumerate(cursor["groups"])]
    return [job.records_key(page, by) for page, by in enumerate(stored_by(cursor, int(cursor["pages"])))]


def groups_due(cursor: dict[str, Any]) -> int:
    """How many groups of pages a fetch should have merged by now."""
    pages, there = int(cursor["pages"]), int(cursor["nextPage"])
    if pages <= MERGE_WIDTH:
        return 0
    return -(-pages // MERGE_WIDTH) if there == pages else there // MERGE_WIDTH


def merge_next_group(job: Job, cursor: dict[str, Any], by: str, objects: Objects, duplicates: Duplicates) -> None:
    """Merge the pages of the group that is due, rows and records, into files of the invocation with token ``by``."""
    group, pages = len(cursor["groups"]), int(cursor["pages"])
    first, last = group * MERGE_WIDTH, min((group + 1) * MERGE_WIDTH, pages)
    files = list(enumerate(stored_by(cursor, pages)))[first:last]
    records = Records([job.records_key(page, of) for page, of in files], objects)
    page_rows = [
        numbered(_rows(objects, job.rows_key(page, of), PAGE_ROW_SIZE, last - first), page) for page, of in files
    ]
    merged = merge_group(page_rows, lambda key, place: key + records.read(key, place), duplicates)
    with (
        objects.writer(job.group_rows_key(group, by)) as rows_writer,
        objects.writer(job.group_records_key(group, by)) as records_writer,
    ):
        for some in batched(merged, _AT_ONCE, strict=False):
            rows_writer.write(b"".join([row for row, _ in some]))
            records_writer.write(b"".join([record for _, record in some]))


def merge(job: Job, cursor: dict[str, Any], objects: Objects, duplicates: Duplicates) -> None:
    """Merge all pages, or groups of them, into the dataset's rows."""
    groups, pages = cursor["groups"], int(cursor["pages"])
    if groups:
        keys = [job.group_rows_key(group, by) for group, by in enumerate(groups)]
        files = [_rows(objects, key, GROUP_ROW_SIZE, len(keys)) for key in keys]
    else:
        keys = [job.rows_key(page, by) for page, by in enumerate(stored_by(cursor, pages))]
        files = [numbered(_rows(objects, key, PAGE_ROW_SIZE, pages), page) for page, key in enumerate(keys)]
    with objects.writer(job.dataset_key) as writer:
        for block in blocks(dataset_rows(merge_files(files, duplicates))):
            writer.write(block)


def _rows(objects: Objects, key: str, size: int, files: int) -> Iterator[bytes]:
    return rows(objects.open(key, chunk=max(1 << 16, min(1 << 20, CHUNK_BUDGET // files))), size)


class Records:
    """Reads single records of files in the order of their offsets, through a window that moves over each file."""

    def __init__(self, files: list[str], objects: Objects) -> None:
        self._files = files
        self._objects = objects
        self._size = max(1 << 16, min(1 << 20, WINDOW_BUDGET // max(1, len(files))))
        self._windows: dict[int, tuple[int, bytes, Iterator[bytes]]] = {}

    def read(self, key: bytes, place: Place) -> bytes:
        """The encoded loans of a customer.

        Raises ConfigurationError when its file is no longer stored whole, or is not the one that was merged: whatever
        may have happened to the file, nobody may get another one's loans by that.
        """
        start, data, chunks = self._windows.get(place.file, (0, b"", iter(())))
        last = place.offset + place.length
        if not start <= place.offset <= start + len(data) + self._size or not data:
            file = self._files[place.file]
            start, data, chunks = place.offset, b"", self._objects.open(file, start=place.offset, chunk=self._size)
        try:
            while start + len(data) < last:
                kept = max(0, place.offset - start)
                start, data = start + min(kept, len(data)), data[kept:] + next(chunks)
        except (KeyError, StopIteration):
            raise ConfigurationError(f"file {place.file} of the pages is missing in the data bucket") from None
        self._windows[place.file] = (start, data, chunks)
        record = data[place.offset - start : last - start]
        if record[:KEY_SIZE] != key:
            raise ConfigurationError(
                f"file {place.file} of the pages in the data bucket is not the one that was merged"
            )
        return record[KEY_SIZE:]
