# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the years that commands, files and the API accept. A year outside is a typing error."""

from __future__ import annotations

from typing import Final, NamedTuple


class YearRange(NamedTuple):
    """From one civil year to another, both included."""

    first: int
    last: int

    def holds(self, year: int) -> bool:
        """Return whether a year is in the range."""
        return self.first <= year <= self.last


PERIODS: Final = YearRange(2000, 2200)
"""Years of a period, of a calendar, and those that are closed."""
API: Final = YearRange(2000, 2099)
"""Years of a question to the API, whose dates begin with 20."""
DATED: Final = YearRange(2000, 2999)
"""Years from which a meter or a share holds, and years of readings:
an end that is open may be written as a far one.
"""
ENTERED: Final = YearRange(1990, 2099)
"""Years of purchases, and of lines of the REEN sheet."""
CONVERTED: Final = YearRange(1990, 2200)
"""Years of an energy to convert."""
