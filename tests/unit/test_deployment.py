"""What is done to a build before it is deployed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gjeldsbro_local.deployment import DeploymentError, add_bytecode


def test_bytecode_is_used_whatever_time_a_package_gives_the_source(tmp_path: Path) -> None:
    """SAM's packages date all files to 1980: bytecode of the ordinary form would be thrown away at each cold start."""
    package = tmp_path / "package"
    package.mkdir()
    module = package / "module.py"
    module.write_text("VALUE = 'compiled'")

    add_bytecode(tmp_path)
    module.write_text("VALUE = 'source'")
    os.utime(module, (315532800, 315532800))

    command = [sys.executable, "-c", "from package.module import VALUE; print(VALUE)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "compiled\n"


def test_what_does_not_compile_is_not_deployed(tmp_path: Path) -> None:
    """A module that cannot be imported is found before anybody waits for it."""
    (tmp_path / "broken.py").write_text("def")

    with pytest.raises(DeploymentError):
        add_bytecode(tmp_path)
