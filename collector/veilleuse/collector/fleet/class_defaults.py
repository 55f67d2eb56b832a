# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Mean power of device classes that nobody measured, for `fleet.Assumptions.class_microwatts` (pure but for the shipped table).

docs/methodology.md §7: what only an inventory knows stands at its class default, GSD² 2.0. Figures and their sources are in
data/inventory_class_defaults.csv, class by class. A class that is not there (`other`, virtual machines, rooms) has no default: it stays
without energy, and is listed as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Final, NamedTuple

from veilleuse.collector.fleet.samples import DAY_TYPES, Days
from veilleuse.collector.shipped_tables import load_table

MICROWATTS: Final = 1_000_000
"""Per watt."""


class ClassDefault(NamedTuple):
    """Of one device class."""

    microwatts: Days
    """Mean over a day, by day type."""
    gsd2: float
    origin: str
    """R read, C computed from what was read, P our own choice."""
    basis: str


@cache
def class_defaults() -> Mapping[str, ClassDefault]:
    """Device class → its default. Raises ConfigurationError."""
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
    """Device class → mean power by day type, microwatts: as `Assumptions` takes it."""
    return {name: one.microwatts for name, one in class_defaults().items()}
