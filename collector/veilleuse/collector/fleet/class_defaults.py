# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Gives the default mean power of device classes, for `Assumptions.class_microwatts` (pure, except the
shipped table).

A device that only an inventory knows takes its class default, GSD² 2.0 (docs/methodology.md §7). The figures
and their sources, class by class, are in data/inventory_class_defaults.csv. A class that is not there has no
default: `other`, virtual machines, rooms. Such a class stays without energy and is listed as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Final, NamedTuple

from veilleuse.collector.fleet.samples import DAY_TYPES, Days
from veilleuse.collector.shipped_tables import load_table

MICROWATTS: Final = 1_000_000
"""Microwatts per watt."""


class ClassDefault(NamedTuple):
    """Default mean power of one device class."""

    microwatts: Days
    """Mean power over a day, by day type."""
    gsd2: float
    origin: str
    """Origin of the figure: R read in a source, C computed from a source, P our own choice."""
    basis: str


@cache
def class_defaults() -> Mapping[str, ClassDefault]:
    """Return the default of each device class. Raises ConfigurationError."""
    return {
        row["device_class"]: ClassDefault(
            tuple(round(Decimal(row[f"{day}_watts"]) * MICROWATTS) for day in DAY_TYPES),
            float(row["gsd2"]),
            row["origin"],
            row["basis"],
        )
        for row in load_table("inventory_class_defaults").rows
    }


def class_microwatts() -> dict[str, Days]:
    """Return the default mean power of each device class by day type, microwatts, for `Assumptions`."""
    return {name: one.microwatts for name, one in class_defaults().items()}
