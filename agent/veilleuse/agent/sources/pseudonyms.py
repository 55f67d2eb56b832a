# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Names that must not leave the machine → names that may: a keyed hash, without what hashlib brings into the process.

SipHash-2-4: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012. Nobody without the key can tell which name gave a
pseudonym, nor try names until one fits.
"""

from __future__ import annotations

from typing import Final

KEY_BYTES: Final = 16
_WORD: Final = 2**64 - 1
_BEGINNING: Final = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def pseudonym(key: bytes, name: str) -> str:
    """16 hexadecimal digits, the same for a name as long as the key stays. Raises ValueError unless the key has 16 bytes."""
    return f"{siphash(key, name.encode()):016x}"


def siphash(key: bytes, text: bytes) -> int:
    """SipHash-2-4 of `text`, 64 bits. Raises ValueError unless the key has 16 bytes."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes, not {KEY_BYTES}")
    low, high = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    state = tuple(one ^ half for one, half in zip(_BEGINNING, (low, high, low, high), strict=True))
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
        v0, v2 = (v0 + v1) & _WORD, (v2 + v3) & _WORD
        v1, v3 = _turned(v1, 13) ^ v0, _turned(v3, 16) ^ v2
        v0 = _turned(v0, 32)
        v2, v0 = (v2 + v1) & _WORD, (v0 + v3) & _WORD
        v1, v3 = _turned(v1, 17) ^ v2, _turned(v3, 21) ^ v0
        v2 = _turned(v2, 32)
    return v0, v1, v2, v3


def _turned(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _WORD
