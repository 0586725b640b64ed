"""Financial institutions to try the nightly fetch against: SPEC's three GET endpoints over a synthetic population.

Each institution pages, compresses and writes numbers in its own way, and can be told to misbehave, at the start or
through ``/admin`` while it runs. ``with Simulator(population) as simulator: ...`` runs it in a thread.
"""

from gjeldsbro_simulator.config import Compression, ServedDataset, default_datasets
from gjeldsbro_simulator.faults import Fault
from gjeldsbro_simulator.server import Simulator, Tls
from gjeldsbro_simulator.sources import FolderSource, Source
from gjeldsbro_simulator.world import ServedRequest, World

__all__ = [
    "Compression",
    "Fault",
    "FolderSource",
    "ServedDataset",
    "ServedRequest",
    "Simulator",
    "Source",
    "Tls",
    "World",
    "default_datasets",
]
