"""The longest list that is to be expected: five million numbers, more than the country has adults."""

from pathlib import Path

from tests.integration.long_lists import BANK, Export, check_package, measured, write_list

from gjeldsbro.services.export.read_lists import BATCH_SIZE
from gjeldsbro.services.ports import Receiver
from gjeldsbro_local.sftp_server import SftpServer

NUMBERS = 5_000_000
FUNCTION_SECONDS, FUNCTION_MEGABYTES = 900, 1769


def test_a_list_of_five_million_numbers_is_read_built_and_delivered(tmp_path: Path) -> None:
    """Each step fits one function with room to spare, in time and in memory, and the package is right to the last."""
    with SftpServer(tmp_path / "receiver") as server:
        size = write_list(server.folder / f"{BANK}.txt", NUMBERS)
        receiver = Receiver(BANK, "Bank", (BANK,), server.url, (server.host_key,), "secret")
        export = Export(tmp_path / "store", receiver, server.private_key_file.read_text())
        export.plan()
        read = measured(export.read)
        built = measured(export.build)
        delivered = measured(export.deliver)
    outcome = delivered.result
    print(f"\n5 million numbers, a list of {size / 1e6:.0f} MB, a package of {outcome['bytes'] / 1e6:.0f} MB")
    for name, step in (("read", read), ("build", built), ("deliver", delivered)):
        print(f"  {name:8}{step.seconds:6.0f} s, {step.processor:.0f} s of the processor, {step.megabytes:.0f} MB")
    print(f"  the slowest slice of {-(-NUMBERS // BATCH_SIZE)} took {built.result:.2f} s")
    assert (outcome["status"], outcome["customers"]) == ("delivered", NUMBERS)
    check_package(server.folder / f"{BANK}.gzip", NUMBERS)
    for step in (read, delivered):
        assert step.seconds < FUNCTION_SECONDS
    for step in (read, built, delivered):
        assert step.megabytes < FUNCTION_MEGABYTES / 2
