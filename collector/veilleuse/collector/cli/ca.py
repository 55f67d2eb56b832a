# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse ca show|rotate|switch|retire|cancel|renew-intermediate|import|forget`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.cli.output import read_key, read_pem
from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    day,
    load_settings,
    print_json,
    print_note,
    print_table,
    print_text,
    run_operation,
)

app = typer.Typer(**APP)

STEP_SECONDS: Final = 60.0
"""Longest wait for a step: it reads the certificates of every machine, about a second for ten thousand."""

RootKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--root-key",
        metavar="FILE",
        help="key of the present root (default: ca/root.key, if it is still there)",
    ),
]
NoCrossOption = Annotated[
    bool,
    typer.Option(
        "--no-cross",
        help=(
            "make no cross certificate, if the present root's key is lost: the switch waits for all machines"
        ),
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="do it even if machines lose their access")]


@app.callback()
def ca() -> None:
    """Show the certificate authority or replace its root.

    Steps, with months between: rotate, switch, retire.
    """


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every certificate, and the state of a rotation."""
    _print(run_operation(load_settings(config), "ca_show", timeout_seconds=STEP_SECONDS), as_json)


@app.command()
def rotate(
    config: ConfigOption = None,
    root_key: RootKeyOption = None,
    no_cross: NoCrossOption = False,
    as_json: JsonOption = False,
) -> None:
    """Begin to replace the root. Machines also get the next root, with their next certificate."""
    _run_step(config, as_json, "ca_rotate", root_key_pem=_read_optional_key(root_key), cross=not no_cross)


@app.command()
def switch(config: ConfigOption = None, force: ForceOption = False, as_json: JsonOption = False) -> None:
    """Issue under the next root.

    The old root stays trusted; the cross certificate leads from it to the next root.
    """
    _run_step(config, as_json, "ca_switch", force=force)


@app.command()
def retire(config: ConfigOption = None, force: ForceOption = False, as_json: JsonOption = False) -> None:
    """Stop trusting the old root. Refused while machines would lose their access."""
    _run_step(config, as_json, "ca_retire", force=force)


@app.command()
def cancel(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Cancel a rotation, before its switch."""
    _run_step(config, as_json, "ca_cancel")


@app.command(name="renew-intermediate")
def renew_intermediate(
    config: ConfigOption = None, root_key: RootKeyOption = None, as_json: JsonOption = False
) -> None:
    """Make a new intermediate under the present root.

    It issues at once; certificates of the old one stay valid.
    """
    _run_step(config, as_json, "ca_renew_intermediate", root_key_pem=_read_optional_key(root_key))


@app.command(name="import")
def import_own(
    certificate: Annotated[
        Path, typer.Option(metavar="FILE", help="PEM: the intermediate, then those between it and the root")
    ],
    key: Annotated[Path, typer.Option(metavar="FILE", help="PEM: key of that intermediate")],
    root: Annotated[Path, typer.Option(metavar="FILE", help="PEM: the organisation's root certificate")],
    config: ConfigOption = None,
    root_key: RootKeyOption = None,
    no_cross: NoCrossOption = False,
    as_json: JsonOption = False,
) -> None:
    """Issue under an organisation's own intermediate. A root other than the present one begins a rotation."""
    _run_step(
        config,
        as_json,
        "ca_import",
        certificate_pem=read_pem(certificate),
        key_pem=read_key(key),
        root_pem=read_pem(root),
        root_key_pem=_read_optional_key(root_key),
        cross=not no_cross,
    )


@app.command()
def forget(
    sha256: Annotated[
        str, typer.Argument(help="fingerprint of a previous_intermediate, or its first digits")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject certificates of an earlier intermediate. For a key that was stolen."""
    _run_step(config, as_json, "ca_forget", sha256=sha256)


def _read_optional_key(file: Path | None) -> str | None:
    return None if file is None else read_key(file)


def _run_step(config: Path | None, as_json: bool, operation: str, **arguments: Any) -> None:
    made = run_operation(load_settings(config), operation, timeout_seconds=STEP_SECONDS, **arguments)
    _print(made, as_json)
    if as_json:
        return
    print_note("Make a backup now: an earlier one does not have the keys of this step.")
    if made["root_key_files"]:
        print_note(
            f"Move off-line (an encrypted stick in a safe): {', '.join(made['root_key_files'])}. The "
            "collector needs no root key, and anyone who has one can pose as any machine."
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
    print_text(_advice(shown))


def _advice(shown: dict[str, Any]) -> str:
    """Return the state of a rotation, and the next step."""
    missing, behind = shown["hosts_without_new_root"], shown["hosts_with_old_intermediate"]
    match shown["phase"]:
        case "overlap":
            began = day(shown["began_unix_milliseconds"])
            crossed = shown["cross_certificate"]
            wait = "the cross certificate will lead them" if crossed else "wait for all of them"
            return (
                f"overlap since {began}: {missing} of {shown['hosts']} machine(s) do not have the next root "
                f"yet ({wait}); next: veilleuse ca switch"
            )
        case "switched":
            switched = day(shown["switched_unix_milliseconds"])
            return (
                f"switched on {switched}: {missing} of {shown['hosts']} machine(s) do not have the new root "
                f"yet, {behind} have a certificate of the old intermediate; at 0 and 0: veilleuse ca retire"
            )
        case _:
            return f"no rotation under way; {shown['hosts']} machine(s)"
