"""What is kept of a revocation list: a digest of each revoked serial number, in sixteen chunks.

Whoever asks for one certificate reads one chunk. Eight bytes of SHA-256 tell serial numbers apart well enough: with a
million revoked certificates, a good one is taken for one of them with a probability of 1 : 10^13.
"""

from bisect import bisect_left
from collections.abc import Iterable
from hashlib import sha256

DIGEST_SIZE = 8
CHUNKS = "0123456789abcdef"
"""The names of the chunks: the first hexadecimal digit of the digests in it."""


def digest_of(serial: int) -> bytes:
    """The digest of a certificate's serial number (any integer: some authorities have issued negative ones)."""
    return sha256(f"{serial:x}".encode()).digest()[:DIGEST_SIZE]


def chunk_of(serial: int) -> str:
    """The chunk that a serial number belongs to."""
    return digest_of(serial).hex()[0]


def chunks_of(serials: Iterable[int]) -> dict[str, bytes]:
    """All sixteen chunks of a list: in each, the digests in order, without anything between them."""
    digests: dict[str, set[bytes]] = {name: set() for name in CHUNKS}
    for serial in serials:
        digest = digest_of(serial)
        digests[digest.hex()[0]].add(digest)
    return {name: b"".join(sorted(found)) for name, found in digests.items()}


def holds(chunk: bytes, serial: int) -> bool:
    """Whether a serial number is one of those in its chunk."""
    digest = digest_of(serial)
    places = range(len(chunk) // DIGEST_SIZE)
    place = bisect_left(places, digest, key=lambda number: _digest_at(chunk, number))
    return place < len(places) and _digest_at(chunk, place) == digest


def _digest_at(chunk: bytes, place: int) -> bytes:
    return chunk[place * DIGEST_SIZE : (place + 1) * DIGEST_SIZE]
