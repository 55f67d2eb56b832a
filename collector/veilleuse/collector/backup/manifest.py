# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a backup says of itself: its first member, `manifest.json`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.enrolment.ca import FOLDER
from veilleuse.collector.errors import BackupUnusable
from veilleuse.collector.store.sqlite.directory import DATA_FILE, FLEET_KEY_FILE, IDENTITY_FILE
from veilleuse.wire.files import open_owned

FORMAT: Final = 1
MANIFEST_FILE: Final = "manifest.json"
DATABASES: Final = {DATA_FILE: "data", IDENTITY_FILE: "identity"}
"""File → kind of its migrations."""
MANIFEST_BYTES_MAXIMUM: Final = 1 << 20
_NAME: Final = re.compile(
    rf"(?:{re.escape(DATA_FILE)}|{re.escape(IDENTITY_FILE)}|{re.escape(FLEET_KEY_FILE)}"
    rf"|{FOLDER}(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._-]{{1,128}}){{1,4}})"
)
_NEEDED: Final = frozenset({DATA_FILE, IDENTITY_FILE, FLEET_KEY_FILE, f"{FOLDER}/root.pem"})


@dataclass(frozen=True, slots=True)
class BackupFile:
    """One file of the set."""

    name: str
    """Its place below the data directory, with `/`."""
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything there is to know before anything is put back."""

    product: str
    """Version of veilleuse that made it."""
    created_unix_milliseconds: int
    simulated: bool
    schema: Mapping[str, int]
    """Database file → number of its last migration."""
    rows: Mapping[str, Mapping[str, int]]
    """Database file → table → rows."""
    files: tuple[BackupFile, ...]

    @property
    def created(self) -> str:
        """For people, UTC."""
        return datetime.fromtimestamp(self.created_unix_milliseconds / 1000, UTC).strftime(
            "%Y-%m-%d %H:%M:%S UTC"
        )

    def to_json(self) -> bytes:
        """As it stands in the file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode() + b"\n"

    @property
    def sha256(self) -> str:
        """Names this backup."""
        return hashlib.sha256(self.to_json()).hexdigest()


def manifest_from_json(text: bytes) -> Manifest:
    """Raises BackupUnusable for what is none, is of a later format, or names files that are not ours to write."""
    try:
        told: dict[str, Any] = json.loads(text)
        if told["format"] != FORMAT:
            raise BackupUnusable(
                f"its format is {told['format']!r}, this program knows {FORMAT}: use the version of veilleuse that made it"
            )
        manifest = Manifest(
            product=str(told["product"]),
            created_unix_milliseconds=int(told["created_unix_milliseconds"]),
            simulated=bool(told["simulated"]),
            schema={str(name): int(number) for name, number in told["schema"].items()},
            rows={
                str(name): {str(table): int(rows) for table, rows in tables.items()}
                for name, tables in told["rows"].items()
            },
            files=tuple(
                BackupFile(str(file["name"]), int(file["bytes"]), str(file["sha256"]))
                for file in told["files"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupUnusable(f"its manifest cannot be read ({error})") from error
    _require_sound(manifest)
    return manifest


def _require_sound(manifest: Manifest) -> None:
    names = [file.name for file in manifest.files]
    foreign = [name for name in names if not _NAME.fullmatch(name)]
    if foreign:
        raise BackupUnusable(f"it holds {foreign[0]!r}, which is no file of a collector")
    missing = _NEEDED - set(names)
    if missing:
        raise BackupUnusable(f"it lacks {', '.join(sorted(missing))}")
    if len(set(names)) != len(names) or set(manifest.schema) != set(DATABASES):
        raise BackupUnusable("its manifest contradicts itself")


def file_facts(folder: Path, name: str) -> BackupFile:
    """Size and SHA-256 of a file. Raises OSError."""
    with os.fdopen(open_owned(folder / name, os.O_RDONLY), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return BackupFile(name, file.tell(), digest)
