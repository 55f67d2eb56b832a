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
PLANS_SERIES: Final = "veilleuse_power_plan_compliance_ratio{"
ENERGY_SERIES: Final = "veilleuse_month_avoidable_energy_joules{cause="
"""Names of I3 and of I4 on /metrics: indicator_answers.py explains them by publications."""


def is_of_publications(row: Row) -> bool:
    """Return whether fleet_answers.py or indicator_answers.py explains an answer's row by publications: a
    reader's about the fleet, or one of I3 or I4.
    """
    kind = row.answer.partition(": ")[2].partition(" ")[0]
    is_of_fleet = "admin" not in row.roles and kind in OF_FLEET
    return row.outlet == "api" and (is_of_fleet or row.labels.get("indicator") in ("I3", "I4"))


def is_left_out(name: str) -> bool:
    """Return whether a number has no part in the system."""
    return name.startswith((*NO_MEASUREMENT, PLANS_SERIES, ENERGY_SERIES))


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
