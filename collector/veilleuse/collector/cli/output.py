# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes output files of commands, whole or not at all; prints results of an import; reads PEM files."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from veilleuse.collector.cli.language import translate
from veilleuse.collector.cli.shared import plural, print_text, read_content
from veilleuse.collector.errors import CollectorError, UsageError

STANDARD_OUTPUT = "-"


def write_output(content: bytes, output: str, *, binary: bool) -> None:
    """Write to the file `output`, or to standard output for `-`.

    `binary`: True when a terminal cannot show the content.

    An existing file is replaced atomically and keeps its mode: a power cut leaves the old file or the new
    one. Raises UsageError for a directory or a terminal, CollectorError when the file cannot be written.
    """
    if output == STANDARD_OUTPUT:
        _to_standard_output(content, binary=binary)
        return
    path = Path(output)
    try:
        mode = path.stat().st_mode if path.exists() else None
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(f"'{output}' is a directory: give -o the path of a file")
        if mode is not None and not stat.S_ISREG(mode):
            path.write_bytes(content)  # a device or a pipe: /dev/null, /dev/stdout
        else:
            # A link stays a link: the file that it points to is replaced.
            _replace_file(path.resolve(), content, mode)
    except OSError as error:
        raise CollectorError(f"cannot write '{output}': {error.strerror}; give another path to -o") from error


def refuse_terminal(output: str, *, binary: bool) -> None:
    """Check the output before anything is computed. Raises UsageError for binary content on a terminal."""
    if output == STANDARD_OUTPUT and binary and sys.stdout.isatty():
        raise UsageError("this format is not for a terminal: write it to a file with -o FILE, or into a pipe")


def _to_standard_output(content: bytes, *, binary: bool) -> None:
    refuse_terminal(STANDARD_OUTPUT, binary=binary)
    sys.stdout.flush()
    sys.stdout.buffer.write(content)  # UTF-8 with its own line ends, whatever the locale is
    sys.stdout.buffer.flush()


def _replace_file(path: Path, content: bytes, mode: int | None) -> None:
    """Write a new file beside `path`, with an unguessable name, sync it, then rename it to `path`."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:32]}.", suffix=".new", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(stat.S_IMODE(mode) if mode is not None else 0o666 & ~_umask())
        draft.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            draft.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


MOST_LINES: Final = 20
"""Most lines printed of each kind; --json has all of them."""
_UNKNOWN: Final = {
    "type": "taken as 'unknown' or 'other': add [[class]] to the mapping",
    "status": "taken as in service: add it to [statuses] of the mapping",
    "location": "no site: add [[site]] to the mapping",
    "site": (
        "no such site: make it with 'veilleuse calendar import FILE --site … --create', then import again"
    ),
    "tag": "no entity: add it to [tags] of the mapping",
    "source": "rows of another inventory, left out: import them with --source and its name",
    "column": "not read",
    "not readable in GLPI": "left out: the user's profile may not read it, or this version does not have it",
}


def print_import(found: dict[str, Any]) -> None:
    """Print what needs a decision, then the counts."""
    for one in found["refused_rows"][:MOST_LINES]:
        column = f", {one['column']}" if one["column"] else ""
        print_text(f"{one['where']}{column}: {one['what']}: {one['remedy']}")
    _print_more(found["refused"])
    for kind, texts in found["unknown"].items():
        print_text(f"unknown {kind} ({_UNKNOWN.get(kind, '')}):")
        for text, number in list(texts.items())[:MOST_LINES]:
            print_text(f"  {number} × {text}")
        _print_more(len(texts))
    if found["absent_assets"]:
        print_text("no longer named:")
        for one in found["absent_assets"][:MOST_LINES]:
            print_text(f"  #{one['asset']} {one['name'] or one['key']} {one['inventory_number']}".rstrip())
        _print_more(found["absent"])
    _print_counts(found)


def _print_counts(found: dict[str, Any]) -> None:
    would = " (dry run: nothing was changed)" if found["dry_run"] else ""
    print_text(
        f"{found['rows']} {plural(found['rows'], 'row')}: {found['added']} added, {found['changed']} "
        f"changed, {found['unchanged']} unchanged, {found['absent']} absent, {found['refused']} "
        f"refused{would}"
    )
    for name, one in found["other_rows"].items():
        print_text(f"{name}: {one['new']} new, {one['gone']} gone")
    if found["moved"]:
        print_text(f"{found['moved']} {plural(found['moved'], 'move')}, from {found['moves_from']}")
    if found["retired"]:
        print_text(f"{found['retired']} out of service from today, because they are absent")
    if found["retire_refused"]:
        print_text(
            f"{found['absent'] - found['retired']} absent ones stay in service: they may be among the "
            "refused rows, or the list has nothing of their kind"
        )
    if found["out_without_day"]:
        print_text(f"{found['out_without_day']} out of service by their status, without a day: from today")
    if matching := found["matching"]:
        print_text(
            f"{matching['matched']} {plural(matching['matched'], 'machine')} matched, "
            f"{matching['doubts']} {plural(matching['doubts'], 'doubt')}: 'veilleuse inventory review list'"
        )


def _print_more(number: int) -> None:
    if number > MOST_LINES:
        print_text(f"  … and {number - MOST_LINES} more: see --json")


MAX_BYTES: Final = 12 * 1024
"""Four certificates of RSA 4096, or a key: the whole request fits the administration socket."""


def read_pem(file: Path) -> str:
    """Return the text of a small PEM file. Raises UsageError."""
    content = read_content(file, MAX_BYTES, "give one chain or key, as PEM")
    return content.decode("ascii", "replace")


def read_key(file: Path) -> str:
    """Return the key of a PEM file; asks for its passphrase on a terminal. Raises UsageError."""
    text = read_pem(file)
    try:
        load_pem_private_key(text.encode(), None)
    except (ValueError, UnsupportedAlgorithm):
        return text  # the caller says what is wrong and what is accepted
    except TypeError:
        return _decrypt_key(file, text)
    return text


def _decrypt_key(file: Path, text: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(f"{file} is encrypted: run the command on a terminal, to enter its passphrase")
    passphrase = typer.prompt(translate(f"passphrase of {file}"), hide_input=True, err=True)
    try:
        key = load_pem_private_key(text.encode(), str(passphrase).encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{file} cannot be decrypted with that passphrase") from error
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
