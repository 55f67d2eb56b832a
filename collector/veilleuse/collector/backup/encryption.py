# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Encrypts a file, so that nobody can read or change it without its key. AES-256-GCM, chunks of 1 MiB.

It uses the STREAM construction in constant memory (Hoang, Reyhanitabar, Rogaway, Vizár, "Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015). Chunk i has the nonce (i,
last?), so that removed, swapped or repeated chunks are rejected. Each file has its own key, HKDF-SHA256(key,
salt of the file): no nonce is used twice with one key.

Layout: MAGIC, salt (16), name of the key (8), then the chunks, each with its tag of 16 bytes. Every chunk but
the last is full. Each chunk also authenticates the header.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import IO, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from veilleuse.collector.errors import BackupUnusable, UsageError
from veilleuse.wire.files import FileRefused, is_secret, read_with_status
from veilleuse.wire.settings_file import ConfigurationError

MAGIC: Final = b"veilleuse sealed backup 1\n"
KEY_BYTES: Final = 32
KEY_FILE_BYTES: Final = 4096
CHUNK_BYTES: Final = 1 << 20
_SALT_BYTES: Final = 16
_NAME_BYTES: Final = 8
_TAG_BYTES: Final = 16
_HEADER_BYTES: Final = len(MAGIC) + _SALT_BYTES + _NAME_BYTES


def new_key_file(path: Path) -> None:
    """Create a key file, 0600: 64 hexadecimal digits. Raises UsageError if it exists or cannot be written."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise UsageError(f"{path} exists: keep it, older backups may need it; choose another name") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another place") from error


def read_key_file(path: Path) -> bytes:
    """Read the 32 bytes of a key.

    Raises ConfigurationError for an unreadable or invalid key, or one others can read.
    """
    try:
        content, found = read_with_status(path, KEY_FILE_BYTES, regular=True)
        if not is_secret(found):
            raise ConfigurationError(f"{path} can be read by others: run 'chmod 600 {path}'")
        key = bytes.fromhex(content.decode("ascii").strip())
    except (FileNotFoundError, FileRefused) as error:
        why = f" ({error.strerror})" if isinstance(error, FileRefused) else ""
        raise ConfigurationError(
            f"no key file {path}{why}: make one with 'veilleuse backup --new-key FILE'"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"cannot read the key file {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is no key file: it holds 64 hexadecimal digits") from error
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"{path} is no key file: it holds 64 hexadecimal digits")
    return key


def is_sealed(beginning: bytes) -> bool:
    """Return True when a file that begins with these bytes, at least len(MAGIC), is a sealed backup."""
    return beginning.startswith(MAGIC)


class Writable(Protocol):
    """Target of a backup."""

    def write(self, data: bytes, /) -> int:
        """Write all of `data`."""


class SealingFile:
    """Encrypts what is written to it; `close` writes the last chunk, and the file below stays open.

    A file without that chunk is rejected when read.
    """

    def __init__(self, below: Writable, key: bytes) -> None:
        self._below = below
        salt = os.urandom(_SALT_BYTES)
        self._cipher, name = _cipher_of(key, salt)
        self._header = MAGIC + salt + name
        self._waiting = bytearray()
        self._chunk = 0
        below.write(self._header)

    def write(self, data: bytes) -> int:
        """Write any number of bytes."""
        self._waiting += data
        while len(self._waiting) > CHUNK_BYTES:  # the last chunk is never empty, except in an empty file
            self._seal(bytes(self._waiting[:CHUNK_BYTES]), last=False)
            del self._waiting[:CHUNK_BYTES]
        return len(data)

    def close(self) -> None:
        """Write the waiting bytes as the last chunk."""
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._below.write(self._cipher.encrypt(_nonce(self._chunk, last=last), chunk, self._header))
        self._chunk += 1


class UnsealingFile:
    """Decrypts a file.

    It only returns authenticated bytes; the file must end with a chunk marked as the last.
    """

    def __init__(self, below: IO[bytes], key: bytes) -> None:
        """Read the header. Raises BackupUnusable for another key, or an unsealed file."""
        self._below = below
        self._header = below.read(_HEADER_BYTES)
        if len(self._header) < _HEADER_BYTES or not is_sealed(self._header):
            raise BackupUnusable("it is no sealed backup, or it was cut short")
        salt = self._header[len(MAGIC) : len(MAGIC) + _SALT_BYTES]
        self._cipher, name = _cipher_of(key, salt)
        if name != self._header[-_NAME_BYTES:]:
            raise BackupUnusable("it was sealed with another key: give that one with --key-file")
        self._ahead = below.read(CHUNK_BYTES + _TAG_BYTES)
        self._open = b""
        self._chunk = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Read `size` bytes, fewer only at the end. Raises BackupUnusable for a changed or cut file."""
        found = bytearray()
        while len(found) < size and (self._open or self._next()):
            piece = self._open[: size - len(found)]
            found += piece
            self._open = self._open[len(piece) :]
        return bytes(found)

    def _next(self) -> bool:
        if self._ended:
            return False
        chunk, self._ahead = self._ahead, self._below.read(CHUNK_BYTES + _TAG_BYTES)
        self._ended = not self._ahead
        try:
            self._open = self._cipher.decrypt(_nonce(self._chunk, last=self._ended), chunk, self._header)
        except (InvalidTag, ValueError) as error:
            raise BackupUnusable(
                "it was changed or cut short near byte "
                f"{_HEADER_BYTES + self._chunk * (CHUNK_BYTES + _TAG_BYTES)}"
            ) from error
        self._chunk += 1
        return bool(self._open)


def _cipher_of(key: bytes, salt: bytes) -> tuple[AESGCM, bytes]:
    """Return the cipher of the file, and a name of the key that reveals nothing of it."""
    made = HKDF(SHA256(), KEY_BYTES + _NAME_BYTES, salt, MAGIC).derive(key)
    return AESGCM(made[:KEY_BYTES]), made[KEY_BYTES:]


def _nonce(chunk: int, *, last: bool) -> bytes:
    return chunk.to_bytes(11, "big") + bytes([last])
