# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Decides which names of services may leave a server: docs/guarantees.md P2.

Pure but for the list of accounts.

Source: systemd.unit(5), String Escaping for Inclusion in Unit Names; passwd(5); login.defs(5), UID_MIN;
systemd's docs/UIDS-GIDS.md.
"""

from __future__ import annotations

import os
import re
from typing import Final

from veilleuse.wire.limits import CONTAINERS, OTHER_UNITS, fact_text

FIRST_PERSON: Final = 1_000
"""Accounts with a lower number are system accounts: login.defs(5)."""
NOBODY: Final = 65_534
_TRANSIENT: Final = re.compile(r"run-[rup]?[0-9a-f]+(-i?\d+)?")
"""Name made by systemd-run, another one each time."""
_ACTIVATED: Final = re.compile(r"dbus-:\d+\.\d+-")
"""Number given by the message bus, another one each time."""
_ESCAPED: Final = re.compile(r"\\x(2d|2b|7e|20)")
"""Escapes of - + ~ and space.

Other escaped characters (an @, a path, accents) do not come from a service's name.
"""
_NUMBERS: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9a-f]{12,}|\d{1,3}(?:[.-]\d{1,3}){3}|(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2})"
    r"(?![0-9A-Za-z])"
    r"|\d{4,}",
    re.IGNORECASE,
)
"""Numbers of a person, a machine or a container: hexadecimal ids, network addresses, account numbers."""
_WORD: Final = re.compile(r"[^\W\d_]+\d*")
_SHORTEST_WORD: Final = 3
_LONGEST_NAME: Final = 58
"""Length of wire.limits.UNIT_PATTERN, without its prefix."""
_LARGEST_BYTES: Final = 1 << 20


class People:
    """Words of this machine's personal accounts, read again when the list changes.

    The words are only compared, and never stored elsewhere.
    """

    def __init__(self, passwd: str) -> None:
        self._passwd = passwd
        self._stamp: tuple[int, int, int] | None = None
        self._words: frozenset[str] = frozenset()

    def words(self) -> frozenset[str]:
        """Return the words in lower case.

        Empty when there is no list; the former words when the list cannot be read now.
        """
        try:
            status = os.stat(self._passwd)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                with open(self._passwd, "rb") as file:
                    text = file.read(_LARGEST_BYTES).decode("utf-8", "replace")
                self._words, self._stamp = people_of(text), stamp
        except OSError:
            pass
        return self._words


def people_of(passwd: str) -> frozenset[str]:
    """Return logins and words of full names, of accounts from number 1000 on, from a passwd(5) list."""
    words: set[str] = set()
    for line in passwd.splitlines():
        login, _, rest = line.partition(":")
        fields = rest.split(":")
        if len(fields) < 4 or not fields[1].isdecimal() or not fields[1].isascii():
            continue
        number = int(fields[1])
        if number < FIRST_PERSON or number == NOBODY:
            continue
        found = _WORD.findall(f"{login} {fields[3].partition(',')[0]}".lower())
        words |= {login.lower(), *(word for word in found if len(word) >= _SHORTEST_WORD)}
    return frozenset(words - {""})


def unit_name(folder: str, people: frozenset[str] = frozenset()) -> str:
    """Return `unit:<name>` of a service's control group, in the wire's letters.

    OTHER_UNITS when the name may be a person's. The name has no instance (it may be a person, a host, a
    session), no number of a person, machine or container, no word of `people`.
    """
    name = folder.removesuffix(".service").partition("@")[0]
    if not name.isascii() or "\\" in _ESCAPED.sub("", name):
        return OTHER_UNITS
    name = _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), name)
    if _TRANSIENT.fullmatch(name):
        name = "run"
    if _names_somebody(name.lower(), people):
        return OTHER_UNITS
    cleaned = fact_text(_NUMBERS.sub("_", _ACTIVATED.sub("dbus-", name)))
    unit = f"unit:{cleaned.strip(' ._-')[:_LONGEST_NAME].rstrip()}" if cleaned else ""
    return OTHER_UNITS if unit in ("", "unit:", CONTAINERS) else unit


def _names_somebody(name: str, people: frozenset[str]) -> bool:
    """Tell whether the name has an account's word: `alice` is in `backup-of-alice`, but not in `malice`."""
    return any(re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", name) is not None for word in people)


KEY_BYTES: Final = 16
_UINT64_MAX: Final = 2**64 - 1
_INITIAL_STATE: Final = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def pseudonym(key: bytes, name: str) -> str:
    """Return 16 hexadecimal digits, the same for a name while the key is the same.

    Raises ValueError unless the key has 16 bytes.
    """
    return f"{siphash(key, name.encode()):016x}"


def siphash(key: bytes, text: bytes) -> int:
    """Return SipHash-2-4 of `text`, 64 bits. Raises ValueError unless the key has 16 bytes."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes, not {KEY_BYTES}")
    low, high = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    state = tuple(one ^ half for one, half in zip(_INITIAL_STATE, (low, high, low, high), strict=True))
    whole = text + bytes(-(len(text) + 1) % 8) + bytes([len(text) % 256])
    for start in range(0, len(whole), 8):
        word = int.from_bytes(whole[start : start + 8], "little")
        v0, v1, v2, v3 = state
        state = _rounds((v0, v1, v2, v3 ^ word), 2)
        state = (state[0] ^ word, *state[1:])
    v0, v1, v2, v3 = state
    v0, v1, v2, v3 = _rounds((v0, v1, v2 ^ 0xFF, v3), 4)
    return v0 ^ v1 ^ v2 ^ v3


def _rounds(state: tuple[int, int, int, int], times: int) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = state
    for _ in range(times):
        v0, v2 = (v0 + v1) & _UINT64_MAX, (v2 + v3) & _UINT64_MAX
        v1, v3 = _rotate(v1, 13) ^ v0, _rotate(v3, 16) ^ v2
        v0 = _rotate(v0, 32)
        v2, v0 = (v2 + v1) & _UINT64_MAX, (v0 + v3) & _UINT64_MAX
        v1, v3 = _rotate(v1, 17) ^ v2, _rotate(v3, 21) ^ v0
        v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _UINT64_MAX
