# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A sealed backup that was changed, cut, swapped or made with another key does not open."""

from __future__ import annotations

import io
import os

import pytest

from veilleuse.collector.backup.encryption import (
    CHUNK_BYTES,
    KEY_BYTES,
    MAGIC,
    SealingFile,
    UnsealingFile,
    new_key_file,
    read_key_file,
)
from veilleuse.collector.errors import BackupUnusable, UsageError
from veilleuse.wire.settings_file import ConfigurationError

KEY = bytes(range(KEY_BYTES))
HEADER = len(MAGIC) + 24
STEP = CHUNK_BYTES + 16
"""Bytes of one chunk with its tag."""


def sealed(content: bytes, key: bytes = KEY) -> bytes:
    """Return the content as a sealed file."""
    below = io.BytesIO()
    sealing = SealingFile(below, key)
    for start in range(0, len(content), 300_001):
        sealing.write(content[start : start + 300_001])
    sealing.close()
    return below.getvalue()


def opened(text: bytes, key: bytes = KEY) -> bytes:
    """Return the whole content, read in odd pieces."""
    file = UnsealingFile(io.BytesIO(text), key)
    return b"".join(iter(lambda: file.read(77_777), b""))


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3_000_000]
)
def test_what_was_sealed_opens(size):
    """The content comes back byte for byte, at and around chunk bounds; the file does not show it."""
    content = os.urandom(size)
    text = sealed(content)
    assert opened(text) == content
    assert size < 64 or content[:64] not in text
    assert len(text) == HEADER + size + 16 * max(1, -(-size // CHUNK_BYTES))


def test_the_same_content_never_looks_the_same():
    """Each file is encrypted with its own key."""
    first, second = sealed(b"x" * 1000), sealed(b"x" * 1000)
    assert first[HEADER:] != second[HEADER:]


def test_another_key_is_named_as_such():
    """A wrong key is refused as such."""
    with pytest.raises(BackupUnusable, match="another key"):
        opened(sealed(b"content"), bytes(KEY_BYTES))


CONTENT = os.urandom(3 * CHUNK_BYTES + 5)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],
        lambda text: text[: HEADER + 3 * STEP],  # at the bound of a chunk
        lambda text: text[:HEADER],
        lambda text: text[: HEADER - 1],
        lambda text: b"",
        lambda text: text + b"\0",
        lambda text: text + text[HEADER : HEADER + STEP],
        lambda text: text[:HEADER] + text[HEADER + STEP :],  # the first chunk left out
        lambda text: (
            text[:HEADER]
            + text[HEADER + STEP : HEADER + 2 * STEP]
            + text[HEADER : HEADER + STEP]
            + text[HEADER + 2 * STEP :]
        ),
        lambda text: text[: HEADER + STEP] + text[HEADER : HEADER + STEP] + text[HEADER + 2 * STEP :],
    ],
    ids=["cut", "cut at a chunk", "header alone", "half a header", "empty", "longer", "a chunk more",
         "a chunk less", "swapped", "repeated"],
)  # fmt: skip
def test_cut_swapped_repeated_is_refused(damage):
    """Each damage raises an error."""
    text = sealed(CONTENT)
    with pytest.raises(BackupUnusable, match="cut short"):
        opened(damage(text))


def test_any_flipped_bit_is_refused():
    """A flipped bit is refused at each of 200 places of the file, header included."""
    text = sealed(CONTENT)
    for place in range(0, len(text), len(text) // 200):
        changed = bytearray(text)
        changed[place] ^= 1 << place % 8
        with pytest.raises(BackupUnusable):
            opened(bytes(changed))


def test_key_files(tmp_path):
    """A key file is made once with mode 0600; a readable, malformed or missing one is refused."""
    path = tmp_path / "key"
    new_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(read_key_file(path)) == KEY_BYTES
    with pytest.raises(UsageError, match="exists"):
        new_key_file(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_key_file(path)
    for text in ("", "zz", "00" * 31, "é"):
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        with pytest.raises(ConfigurationError, match="64 hexadecimal digits"):
            read_key_file(path)
    for no_file in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigurationError, match="no key file"):
            read_key_file(no_file)
    with pytest.raises(UsageError, match="cannot write"):
        new_key_file(tmp_path / "none/key")
