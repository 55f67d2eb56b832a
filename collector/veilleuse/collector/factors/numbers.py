# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Numbers as French files write them: decimal comma, spaces between thousands, `4,74E-3`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?(\d+|\d{1,3}( \d{3})+)([.,]\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_SPACES: Final = str.maketrans({"\u00a0": " ", "\u202f": " "})
_MAGNITUDE: Final = 12
"""No number of ours has more digits before or after the point."""


def french_decimal(text: str) -> Decimal:
    """The number, exactly. A point is taken for a comma, as re-exports write it. Raises ValueError saying what is wrong."""
    plain = text.strip().translate(_SPACES)
    if not _NUMBER.fullmatch(plain):
        raise ValueError(f"'{text[:40]}' is not a number: expected one like 0,052 or 4,74E-3")
    value = Decimal(plain.replace(" ", "").replace(",", "."))
    if value and not -_MAGNITUDE <= value.adjusted() <= _MAGNITUDE:
        raise ValueError(f"'{text[:40]}' is out of range")
    return value
