# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse verify FILE|YEAR`.

A file needs only its .sig and the public key; a year needs the data directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    load_settings,
    print_json,
)
from veilleuse.collector.closed_years.signatures import parse_public_key
from veilleuse.collector.closed_years.verify import Verification, verify_file, verify_year
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.store import open_reader
from veilleuse.wire.files import read_named

app = typer.Typer(**APP)

KEY_BYTES: Final = 64 * 1024
"""Largest file with a public key."""


@app.command()
def verify(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|YEAR",
            help=(
                "a file such as closed/2026-r1.json, with its .sig beside it; or a year of the data directory"
            ),
        ),
    ],
    key: Annotated[
        str,
        typer.Option(metavar="KEY", help="public key: 64 hexadecimal digits, or a PEM file"),
    ] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the signature of a closed year. Its figures are computed again from its statistics."""
    if what.isdecimal() and len(what) == 4 and not Path(what).exists():
        if key:
            raise UsageError("--key is for a file: a year is checked with the key of its data directory")
        settings = load_settings(config)
        with open_reader(settings.data_dir) as store:
            found = verify_year(store.closings, settings.data_dir, int(what))
    else:
        found = [verify_file(Path(what), _key(key) if key else None)]
    if as_json:
        print_json([one.document() for one in found])
    else:
        for one in found:
            _print(one)
    wrong = [one for one in found if one.wrong]
    if wrong:
        raise AdminError(f"{wrong[0].name} does not verify: {wrong[0].wrong[0]}")
    if any(one.notes for one in found):
        raise typer.Exit(EXIT_WARNINGS)


def _key(text: str) -> str:
    path = Path(text)
    if path.exists():
        try:
            text = read_named(path, KEY_BYTES).decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not plain text"
            raise UsageError(f"cannot read {path}: {why}; name the PEM file of the public key") from error
    return parse_public_key(text)


def _print(one: Verification) -> None:
    for reason in one.wrong:
        print(f"{one.name}: WRONG: {reason}")
    for note in one.notes:
        print(f"{one.name}: note: {note}")
    if one.closed is None or one.wrong:
        return
    closed_year = one.closed.closed_year
    print(f"{one.name}: verified: {closed_year.report_id} {closed_year.state}, sha256 {closed_year.sha256}")
    for total in one.closed.report["figures"]["totals"]:
        print(
            f"  {total['period_from'][:4]}: {total.get('kwh_total', '')} kWh, "
            f"{total.get('kgco2e_total', '')} kgCO2e"
        )
