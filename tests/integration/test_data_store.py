"""The data bucket on moto."""

import pytest
from tests.integration.aws_faults import AwsFaults, at, error_answer, truncated

from gjeldsbro.adapters.data_store import PART_SIZE, READ_TRIES, DataStore, Writer
from gjeldsbro.errors import StoreUnavailableError


@pytest.mark.parametrize("size", [0, 1, PART_SIZE - 1, PART_SIZE, 2 * PART_SIZE + 5])
def test_what_is_written_in_pieces_is_read_in_pieces(store: DataStore, size: int) -> None:
    """An object written in pieces of any size comes back byte for byte, from any start."""
    data = bytes(index % 251 for index in range(size))
    with store.writer("object") as writer:
        for start in range(0, size, 3 << 20):
            writer.write(data[start : start + (3 << 20)])

    assert writer.size == size
    assert store.size("object") == size
    assert b"".join(store.open("object", chunk=1 << 19)) == data
    assert b"".join(store.open("object", start=size // 2)) == data[size // 2 :]


@pytest.mark.parametrize("size", [10, PART_SIZE + 1])
def test_a_failed_writer_leaves_nothing(store: DataStore, size: int) -> None:
    """An error while writing leaves neither an object nor parts that cost money."""
    with pytest.raises(RuntimeError), store.writer("object") as writer:
        _write_and_fail(writer, size)

    assert not store.exists("object")
    assert "Uploads" not in store._client.list_multipart_uploads(Bucket=store.bucket)


def test_a_missing_object_is_a_key_error(store: DataStore) -> None:
    """Whatever way an object is read, its absence has one name."""
    for read in (store.get, store.get_json, store.size, lambda key: next(store.open(key))):
        with pytest.raises(KeyError):
            read("nothing")


def test_everything_under_a_prefix_is_deleted_and_nothing_else(store: DataStore) -> None:
    """Deleting a run's files takes more than one request's worth of keys and leaves its neighbours."""
    for number in range(1003):
        store.put(f"runs/1/{number:04d}", b"")
    store.put_json("runs/10/a", {"ø": 1})

    assert store.delete_prefix("runs/1/") == 1003
    assert list(store.keys("runs/")) == ["runs/10/a"]
    assert store.get_json("runs/10/a") == {"ø": 1}


def test_an_object_that_always_breaks_off_is_a_fault_that_passes(store: DataStore, monkeypatch) -> None:
    """S3 closes the connection in the middle of every answer: after a few tries the step is tried again later."""
    store.put("object", b"12345678")
    faults = AwsFaults(monkeypatch).install()
    faults.fault = truncated
    with pytest.raises(StoreUnavailableError):
        store.get("object")
    assert faults.count == READ_TRIES
    faults.fault = at(READ_TRIES + 1, truncated)
    assert b"".join(store.open("object", chunk=4)) == b"12345678"


def test_an_upload_that_s3_knows_no_more_is_tried_again(store: DataStore, monkeypatch) -> None:
    """The answer to the end of an upload was lost, and S3 has forgotten it by the next try: a fault that passes."""
    faults = AwsFaults(monkeypatch).install()

    def forget(call, request, answer):
        found = answer()
        return error_answer(call, request, "forgotten") if call.operation == "CompleteMultipartUpload" else found

    faults.fault = forget
    with pytest.raises(StoreUnavailableError), store.writer("object") as writer:
        writer.write(bytes(PART_SIZE + 1))
    assert store.size("object") == PART_SIZE + 1


def _write_and_fail(writer: Writer, size: int) -> None:
    writer.write(bytes(size))
    raise RuntimeError
