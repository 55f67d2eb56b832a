# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Keys and certificates that an operator names on the command line: read here, as this user, never by the service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from veilleuse.collector.cli.shared import content_of
from veilleuse.collector.errors import UsageError

MAX_BYTES: Final = 12 * 1024
"""Four certificates of RSA 4096, or a key: all of a request fits the administration socket."""


def read_pem(file: Path) -> str:
    """The text of a small PEM file. Raises UsageError."""
    content = content_of(file, MAX_BYTES, "give one chain or key, as PEM")
    return content.decode("ascii", "replace")


def read_key(file: Path) -> str:
    """The key in a PEM file; on a terminal its passphrase is asked for when it has one. Raises UsageError."""
    text = read_pem(file)
    try:
        load_pem_private_key(text.encode(), None)
    except (ValueError, UnsupportedAlgorithm):
        return text  # who uses it says what is wrong, and what is accepted
    except TypeError:
        return _decrypted(file, text)
    return text


def _decrypted(file: Path, text: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(f"{file} is encrypted: run the command on a terminal, which asks for its passphrase")
    passphrase = typer.prompt(f"passphrase of {file}", hide_input=True, err=True)
    try:
        key = load_pem_private_key(text.encode(), str(passphrase).encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{file} cannot be decrypted with that passphrase") from error
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
