"""A server on loopback that publishes an authority's revocation list, or whatever a test wants it to."""

from pathlib import Path
from typing import Any

from tests.integration.raw_server import RawServer, answer
from tests.revocation_lists import make_list

from gjeldsbro_local.certificates import Issued


class RevocationServer(RawServer):
    """Serves ``response`` at every address: at first the authority's list with the serial number 7."""

    def __init__(self, authority: Issued, folder: Path) -> None:
        super().__init__(lambda stream, _: stream.sendall(self.response), folder=folder)
        self.authority = authority
        self.response = b""
        self.give(7)

    def give(self, *serials: int, authority: Issued | None = None, **values: Any) -> None:
        """Serve a list from now on (see ``make_list``)."""
        data = make_list(authority or self.authority, serials, **values)
        self.response = answer(data, Content_Type="application/pkix-crl")
