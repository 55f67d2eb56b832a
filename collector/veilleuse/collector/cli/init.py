# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veilleuse.collector import clock
from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    load_settings,
    print_facts,
    print_json,
    print_note,
    print_text,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.settings import CollectorSettings

if TYPE_CHECKING:
    from veilleuse.collector.app.data_directory import InitResult
    from veilleuse.collector.enrolment.external_ca import ExternalCa

app = typer.Typer(**APP)

CaCertificateOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help=(
            "PEM: intermediate of an organisation's own authority, then those up to its root; no authority "
            "is made here"
        ),
    ),
]
CaKeyOption = Annotated[Path | None, typer.Option(metavar="FILE", help="PEM: key of that intermediate")]
CaRootOption = Annotated[Path | None, typer.Option(metavar="FILE", help="PEM: its root certificate")]


@app.command()
def init(
    config: ConfigOption = None,
    site: Annotated[str | None, typer.Option(help="first site to make, with the default timetable")] = None,
    zone: Annotated[str | None, typer.Option(help="grid zone of that site (default: reporting.zone)")] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="IANA time zone of that site (default: reporting.time_zone)")
    ] = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="do nothing when the directory is initialised already")
    ] = False,
    simulated: Annotated[
        bool,
        typer.Option(
            "--simulated",
            help="for tests and demonstrations: fake sources are accepted, and all outputs say so",
        ),
    ] = False,
    new_data: Annotated[
        bool,
        typer.Option(
            "--new-data", help="replace a lost data.db or identity.db by an empty one: only without a backup"
        ),
    ] = False,
    ca_certificate: CaCertificateOption = None,
    ca_key: CaKeyOption = None,
    ca_root: CaRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the data directory. It gets both databases, the certificate authority and the fleet key."""
    settings = load_settings(config)
    if site is None and (zone or time_zone):
        raise UsageError("--zone and --time-zone belong to a site: give --site NAME too")
    from veilleuse.collector.app.data_directory import initialise, is_initialised

    if if_missing and is_initialised(settings.data_dir):
        _print_present(settings.data_dir, as_json)
        return
    brought = _read_external_ca(settings, ca_certificate, ca_key, ca_root)
    made = initialise(
        settings,
        site=site,
        zone=zone,
        time_zone=time_zone,
        simulated=simulated,
        external=brought,
        new_data=new_data,
    )
    _print(made, as_json)


def _print_present(data_dir: Path, as_json: bool) -> None:
    if as_json:
        print_json({"data_dir": str(data_dir), "created": False})
    else:
        print_text(f"data directory   {data_dir} is initialised already: nothing was changed")


def _print(made: InitResult, as_json: bool) -> None:
    if as_json:
        facts = {
            "data_dir": str(made.data_dir),
            "created": True,
            "ca_sha256": made.ca_sha256,
            "site": made.site,
        }
        print_json({**facts, "root_key": None if made.root_key is None else str(made.root_key)})
        return
    told = {"data directory": str(made.data_dir), "ca_sha256": made.ca_sha256}
    if made.root_key is None:
        print_facts(told, 16)
        return
    print_facts({**told, "root key": str(made.root_key)}, 16)
    print_note(
        "Move the root key off-line now (an encrypted stick in a safe): the collector never needs it, and "
        "anyone who has it can pose as any machine."
    )


def _read_external_ca(
    settings: CollectorSettings, certificate: Path | None, key: Path | None, root: Path | None
) -> ExternalCa | None:
    """Read and check the organisation's own intermediate; None without these options. Raises UsageError."""
    if certificate is None or key is None or root is None:
        if (certificate, key, root) != (None, None, None):
            raise UsageError("--ca-certificate, --ca-key and --ca-root go together: give all three, or none")
        return None
    from veilleuse.collector.cli.output import read_key, read_pem
    from veilleuse.collector.enrolment.external_ca import read_external_ca, try_handshake

    now = clock.now()
    brought = read_external_ca(
        read_pem(certificate).encode(), read_key(key).encode(), read_pem(root).encode(), now
    )
    try_handshake(brought, settings.pki.server_names, now)
    return brought
