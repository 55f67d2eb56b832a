# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Collects what programs print and keep, and searches it for canaries: S19, P2."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.support.stack import Stack

Places = list[tuple[str, str]]
"""(place, text). Bytes are decoded as Latin-1, which keeps each of them."""


class Said:
    """The output of all commands."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.texts: Places = []

    def run(self, *command: str, **environment: str) -> int:
        """Run a command and keep its output; return its exit code."""
        done = self._stack.run(*command, **environment)
        self.texts.append((" ".join(command), done.stdout + done.stderr))
        return done.returncode


def leaks_in(texts: Iterable[tuple[str, str]], canaries: Mapping[str, str]) -> list[str]:
    """Return each canary found, with its place; a table may have broken it over lines."""
    found = []
    for where, text in texts:
        wrapped = _wrapped(text)
        found += [
            f"{name} in {where}"
            for name, canary in canaries.items()
            if canary in text or _wrapped(canary) in wrapped
        ]
    return found


def _wrapped(text: str) -> str:
    """Remove spaces and rules: a table breaks long words over lines."""
    return re.sub(r"[\s│|]+", "", text)


def spellings(canaries: Mapping[str, str]) -> dict[str, str]:
    """Return each canary in every form that would reveal it, in lower case as `lowered` makes the places.

    Forms: text, UTF-16, hexadecimal digits, the bytes of a hexadecimal number, and hashes without a key.
    """
    return {
        f"{name} {form}": needle.decode("latin-1").lower()
        for name, canary in canaries.items()
        for form, needle in _forms(canary)
    }


def _forms(canary: str) -> Iterator[tuple[str, bytes]]:
    bare = re.sub(r"[:-]", "", canary)
    yield "as text", canary.encode()
    yield "in UTF-16", canary.encode("utf-16-le")
    yield "in hexadecimal digits", canary.encode().hex().encode()
    if re.fullmatch(r"(?:[0-9a-fA-F]{2}){6,}", bare):  # fewer bytes also occur in keys and hashes by chance
        yield "as digits", bare.encode()
        yield "as bytes", bytes.fromhex(bare)
    for text in sorted({canary, canary.lower(), canary.upper(), bare.lower()}):
        for algorithm in ("md5", "sha1", "sha256"):
            digest = hashlib.new(algorithm, text.encode(), usedforsecurity=False)
            yield f"as {algorithm} of {text!r}", digest.digest()
            yield f"as {algorithm} of {text!r}, digits", digest.hexdigest().encode()


def lowered(places: Iterable[tuple[str, str | bytes]]) -> Places:
    """Return the texts in lower case, with bytes decoded."""
    return [
        (where, (said if isinstance(said, str) else said.decode("latin-1")).lower()) for where, said in places
    ]


def files_below(*folders: Path) -> list[tuple[str, bytes]]:
    """Return each file with its bytes, which include free pages and the WAL of a database."""
    return [
        (str(path.relative_to(folder.parent)), path.read_bytes())
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
