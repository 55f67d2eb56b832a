# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the commands share: options, settings, the way to the running collector, output."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.admin_client import TIMEOUT_SECONDS, CollectorNotRunning, ask
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.settings import CollectorSettings, read_settings

APP: Final[dict[str, Any]] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,  # a traceback is for us: it may show what it should not
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
"""Arguments of every typer.Typer here."""

EXIT_WARNINGS: Final = 3
OTHER_USER: Final = "run the command as the collector's user, or as root"
"""What to do about missing rights."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="configuration (default: /etc/veilleuse/collector.toml if it exists)"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


def perform(
    settings: CollectorSettings, operation: str, *, timeout_seconds: float = TIMEOUT_SECONDS, **arguments: Any
) -> Any:
    """An operation of veilleuse.collector.admin: through the running collector, else here, under the directory's lock.

    Raises CollectorError.
    """
    try:
        return ask(settings.data_dir, operation, timeout_seconds=timeout_seconds, **arguments)
    except CollectorNotRunning:
        from veilleuse.collector.assembly import open_collector  # only now: it brings the whole store along

        with open_collector(settings) as collector:
            return json.loads(json.dumps(collector.operations.perform(operation, arguments)))


def settings_of(config: Path | None) -> CollectorSettings:
    """The settings. Raises ConfigurationError."""
    return read_settings(config)


def print_json(value: Any) -> None:
    """One JSON document on standard output; indented for people."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def print_table(rows: list[dict[str, str]], *, empty: str) -> None:
    """Rows with the same keys, as a table on a terminal, as tab-separated lines elsewhere; `empty` when there are none."""
    if not rows:
        print(empty, file=sys.stderr)
        return
    if not sys.stdout.isatty():
        print("\t".join(rows[0]))
        for row in rows:
            print("\t".join(row.values()))
        return
    from rich.console import Console
    from rich.table import Column, Table

    name, *others = rows[0]
    whole = max(
        len(row[name]) for row in rows
    )  # what a row is named by can be copied, however narrow the terminal
    table = Table(Column(name, min_width=whole), *others, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row.values())
    Console(markup=False, highlight=False).print(table)


def moment(unix_milliseconds: int | None) -> str:
    """A UTC time for people; "never" for None."""
    if unix_milliseconds is None:
        return "never"
    return datetime.fromtimestamp(unix_milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def day(unix_milliseconds: int | None) -> str:
    """A UTC date; "never" for None."""
    return "never" if unix_milliseconds is None else moment(unix_milliseconds)[:10]


def write_new_private(path: Path, text: str) -> None:
    """Make a file only its owner can read. Raises CollectorError when it exists or cannot be written."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        what = (
            "is a directory: name a file in it" if path.is_dir() else "exists: remove it, or choose another"
        )
        raise CollectorError(f"{path} {what} with --output") from error
    except OSError as error:
        raise CollectorError(f"cannot write {path}: {error.strerror}; choose another --output") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
