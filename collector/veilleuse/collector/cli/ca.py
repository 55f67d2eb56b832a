# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse ca show|rotate|switch|retire|cancel|renew-intermediate|import|forget`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.cli.output import read_key, read_pem
from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    day,
    perform,
    print_json,
    print_table,
    settings_of,
)

app = typer.Typer(**APP)

STEP_SECONDS: Final = 60.0
"""A step looks at every machine's certificates: a second or so for ten thousand."""

RootKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--root-key",
        metavar="FILE",
        help="the present root's key (default: ca/root.key, if it is still there)",
    ),
]
NoCrossOption = Annotated[
    bool,
    typer.Option(
        "--no-cross",
        help="without cross certificate, as nobody has the present root's key: the switch waits for all",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="do it, whoever is lost")]


@app.callback()
def ca() -> None:
    """The certificate authority. To replace its root: rotate, then, months later each, switch and retire."""


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every certificate, and how a rotation stands."""
    _print(perform(settings_of(config), "ca_show", timeout_seconds=STEP_SECONDS), as_json)


@app.command()
def rotate(
    config: ConfigOption = None,
    root_key: RootKeyOption = None,
    no_cross: NoCrossOption = False,
    as_json: JsonOption = False,
) -> None:
    """Begin to replace the root. Machines get the next one beside it, from their next certificate on."""
    _step(config, as_json, "ca_rotate", root_key_pem=_key(root_key), cross=not no_cross)


@app.command()
def switch(config: ConfigOption = None, force: ForceOption = False, as_json: JsonOption = False) -> None:
    """Issue under the next root. The old one stays trusted, and the cross certificate leads from it to the next."""
    _step(config, as_json, "ca_switch", force=force)


@app.command()
def retire(config: ConfigOption = None, force: ForceOption = False, as_json: JsonOption = False) -> None:
    """Trust the old root no more. Refused while machines would be lost."""
    _step(config, as_json, "ca_retire", force=force)


@app.command()
def cancel(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Give a rotation up, before its switch."""
    _step(config, as_json, "ca_cancel")


@app.command(name="renew-intermediate")
def renew_intermediate(
    config: ConfigOption = None, root_key: RootKeyOption = None, as_json: JsonOption = False
) -> None:
    """Make a new intermediate under the present root. It issues at once, certificates of the old one stay good."""
    _step(config, as_json, "ca_renew_intermediate", root_key_pem=_key(root_key))


@app.command(name="import")
def import_own(
    certificate: Annotated[
        Path, typer.Option(metavar="FILE", help="the intermediate, then those between it and the root; PEM")
    ],
    key: Annotated[Path, typer.Option(metavar="FILE", help="its key, PEM")],
    root: Annotated[Path, typer.Option(metavar="FILE", help="the organisation's root certificate, PEM")],
    config: ConfigOption = None,
    root_key: RootKeyOption = None,
    no_cross: NoCrossOption = False,
    as_json: JsonOption = False,
) -> None:
    """Issue under an organisation's own intermediate. Another root than the present one begins a rotation."""
    _step(
        config,
        as_json,
        "ca_import",
        certificate_pem=read_pem(certificate),
        key_pem=read_key(key),
        root_pem=read_pem(root),
        root_key_pem=_key(root_key),
        cross=not no_cross,
    )


@app.command()
def forget(
    sha256: Annotated[str, typer.Argument(help="fingerprint of a previous_intermediate, or its beginning")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Disown an earlier intermediate. Its certificates are recognised no more: its key was stolen."""
    _step(config, as_json, "ca_forget", sha256=sha256)


def _key(file: Path | None) -> str | None:
    return None if file is None else read_key(file)


def _step(config: Path | None, as_json: bool, operation: str, **arguments: Any) -> None:
    made = perform(settings_of(config), operation, timeout_seconds=STEP_SECONDS, **arguments)
    _print(made, as_json)
    if as_json:
        return
    print("Make a backup now: one of before this step does not know what it made.", file=sys.stderr)
    if made["root_key_files"]:
        print(
            f"Move off-line (an encrypted stick in a safe): {', '.join(made['root_key_files'])}. The collector needs no root "
            "key, and whoever has one can pose as any machine.",
            file=sys.stderr,
        )


def _print(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(shown)
        return
    rows = [
        {
            "certificate": str(each["role"]).replace("_", " "),
            "ends": day(each["not_after_unix_milliseconds"]),
            "key": str(each["key"]),
            "subject": str(each["subject"]),
            "sha256": str(each["sha256"]),
        }
        for each in shown["certificates"]
    ]
    print_table(rows, empty="")
    print(_advice(shown))


def _advice(shown: dict[str, Any]) -> str:
    """Where it stands, and what comes next."""
    missing, behind = shown["hosts_without_new_root"], shown["hosts_with_old_intermediate"]
    match shown["phase"]:
        case "overlap":
            began = day(shown["began_unix_milliseconds"])
            crossed = shown["cross_certificate"]
            wait = "the cross certificate will lead them" if crossed else "wait for all of them"
            return (
                f"overlap since {began}: {missing} of {shown['hosts']} machine(s) do not have the next root yet ({wait}); "
                "next: veilleuse ca switch"
            )
        case "switched":
            switched = day(shown["switched_unix_milliseconds"])
            return (
                f"switched on {switched}: {missing} of {shown['hosts']} machine(s) do not have the new root yet, {behind} "
                "have a certificate of the old intermediate; at 0 and 0: veilleuse ca retire"
            )
        case _:
            return f"no rotation under way; {shown['hosts']} machine(s)"
