"""The command ``institution-simulator``."""

import argparse
import json
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import get_args

import uvicorn
from pydantic import ValidationError

from gjeldsbro_population.cli import institution_file, moment
from gjeldsbro_population.institutions import SyntheticInstitution
from gjeldsbro_population.population import FIRST_EXTRACTION, Population
from gjeldsbro_population.writers import folder_name
from gjeldsbro_simulator.app import InstitutionApp
from gjeldsbro_simulator.config import default_datasets, read_datasets
from gjeldsbro_simulator.faults import FaultKind
from gjeldsbro_simulator.server import Tls, server_config
from gjeldsbro_simulator.sources import FolderSource, Source
from gjeldsbro_simulator.world import World

_EPILOG = """
Faults: ID=KIND[:STATUS][,page=N][,times=N][,seconds=N], for example 310000019=status:503,times=2 or 310000019=cut.
Kinds: {kinds}. While it runs: PUT /admin/institutions/{ID}/fault with {"kind": "status", "status":
503}, DELETE the same, PATCH /admin/institutions/{ID}, POST /admin/night with {"night": 2, "percent": 1}.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="institution-simulator",
        description="Serve synthetic institutions at {url}/loans/{id}, {url}/loans/{id}/customer and {url}/ssn/{id}.",
        epilog=_EPILOG.replace("{kinds}", " ".join(get_args(FaultKind))),
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8443, help="port to listen on (default 8443; 0: a free one)")
    parser.add_argument("--certificate", type=Path, help="TLS: server certificate (PEM); without it plain http")
    parser.add_argument("--key", type=Path, help="TLS: its private key (PEM)")
    parser.add_argument("--client-ca", type=Path, help="TLS: demand a client certificate of this CA (PEM)")
    parser.add_argument("--no-admin", action="store_true", help="close /admin")
    what = parser.add_argument_group("what to serve")
    what.add_argument("--folder", type=Path, help="datasets written by `gjeldsbro population datasets`")
    what.add_argument("--seed", type=int, default=1, help="else: a population of this seed (default 1)")
    what.add_argument("--people", type=int, default=1000, help="persons in it (default 1000)")
    what.add_argument("--institutions", type=int, default=8, help="institutions in it (default 8)")
    what.add_argument("--extracted-at", type=moment, default=FIRST_EXTRACTION, metavar="TIME")
    what.add_argument("--config", type=Path, help="YAML list of datasets and how each is served (ServedDataset)")
    what.add_argument("--fault", action="append", default=[], metavar="ID=FAULT", help="misbehave from the start")
    what.add_argument(
        "--institution-files", type=Path, metavar="FOLDER", help="write files for `gjeldsbro institution put`"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if bool(options.certificate) != bool(options.key):
        parser.error("--certificate and --key belong together")
    tls = Tls(options.certificate, options.key, options.client_ca) if options.certificate else None
    try:
        world = _world(options)
    except (OSError, ValueError, ValidationError) as exc:
        parser.error(str(exc))
    try:
        listener = socket.create_server((options.host, options.port))
    except OSError as exc:
        print(f"institution-simulator: cannot listen on {options.host}:{options.port}: {exc}", file=sys.stderr)
        return 1
    with listener:
        host, port = listener.getsockname()[:2]
        origin = f"{'https' if tls else 'http'}://{host}:{port}"
        url = f"{origin}/debt-information/v1"
        if options.institution_files:
            _write_institution_files(world, options.institution_files, url)
        served = [dataset.model_dump(exclude_none=True) for dataset in world.datasets()]
        admin = None if options.no_admin else f"{origin}/admin"
        print(json.dumps({"url": url, "admin": admin, "datasets": served}), flush=True)
        app = InstitutionApp(world, admin=not options.no_admin)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(server_config(app, tls=tls)).run([listener])
    return 0


def _write_institution_files(world: World, folder: Path, url: str) -> None:
    providers: dict[str, tuple[str, ...]] = {}
    for dataset in world.datasets():
        providers[dataset.institution] = (*providers.get(dataset.institution, ()), dataset.provider)
    source = world.source
    known = source.institutions if isinstance(source, Population) else ()
    names = {institution.institution: institution.name for institution in known}
    folder.mkdir(parents=True, exist_ok=True)
    for institution, delivering in providers.items():
        described = SyntheticInstitution(institution, names.get(institution, institution), delivering)
        file = folder / f"institution-{folder_name(institution)}.yaml"
        file.write_text(institution_file(described, url), encoding="utf-8")


def _world(options: argparse.Namespace) -> World:
    source: Source
    if options.folder:
        source = FolderSource(options.folder)
        datasets = default_datasets(source.datasets, numbers="integers")
    else:
        source = Population(options.seed, options.people, options.institutions, extracted_at=options.extracted_at)
        datasets = default_datasets(source.datasets)
    world = World(source, read_datasets(options.config) if options.config else datasets)
    for assignment in options.fault:
        institution, _, fault = assignment.partition("=")
        try:
            world.misbehave(institution, fault)
        except KeyError:
            raise ValueError(f"--fault: no institution {institution} here") from None
    return world


if __name__ == "__main__":
    sys.exit(main())
