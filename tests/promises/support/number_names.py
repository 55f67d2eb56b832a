# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tells numbers of answers apart by their names, for explaining.py."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tests.promises.support.read_together import OF_FLEET, Row

NO_MEASUREMENT: Final = (
    "threshold",
    "u_factor",
    "factor_",
    "veilleuse_suppressed_groups",
    "veilleuse_hosts{",
    "veilleuse_agents_silent{",
    "veilleuse_month_start_timestamp_seconds{",
)
"""Prefixes of the names of numbers that contain no measurement of a machine."""
NOT_LINEAR: Final = ("veilleuse_power_plan",)
"""Prefixes of the names of numbers that are left out of the system."""


def is_of_fleet(row: Row) -> bool:
    """Return whether a row is a reader's answer about the fleet: fleet_answers.py explains it by contents."""
    kind = row.answer.partition(": ")[2].partition(" ")[0]
    return row.outlet == "api" and "admin" not in row.roles and kind in OF_FLEET


def is_left_out(name: str) -> bool:
    """Return whether a number has no part in the system."""
    return name.startswith((*NO_MEASUREMENT, *NOT_LINEAR))


POWERS: Final = frozenset({"numerator", "denominator"})
"""Mean powers, whose ratio I5 is."""


def is_of_powers(row: Row) -> bool:
    """Return whether a row tells mean powers."""
    return row.labels.get("indicator") == "I5"


def is_ratio(name: str) -> bool:
    """Return whether a number is a ratio of two amounts."""
    return name.startswith(("value", "coverage_", "method_mix.")) or "_ratio" in name or name in POWERS


def energy_of(name: str, found: Collection[str]) -> str:
    """Return the name of the energy that emissions are computed from."""
    if "_grams" not in name:
        return "kwh_total"
    word, _, labels = name.rstrip("}").partition("{")
    kept = ",".join(one for one in labels.split(",") if not one.startswith("ledger="))
    return f"{word.replace('_emissions_grams', '_energy_joules')}{{{kept}}}"
