# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Asset pseudonyms: docs/wire.md §6. The agent and the inventory importer compute the same ones.

The agent computes them once, at enrolment. A serial number never leaves a machine. Only a fleet that holds
the same key can match the two.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

FLEET_KEY_BYTES: Final = 32

_NOT_ALPHANUMERIC = re.compile(r"[^A-Z0-9]+")
_PLACEHOLDERS: Final = frozenset(
    {
        "", "NA", "NONE", "NULL", "UNKNOWN", "INVALID", "DEFAULTSTRING", "NOTSPECIFIED", "NOTAVAILABLE", "NOTAPPLICABLE",
        "TOBEFILLEDBYOEM", "SYSTEMSERIALNUMBER", "CHASSISSERIALNUMBER", "SERIALNUMBER", "BASEBOARDSERIALNUMBER", "OEM",
        "123456789", "1234567890", "0123456789", "EMPTY",
    }
)  # fmt: skip
"""Placeholders of manufacturers; from the bad-DMI lists of dmidecode and Linux, 2024."""
_DUMMY_UUIDS: Final = frozenset({"03000200040005000006000700080009"})
"""UUID of boards whose manufacturer never set one; systemd's `sd-id128` refuses it too."""


def normalise_serial(text: str) -> str | None:
    """Return letters and digits in upper case; None for a placeholder or one repeated character."""
    serial = _NOT_ALPHANUMERIC.sub("", text.upper())
    return None if serial in _PLACEHOLDERS or len(set(serial)) < 2 else serial


def normalise_uuid(text: str) -> str | None:
    """Return 32 lower-case hexadecimal digits; None for anything else, equal digits or a known dummy."""
    digits = text.strip().lower().replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{32}", digits) or len(set(digits)) < 2 or digits in _DUMMY_UUIDS:
        return None
    return digits


def pseudonym(fleet_key: bytes, normalised: str) -> bytes:
    """Return HMAC-SHA256(fleet key, normalised serial or UUID); 32 bytes."""
    return hmac.new(fleet_key, normalised.encode(), hashlib.sha256).digest()
