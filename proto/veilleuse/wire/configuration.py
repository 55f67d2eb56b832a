# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Settings that a collector may set on an agent: typed, bounded, never finer than the local file.

Source: docs/wire.md §4. This module needs no hash function, as the resident process imports it.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

TICK_MILLISECONDS: Final = (10_000, 60_000)
"""Lowest and highest value."""
PERIOD_MILLISECONDS: Final = (10_000, 3_600_000)
"""Lowest and highest value; a divisor of an hour."""
CONTACT_MILLISECONDS: Final = (60_000, 86_400_000)
"""Lowest and highest value."""
TRIAL_MILLISECONDS: Final = 600_000
"""An applied configuration is given up when no contact has confirmed it within this time: S18."""
_HOUR_MILLISECONDS: Final = 3_600_000
_BOUNDS: Final = {
    "tick_milliseconds": TICK_MILLISECONDS,
    "period_milliseconds": PERIOD_MILLISECONDS,
    "contact_milliseconds": CONTACT_MILLISECONDS,
}


class ConfigurationOutOfBounds(ValueError):
    """Value that no agent may accept; the message names it and its range."""


class Configuration(NamedTuple):
    """Values set by the collector; None = the value of the local file."""

    tick_milliseconds: int | None = None
    period_milliseconds: int | None = None
    contact_milliseconds: int | None = None

    def check(self) -> Configuration:
        """Check the bounds and return this object. Raises ConfigurationOutOfBounds."""
        for name, (lowest, highest) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                raise ConfigurationOutOfBounds(f"{name} is {value}: use {lowest} to {highest}")
        if self.period_milliseconds is not None and _HOUR_MILLISECONDS % self.period_milliseconds:
            raise ConfigurationOutOfBounds(
                f"period_milliseconds is {self.period_milliseconds}: use a divisor of {_HOUR_MILLISECONDS}"
            )
        return self

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, set values only."""
        values = {name: value for name, value in self._asdict().items() if value is not None}
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """Parse and check the result of `to_json`; ignore unknown keys. Raises ConfigurationOutOfBounds."""
        try:
            values = json.loads(text)
            known = {name: values[name] for name in cls._fields if values.get(name) is not None}
            if not all(type(value) is int for value in known.values()):
                raise TypeError("not whole numbers")
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigurationOutOfBounds(f"not a configuration: {error}") from error
        return cls(**known).check()
