# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Loads sources of emission factors: one file for each provider."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final, cast

from veilleuse.collector.ports.imports import FactorSource

BUILTIN: Final[Mapping[str, str]] = {
    "ademe": "veilleuse.collector.factors.static:AdemeFactors",
    "owid": "veilleuse.collector.factors.static:OwidFactors",
}
"""Name → class, in order of precedence; a class is imported when chosen.

Entry points of veilleuse.factors join later.
"""
IMPORTED_INTO: Final = "ademe"
"""Source whose zones and years `veilleuse factors import` adds to and restates."""


def load(name: str) -> FactorSource:
    """Return the built-in source of that name. Raises KeyError."""
    module, _, source = BUILTIN[name].partition(":")
    made = getattr(import_module(module), source)()
    return cast("FactorSource", made)  # a test checks every entry of the table against the protocol
