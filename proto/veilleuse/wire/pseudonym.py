# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Asset pseudonyms: docs/wire.md §6. The agent computes them once, at enrolment; the inventory importer computes the same.

A serial number never leaves a machine; only a fleet that holds the same key can match the two.
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
"""What makers write when they write nothing; dmidecode's and Linux's own bad-DMI lists, 2024."""
_DUMMY_UUIDS: Final = frozenset({"03000200040005000006000700080009"})
"""The UUID of boards whose maker never set one; systemd's `sd-id128` refuses the same."""


def normalised_serial(text: str) -> str | None:
    """Letters and digits in upper case; None for a maker's placeholder or one repeated character."""
    serial = _NOT_ALPHANUMERIC.sub("", text.upper())
    return None if serial in _PLACEHOLDERS or len(set(serial)) < 2 else serial


def normalised_uuid(text: str) -> str | None:
    """32 hexadecimal digits in lower case; None for anything else, all-equal digits or a known dummy."""
    digits = text.strip().lower().replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{32}", digits) or len(set(digits)) < 2 or digits in _DUMMY_UUIDS:
        return None
    return digits


def pseudonym(fleet_key: bytes, normalised: str) -> bytes:
    """HMAC-SHA256(fleet key, normalised serial or UUID); 32 bytes."""
    return hmac.new(fleet_key, normalised.encode(), hashlib.sha256).digest()
