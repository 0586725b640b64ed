"""What Lambda unpacks for each function: its code and its layers, as they are built, beside what it takes at most."""

import io
import zipfile
from functools import lru_cache
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.bench.world import World
from tests.cloudformation import functions

MOST = 250 << 20
"""Bytes that a function may have with its layers, unpacked (docs/limits.md)."""


def package_sizes(world: World, console: Console) -> None:
    """Each function with its layers, bytecode included: what is stored, and what is unpacked."""
    columns = ("layers", "zipped MiB", "unzipped MiB", "of 250 MiB", "")
    table = Table("function", *columns, title="Packages: each function with its layers")
    for function in functions():
        code = world.code(function)
        folders = (code.folder, *code.layers)
        zipped, unzipped = (sum(sizes) for sizes in zip(*map(_sizes, folders), strict=True))
        names = ", ".join(layer.parent.name.removesuffix("Layer").lower() for layer in code.layers)
        figures = (f"{zipped / (1 << 20):.1f}", f"{unzipped / (1 << 20):.1f}", f"{unzipped / MOST:.1%}")
        table.add_row(function.removesuffix("Function"), names, *figures, "met" if unzipped < MOST else "missed")
    console.print(table)


@lru_cache
def _sizes(folder: Path) -> tuple[int, int]:
    """Bytes of a folder, zipped as `sam deploy` does it, and as it is."""
    packed, unzipped = io.BytesIO(), 0
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
                unzipped += file.stat().st_size
    return len(packed.getvalue()), unzipped
