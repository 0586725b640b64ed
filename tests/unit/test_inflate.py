"""Bounded decompression."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.adapters.inflate import Inflater, InvalidStreamError, OversizedError

BODY = b'{"providerID":"9908:920013015","customers":[]}' * 50


def packed(form: str, body: bytes) -> bytes:
    """``body`` in one of the forms that servers send."""
    match form:
        case "zlib":
            return zlib.compress(body)
        case "raw":
            stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            return stream.compress(body) + stream.flush()
        case "stored":
            stream = zlib.compressobj(0, wbits=-zlib.MAX_WBITS)
            return stream.compress(body) + stream.flush()
        case "gzip":
            return gzip.compress(body)
        case "members":
            return gzip.compress(body[:100]) + gzip.compress(body[100:])
        case _:
            return body


ENCODINGS = {
    "zlib": "deflate",
    "raw": "deflate",
    "stored": "deflate",
    "gzip": "gzip",
    "members": "gzip",
    "plain": "identity",
}


@given(form=st.sampled_from(sorted(ENCODINGS)), body=st.binary(max_size=3000), size=st.integers(1, 500))
def test_every_form_comes_back_whole_in_whatever_pieces_it_arrives(form, body, size) -> None:
    """zlib, raw deflate, gzip with one member or more, and nothing at all; cut anywhere."""
    data = packed(form, body)
    inflater = Inflater(ENCODINGS[form], 1 << 20, 100, 1 << 20)
    for at in range(0, len(data), size):
        inflater.write(data[at : at + size])
    assert inflater.finish() == body


@pytest.mark.parametrize("form", ["zlib", "raw", "gzip"])
def test_a_stream_that_breaks_off_is_not_a_body(form) -> None:
    """A truncated page must be fetched again, not parsed."""
    inflater = Inflater(ENCODINGS[form], 1 << 20, 100, 1 << 20)
    inflater.write(packed(form, BODY)[:-3])
    with pytest.raises(EOFError):
        inflater.finish()


def test_no_body_at_all_is_not_a_compressed_one() -> None:
    """An empty body with a deflate header broke off."""
    with pytest.raises(EOFError):
        Inflater("deflate", 1 << 20, 100, 1 << 20).finish()


@pytest.mark.parametrize(
    ("encoding", "data"), [("deflate", BODY), ("gzip", BODY), ("deflate", b"x" + zlib.compress(BODY))]
)
def test_what_is_not_compressed_as_said_is_refused(encoding, data) -> None:
    """A header that lies is a fault of the server, not ours to guess around."""
    with pytest.raises(InvalidStreamError):
        Inflater(encoding, 1 << 20, 100, 1 << 20).write(data)


def test_bytes_after_a_deflate_stream_are_refused() -> None:
    """What follows the end would be dropped unseen."""
    with pytest.raises(InvalidStreamError):
        Inflater("deflate", 1 << 20, 100, 1 << 20).write(zlib.compress(BODY) + b"more")


def test_a_page_is_bounded_in_bytes() -> None:
    """Also when it is not compressed."""
    with pytest.raises(OversizedError, match="at most 1 MiB"):
        Inflater("identity", 1 << 20, 100, 1 << 20).write(bytes((1 << 20) + 1))


def test_a_bomb_is_stopped_by_its_expansion_long_before_memory_is_full() -> None:
    """A few kilobytes that become gigabytes: refused at the free size, not at the end."""
    bomb = zlib.compress(bytes(64 << 20), 9)
    inflater = Inflater("deflate", 1 << 30, 100, 8 << 20)
    with pytest.raises(OversizedError, match="must expand at most 100 times"):
        inflater.write(bomb)
    assert inflater._body.tell() <= 9 << 20
