"""Long lists: the same export as the one of five million numbers in ``make soak``, with fewer."""

from datetime import UTC, datetime
from pathlib import Path

from tests.integration.long_lists import BANK, Export, check_package, measured, write_list

from gjeldsbro.domain.quarter import month_and_year
from gjeldsbro.services.ports import Receiver
from gjeldsbro_local.sftp_server import SftpServer

NUMBERS = 40_000


def test_a_long_list_becomes_a_package_in_flat_memory(tmp_path: Path) -> None:
    """Each number once, in order, with what it owes; invalid and repeated ones are reported and nowhere else."""
    with SftpServer(tmp_path / "receiver") as server:
        write_list(server.folder / f"{BANK}.txt", NUMBERS)
        receiver = Receiver(BANK, "Bank", (BANK,), server.url, (server.host_key,), "secret")
        export = Export(tmp_path / "store", receiver, server.private_key_file.read_text())
        export.plan()
        assert export.read()
        built = measured(export.build)
        delivered = measured(export.deliver)
    assert delivered.result["status"] == "delivered"
    assert delivered.result["customers"] == NUMBERS
    assert max(built.megabytes, delivered.megabytes) < 200
    check_package(server.folder / f"{BANK}.gzip", NUMBERS)
    month, year = month_and_year(datetime.now(UTC))
    report = (server.folder / f"{BANK}-{BANK}-{month}-{year}-progress-report.txt").read_text().splitlines()
    assert report[3:6] == [
        f"Numbers in list: {NUMBERS + 440}",
        f"Numbers in package: {NUMBERS}",
        "Invalid numbers: 400",
    ]
