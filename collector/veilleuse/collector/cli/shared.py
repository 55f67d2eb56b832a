# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Functions for all commands: options, settings, requests to the running collector, output."""

from __future__ import annotations

import getpass
import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from veilleuse.collector.cli.language import shows_french, translate, translate_cell, translate_lines
from veilleuse.collector.errors import CollectorError, UsageError
from veilleuse.collector.ipc import TIMEOUT_SECONDS, CollectorNotRunning, ask, pieces_of
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.query import check_day
from veilleuse.collector.settings import CollectorSettings, read_settings
from veilleuse.wire.files import TooLong, read_named
from veilleuse.wire.limits import AGENT_ID_DIGITS
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.values import parse_day

APP: Final[dict[str, Any]] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,  # such a traceback shows local variables, secrets too
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
"""Arguments of every typer.Typer of the commands."""

EXIT_WARNINGS: Final = 3
_NUMBER: Final = re.compile(
    r"–|[-+−<>±]*\d[\d.,\s]*(e[-+]?\d+)?(\s?(%|‰|[kM]?Wh?|[BkMGT]i?[Bo]|[mkt]?gCO₂e))?"
)
"""Cells that are aligned to the right."""
_YES: Final = frozenset({"y", "yes", "o", "oui"})
_GAP: Final = 2
"""Columns of a terminal between two columns of a table."""
_NAMED: Final = 3
OTHER_USER: Final = "run the command as the collector's user, or as root"
"""Remedy for missing rights."""
IN_PARTS: Final = "import it in parts"
"""Remedy for a file that is too large."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="configuration file (default: /etc/veilleuse/collector.toml if it exists)",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="say what would change, and change nothing")]
WhyOption = Annotated[str, typer.Option(help="reason, for the access journal")]


def run_operation(
    settings: CollectorSettings, operation: str, *, timeout_seconds: float = TIMEOUT_SECONDS, **arguments: Any
) -> Any:
    """Run an operation of veilleuse.collector.admin, and return its result.

    The running collector runs the operation; else this process does, under the directory's lock. Raises
    CollectorError.
    """
    return _run_steps(settings, [(operation, arguments)], timeout_seconds)


def upload(
    settings: CollectorSettings,
    content: bytes,
    part_operation: str,
    operation: str,
    *,
    timeout_seconds: float,
    **arguments: Any,
) -> Any:
    """Send the content in parts, then run the operation on it, in the same collector; returns its result.

    It is the running collector, else this process, under the directory's lock. Raises CollectorError.
    """
    number = secrets.token_hex(16)
    steps = [(part_operation, part) for part in pieces_of(number, content)]
    steps.append((operation, {"upload": number, **arguments}))
    return _run_steps(settings, steps, timeout_seconds)


def _run_steps(
    settings: CollectorSettings, steps: Sequence[tuple[str, dict[str, Any]]], timeout_seconds: float
) -> Any:
    """Run operations in order, and return the result of the last."""
    folder = settings.data_dir
    try:
        return [ask(folder, name, timeout_seconds=timeout_seconds, **one) for name, one in steps][-1]
    except CollectorNotRunning:
        from veilleuse.collector.app.data_directory import open_collector  # late: it imports the whole store

        with open_collector(settings) as collector:
            answers = [collector.operations.perform(name, one) for name, one in steps]
            return json.loads(json.dumps(answers[-1]))


def load_settings(config: Path | None) -> CollectorSettings:
    """Read the settings. Raises ConfigurationError."""
    return read_settings(config)


def check_settings(config: Path | None) -> None:
    """Read a file that --config names, for a command that needs no settings. Raises ConfigurationError."""
    if config is not None:
        read_settings(config)


def who_and_why(why: str, command: str) -> dict[str, Any]:
    """Return `who` and `why` of an operation, for the access journal. The default reason is the `command`."""
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        who = f"uid {os.getuid()}"
    return {"who": who, "why": why or f"veilleuse {command}"}


def parse_date(option: str, text: str) -> date:
    """Parse the civil date of an option. Raises UsageError."""
    try:
        day = parse_day(text)
    except ValueError as error:
        raise UsageError(f"{option} '{text}': {error}") from error
    return check_day(option, day)


def read_content(file: Path, maximum_bytes: int, remedy: str) -> bytes:
    """Read a file that an operator names, as this user: the service never reads it. Raises UsageError.

    `remedy`: what to do when the file has more than `maximum_bytes`.
    """
    try:
        return read_named(file, maximum_bytes)
    except TooLong as error:
        raise UsageError(f"cannot read {file}: {error.strerror}; {remedy}") from error
    except OSError as error:
        hint = "name a file in it" if file.is_dir() else "check its name and its rights"
        raise UsageError(f"cannot read {file}: {error.strerror or error}; {hint}") from error


def read_text(file: Path, maximum_bytes: int, remedy: str) -> str:
    """Read a file like read_content, as text without a byte order mark. Raises UsageError."""
    try:
        text = read_content(file, maximum_bytes, remedy).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file} is not UTF-8: save it as UTF-8 (a spreadsheet calls it 'CSV UTF-8')"
        ) from error
    if "\0" in text:
        raise UsageError(f"{file} holds a null character: it is not a text file")
    return text


def print_json(value: Any) -> None:
    """Print one JSON document on standard output, indented on a terminal."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def print_note(text: str) -> None:
    """Print a line for people on standard error, in the language of the locale."""
    print(translate(text), file=sys.stderr)


def print_text(text: str) -> None:
    """Print lines for people on standard output: in French on a French terminal, else in English."""
    print(translate_lines(text))


def print_facts(facts: Mapping[str, str], width: int) -> None:
    """Print name and value of each fact, one a line; names have at least so many columns."""
    told = [(translate_lines(name), translate_cell(value, name)) for name, value in facts.items()]
    width = max(width, *(len(name) for name, _ in told))
    for name, value in told:
        print(f"{name:<{width}} {value}")


def confirm(question: str) -> bool:
    """Ask on a terminal for a yes, in the language of the locale. All else is a no, as without a terminal."""
    if not sys.stdin.isatty():
        return False
    print(f"{translate(question)} {translate('[y/N]')}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in _YES


def print_table(rows: list[dict[str, str]], *, empty: str, verbatim: bool = False) -> None:
    """Print rows with the same keys: as a table on a terminal, as tab-separated lines elsewhere.

    Lines for programs stay English. `empty`: text for standard error when there is no row. `verbatim`: the
    headings are no words of ours.
    """
    if not rows:
        print_note(empty)
        return
    if not sys.stdout.isatty():
        print("\t".join(rows[0]))
        for row in rows:
            print("\t".join(row.values()))
        return
    from rich.console import Console
    from rich.table import Table

    heads = [name if verbatim else name.replace("_", " ") for name in rows[0]]
    columns = [[printable(row[name]) for row in rows] for name in rows[0]]
    if not verbatim and shows_french():
        columns = [
            [translate_cell(cell, name) for cell in cells] for name, cells in zip(heads, columns, strict=True)
        ]
        heads = list(map(translate, heads))
    console = Console(markup=False, highlight=False)
    table = Table(box=None, pad_edge=False)
    widths = _widths(heads, columns, console.width)
    for place, (head, cells, width) in enumerate(zip(heads, columns, widths, strict=True)):
        is_number = place and all(map(_NUMBER.fullmatch, filter(None, cells)))
        table.add_column(head, justify="right" if is_number else "left", width=width, overflow="fold")
    for cells_of_row in zip(*columns, strict=True):
        table.add_row(*cells_of_row)
    console.print(table)


def _widths(heads: list[str], columns: list[list[str]], whole: int) -> list[int]:
    """Return the width of each column. Where there is no room, the widest are folded.

    The first column is never cut, so that its names can be copied on a narrow terminal.
    """
    from rich.cells import cell_len

    wanted = [max(map(cell_len, (head, *cells))) for head, cells in zip(heads, columns, strict=True)]
    room = whole - _GAP * (len(wanted) - 1)
    if sum(wanted) <= room:
        return wanted
    first = max(map(cell_len, (heads[0], *columns[0])))
    most = max(wanted)
    while most > 1 and first + sum(min(width, most) for width in wanted[1:]) > room:
        most -= 1
    return [first, *(min(width, most) for width in wanted[1:])]


def print_result(
    found: Any, shown: str | list[dict[str, str]] | Callable[[], None], as_json: bool, empty: str = ""
) -> None:
    """Print a result: `found` as JSON, else the text or the table for people. `empty`: as print_table.

    `shown` may be a function that prints it.
    """
    if as_json:
        print_json(found)
    elif isinstance(shown, str):
        print_text(shown)
    elif callable(shown):
        shown()
    else:
        print_table(shown, empty=empty)


def names_of(hosts: Sequence[Host]) -> str:
    """Name the first three machines by agent id, as `veilleuse hosts` takes it; the others are counted."""
    more = len(hosts) - _NAMED
    return ", ".join(host.agent_id.hex()[:AGENT_ID_DIGITS] for host in hosts[:_NAMED]) + (
        f" and {more} more" if more > 0 else ""
    )


def printable(text: str) -> str:
    """Return the text without control characters: data must not move a terminal's cursor."""
    return "".join(each if each.isprintable() else " " for each in text)


def plural(number: int, noun: str, verb: str = "") -> str:
    """Return the noun, and a verb after it, in singular or plural: 1 row waits, 2 rows wait."""
    nouns = noun if number == 1 else f"{noun}s"
    return nouns + (f" {verb}{'s' * (number == 1)}" if verb else "")


def moment(unix_milliseconds: int | None) -> str:
    """Format a UTC time for people; "never" for None."""
    if unix_milliseconds is None:
        return "never"
    return datetime.fromtimestamp(unix_milliseconds / MILLISECONDS_PER_SECOND, UTC).strftime(
        "%Y-%m-%d %H:%M UTC"
    )


def day(unix_milliseconds: int | None) -> str:
    """Format a UTC date; "never" for None."""
    return "never" if unix_milliseconds is None else moment(unix_milliseconds)[:10]


@contextmanager
def new_private(path: Path) -> Iterator[TextIO]:
    """Make a file that only its owner can read, before its content is known.

    The file is deleted when the block raises. Raises CollectorError when the file exists or cannot be
    written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        what = (
            "is a directory: name a file in it" if path.is_dir() else "exists: remove it, or choose another"
        )
        raise CollectorError(f"{path} {what} with --output") from error
    except OSError as error:
        raise CollectorError(f"cannot write {path}: {error.strerror}; choose another --output") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            yield file
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CollectorError(f"cannot write {path}: {error.strerror}; choose another --output") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
