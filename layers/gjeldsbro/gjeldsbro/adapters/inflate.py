"""Bounded decompression of a body that arrives in pieces."""

import zlib
from io import BytesIO
from typing import Literal

type Encoding = Literal["identity", "deflate", "gzip"]

_STEP = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS


class InvalidStreamError(Exception):
    """The body is not what its encoding says."""


class OversizedError(Exception):
    """The body is larger, or expands more, than allowed."""


class Inflater:
    """Collects a body: ``write`` the pieces as they arrive, ``finish`` gives it inflated.

    ``deflate`` is taken in both of its forms: with zlib's header, as HTTP defines it, and raw, as many servers send it.
    Nothing is inflated beyond ``max_bytes`` or, above ``free_bytes``, beyond ``max_expansion`` times what arrived.
    """

    def __init__(self, encoding: Encoding, max_bytes: int, max_expansion: int, free_bytes: int) -> None:
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._max_expansion = max_expansion
        self._free_bytes = free_bytes
        self._received = 0
        self._start = b""
        self._stream: zlib._Decompress | None = None
        self._body = BytesIO()

    def write(self, data: bytes) -> None:
        """Take the next piece. Raises InvalidStreamError or OversizedError."""
        self._received += len(data)
        if self._encoding == "identity":
            self._keep(data)
            return
        if self._stream is None:
            self._start += data
            if len(self._start) < 2:
                return
            data, self._start = self._start, b""
            self._stream = zlib.decompressobj(self._window(data))
        while data:
            data = self._inflate(data)

    def finish(self) -> bytes:
        """The body. Raises EOFError when the compressed stream is not complete."""
        if self._encoding != "identity" and (self._stream is None or not self._stream.eof):
            raise EOFError
        return self._body.getvalue()

    def _window(self, data: bytes) -> int:
        if self._encoding == "gzip":
            return _GZIP
        # RFC 1950: method 8 in the low bits, and the two bytes together a multiple of 31.
        return zlib.MAX_WBITS if data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0 else -zlib.MAX_WBITS

    def _inflate(self, data: bytes) -> bytes:
        """Inflate one step; returns what is left of ``data``."""
        stream = self._stream
        assert stream is not None
        if stream.eof:
            if self._encoding != "gzip":
                raise InvalidStreamError("nothing must follow the compressed body")
            stream = self._stream = zlib.decompressobj(_GZIP)  # gzip files may have several members
        try:
            self._keep(stream.decompress(data, _STEP))
        except zlib.error:
            raise InvalidStreamError(f"the body must be compressed with {self._encoding}, as its header says") from None
        return stream.unused_data if stream.eof else stream.unconsumed_tail

    def _keep(self, data: bytes) -> None:
        size = self._body.tell() + len(data)
        if size > self._max_bytes:
            raise OversizedError(f"the body must have at most {self._max_bytes >> 20} MiB")
        if size > max(self._free_bytes, self._received * self._max_expansion):
            raise OversizedError(f"the body must expand at most {self._max_expansion} times")
        self._body.write(data)
