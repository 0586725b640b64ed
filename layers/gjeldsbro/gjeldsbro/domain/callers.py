"""Who calls the API: what its client certificate says (design decision 8)."""

from datetime import datetime
from typing import NamedTuple


class Caller(NamedTuple):
    """The owner of a client certificate that may be used for what we need it for.

    ``organisation`` is the organizationIdentifier of ETSI EN 319 412-1 (``NTRNO-920013015``), also where the
    certificate says it in an older way. ``issuer`` stands for the certificate's issuer: the SHA-256 of its DER name, in
    hexadecimal digits; with ``serial`` it tells the certificate from all others.
    """

    organisation: str
    issuer: str
    serial: int
    not_after: datetime
