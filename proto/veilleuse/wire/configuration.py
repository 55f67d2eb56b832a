# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The little that a collector may set on an agent: docs/wire.md §4. Typed, bounded, never finer than the local file.

No hash function here: the measuring process reads this.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

TICK_MILLISECONDS: Final = (10_000, 60_000)
"""Lowest and highest."""
PERIOD_MILLISECONDS: Final = (10_000, 3_600_000)
"""Lowest and highest; a divisor of an hour."""
CONTACT_MILLISECONDS: Final = (60_000, 86_400_000)
"""Lowest and highest."""
TRIAL_MILLISECONDS: Final = 600_000
"""An applied configuration that no successful contact has confirmed within this time is given up: S18."""
_HOUR_MILLISECONDS: Final = 3_600_000
_BOUNDS: Final = {
    "tick_milliseconds": TICK_MILLISECONDS,
    "period_milliseconds": PERIOD_MILLISECONDS,
    "contact_milliseconds": CONTACT_MILLISECONDS,
}


class ConfigurationOutOfBounds(ValueError):
    """A value that no agent may accept; says which, and its range."""


class Configuration(NamedTuple):
    """What is set; None = the machine's own file says."""

    tick_milliseconds: int | None = None
    period_milliseconds: int | None = None
    contact_milliseconds: int | None = None

    def checked(self) -> Configuration:
        """Itself. Raises ConfigurationOutOfBounds."""
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
        """Canonical: sorted keys, set values only."""
        values = {name: value for name, value in self._asdict().items() if value is not None}
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """The inverse, checked; unknown keys are left out. Raises ConfigurationOutOfBounds."""
        try:
            values = json.loads(text)
            known = {name: values[name] for name in cls._fields if values.get(name) is not None}
            if not all(type(value) is int for value in known.values()):
                raise TypeError("not whole numbers")
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigurationOutOfBounds(f"not a configuration: {error}") from error
        return cls(**known).checked()
