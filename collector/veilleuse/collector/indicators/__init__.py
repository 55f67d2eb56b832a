# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sobriety indicators: one file each, formula and worked example in the docstring. METHOD.md §6."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final, cast

from veilleuse.collector.ports import Indicator

BUILTIN: Final[Mapping[str, str]] = {
    "I1": "veilleuse.collector.indicators.out_of_hours:OutOfHours",
    "I2": "veilleuse.collector.indicators.idle_while_on:IdleWhileOn",
    "I13": "veilleuse.collector.indicators.coverage:Coverage",
}
"""Id → class; nothing is imported until chosen."""


def load(identifier: str) -> Indicator:
    """The built-in indicator of that id. Raises KeyError."""
    module, _, name = BUILTIN[identifier].partition(":")
    made = getattr(import_module(module), name)()
    return cast("Indicator", made)  # the table above is ours; a test holds every entry to the protocol
