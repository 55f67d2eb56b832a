# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Packs a folder of copies into one tar file, manifest first, and unpacks it.

Encrypted when there is a key.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from veilleuse.collector.backup.encryption import MAGIC, SealingFile, UnsealingFile, Writable, is_sealed
from veilleuse.collector.enrolment.root_key import FOLDER
from veilleuse.collector.errors import BackupUnusable, CollectorError, StoreTooNew
from veilleuse.collector.store.directory import DATA_FILE, FLEET_KEY_FILE, IDENTITY_FILE
from veilleuse.collector.store.sqlite.connection import Database, quick_check
from veilleuse.collector.store.sqlite.inspect import table_counts
from veilleuse.collector.store.sqlite.migrations import check_schema
from veilleuse.collector.store.sqlite.registry_rows import read_data_kind
from veilleuse.wire.files import FileRefused, make_own_folder, open_named, open_owned
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

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
    """One file of the backup."""

    name: str
    """Path below the data directory, with `/`."""
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Description of a backup, read before anything is restored."""

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
        """Time of creation for people, UTC."""
        return datetime.fromtimestamp(self.created_unix_milliseconds / MILLISECONDS_PER_SECOND, UTC).strftime(
            "%Y-%m-%d %H:%M:%S UTC"
        )

    def to_json(self) -> bytes:
        """Return the JSON of the manifest in the file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode() + b"\n"

    @property
    def sha256(self) -> str:
        """SHA-256 that names this backup."""
        return hashlib.sha256(self.to_json()).hexdigest()


def manifest_from_json(text: bytes) -> Manifest:
    """Parse a manifest. Raises BackupUnusable: invalid, of a later format, or with foreign file names."""
    try:
        raw: dict[str, Any] = json.loads(text)
        if raw["format"] != FORMAT:
            raise BackupUnusable(
                f"its format is {raw['format']!r}, this program knows {FORMAT}: use the version of "
                "veilleuse that made it"
            )
        manifest = Manifest(
            product=str(raw["product"]),
            created_unix_milliseconds=int(raw["created_unix_milliseconds"]),
            simulated=bool(raw["simulated"]),
            schema={str(name): int(number) for name, number in raw["schema"].items()},
            rows={
                str(name): {str(table): int(rows) for table, rows in tables.items()}
                for name, tables in raw["rows"].items()
            },
            files=tuple(
                BackupFile(str(file["name"]), int(file["bytes"]), str(file["sha256"]))
                for file in raw["files"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupUnusable(
            "its manifest cannot be read: it was damaged, or is another program's"
        ) from error
    _require_sound(manifest)
    return manifest


def _require_sound(manifest: Manifest) -> None:
    names = [file.name for file in manifest.files]
    foreign = [name for name in names if not _NAME.fullmatch(name)]
    if foreign:
        raise BackupUnusable(f"it holds {foreign[0]!r}, which is not a file of a collector")
    missing = _NEEDED - set(names)
    if missing:
        raise BackupUnusable(f"it lacks {', '.join(sorted(missing))}")
    if len(set(names)) != len(names) or set(manifest.schema) != set(DATABASES):
        raise BackupUnusable("its manifest contradicts itself")


def file_facts(folder: Path, name: str) -> BackupFile:
    """Return the size and SHA-256 of a file. Raises OSError."""
    with os.fdopen(open_owned(folder / name, os.O_RDONLY), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return BackupFile(name, file.tell(), digest)


_BLOCK_BYTES: Final = 1 << 20


def describe_copies(folder: Path, *, product: str, created_unix_milliseconds: int) -> Manifest:
    """Check all copies and describe them: both databases, their rows, sizes, hashes.

    Raises BackupUnusable when one is damaged.
    """
    schema, rows, simulated = {}, {}, False
    for name, kind in DATABASES.items():
        with closing(Database(folder / name, writing=False)) as database:
            require_whole(database)
            schema[name] = check_schema(database, kind)
            rows[name] = table_counts(database)
            if kind == "data":
                simulated = read_data_kind(database.connection).simulated
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    files = tuple(file_facts(folder, name) for name in names if not name.endswith(("-wal", "-shm")))
    return Manifest(product, created_unix_milliseconds, simulated, schema, rows, files)


def require_whole(database: Database) -> None:
    """Raise BackupUnusable unless `PRAGMA quick_check` finds the copy intact."""
    try:
        found = quick_check(database)
    except CollectorError as error:
        raise BackupUnusable(f"the copy of {database.path.name} is damaged: {error}") from error
    if found:
        raise BackupUnusable(f"the copy of {database.path.name} is damaged: {found[0]}")


def write_archive(folder: Path, manifest: Manifest, file: Writable, key: bytes | None) -> None:
    """Write the manifest and its files to `file`. Raises OSError."""
    if key is None:
        _write_tar(folder, manifest, file)
    else:
        sealing = SealingFile(file, key)
        _write_tar(folder, manifest, sealing)
        sealing.close()


def _write_tar(folder: Path, manifest: Manifest, target: Any) -> None:
    with tarfile.open(fileobj=target, mode="w|", bufsize=_BLOCK_BYTES, format=tarfile.PAX_FORMAT) as tar:
        text = manifest.to_json()
        tar.addfile(_member(MANIFEST_FILE, len(text), manifest), io.BytesIO(text))
        for each in manifest.files:
            with os.fdopen(open_owned(folder / each.name, os.O_RDONLY), "rb") as source:
                tar.addfile(_member(each.name, each.bytes, manifest), source)


def _member(name: str, size: int, manifest: Manifest) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    member.mtime = manifest.created_unix_milliseconds // MILLISECONDS_PER_SECOND
    return member


class Archive:
    """A backup being read: first `manifest`, then `extract` once."""

    def __init__(self, below: Any, tar: tarfile.TarFile) -> None:
        """`below` is the file that `tar` reads. Raises BackupUnusable."""
        self._below, self._tar = below, tar
        self.manifest = self._read_manifest()

    def extract(self, folder: Path) -> None:
        """Write every file below `folder`, 0600 and durable, and check it against the manifest.

        Raises BackupUnusable when a file differs or is missing, StoreFull or OSError from the disk.
        """
        missing = {file.name: file for file in self.manifest.files}
        while (member := self._tar.next()) is not None:
            described = missing.pop(member.name, None)
            if described is None or not member.isreg() or member.size != described.bytes:
                raise BackupUnusable(f"it holds {member.name!r}, which differs from its manifest")
            _make_folders(folder, Path(described.name).parent)
            self._extract(member, described, folder / described.name)
        if missing:
            raise BackupUnusable(f"it lacks {min(missing)}: it was cut short")
        while self._below.read(_BLOCK_BYTES):  # the last chunk must be authenticated too
            pass

    def _read_manifest(self) -> Manifest:
        member = self._tar.next()
        source = self._tar.extractfile(member) if member is not None else None
        if member is None or source is None or member.name != MANIFEST_FILE:
            raise BackupUnusable("it is no backup of veilleuse")
        if member.size > MANIFEST_BYTES_MAXIMUM:
            raise BackupUnusable("its manifest is too long")
        return manifest_from_json(source.read())

    def _extract(self, member: tarfile.TarInfo, described: BackupFile, target: Path) -> None:
        source = self._tar.extractfile(member)
        assert source is not None  # a regular file
        digest = hashlib.sha256()
        descriptor = open_owned(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with os.fdopen(descriptor, "wb") as file:
            while piece := source.read(_BLOCK_BYTES):
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != described.sha256:
            raise BackupUnusable(f"its {described.name} is damaged: its hash differs from the manifest")


def _make_folders(folder: Path, below: Path) -> None:
    for part in below.parts:
        folder /= part
        make_own_folder(folder)


@contextmanager
def open_archive(path: Path, key_of: Callable[[], bytes | None]) -> Iterator[Archive]:
    """Open a backup; later errors about it start with its name. `key_of` returns the key of a sealed one.

    Raises BackupUnusable, or the errors of `key_of`.
    """
    try:
        with os.fdopen(open_named(path), "rb") as file:
            below = _open_source(file, key_of)
            with tarfile.open(fileobj=below, mode="r|", bufsize=_BLOCK_BYTES) as tar:
                yield Archive(below, tar)
    except BackupUnusable as error:
        raise BackupUnusable(f"cannot restore {path}: {error}; nothing was touched") from error
    except (tarfile.TarError, EOFError) as error:
        why = f"it is no backup of veilleuse, or it was cut short ({error})"
        raise BackupUnusable(f"cannot restore {path}: {why}; nothing was touched") from error
    except FileNotFoundError as error:
        raise BackupUnusable(f"no backup {path}") from error
    except FileRefused as error:
        raise BackupUnusable(f"cannot restore {path}: {error.strerror}; nothing was touched") from error


def require_usable(folder: Path, manifest: Manifest) -> None:
    """Check that both databases of an extracted backup are intact and of a known schema.

    Raises BackupUnusable.
    """
    for name, kind in DATABASES.items():
        with closing(Database(folder / name, writing=False)) as database:
            require_whole(database)
            try:
                version = check_schema(database, kind)
            except StoreTooNew as error:
                raise BackupUnusable(
                    f"its {name} has a newer schema than this program knows: install veilleuse "
                    f"{manifest.product} or newer"
                ) from error
            if version != manifest.schema[name]:
                raise BackupUnusable(
                    f"its {name} has schema {version}, its manifest says {manifest.schema[name]}"
                )


def _open_source(file: IO[bytes], key_of: Callable[[], bytes | None]) -> Any:
    """Return the file that the tar is read from, decrypted if sealed."""
    sealed = is_sealed(file.read(len(MAGIC)))
    file.seek(0)
    if not sealed:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise BackupUnusable(
                f"it has mode {mode:04o} and is not sealed: others can have changed it, the keys in it too; be sure that "
                "it is your file, then run 'chmod 600' on it"
            )
        return file
    if (key := key_of()) is None:
        raise BackupUnusable("it is sealed: give its key with --key-file")
    return UnsealingFile(file, key)
