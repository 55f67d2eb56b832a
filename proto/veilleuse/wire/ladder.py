# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Order of methods: the source of a machine's wall energy. docs/methodology.md §1."""

from __future__ import annotations

from typing import Final

from veilleuse.wire.vocabulary import PointKind, Word


class Method(Word):
    """Method by which the energy is known, best first."""

    METERED = "metered"
    BATTERY = "battery"
    COUNTER_CALIBRATED = "counter_calibrated"
    COUNTER_MODELLED = "counter_modelled"
    LOAD_MODELLED = "load_modelled"
    CLASS_DEFAULT = "class_default"


MEASURED: Final = frozenset({Method.METERED, Method.BATTERY, Method.COUNTER_CALIBRATED})
"""Methods that a report sums as measured; the others are modelled. docs/methodology.md §1."""

METER_KINDS: Final = (
    PointKind.PLUG,
    PointKind.PDU,
    PointKind.UPS,
    PointKind.BMC,
    PointKind.HWMON,
    PointKind.FAKE,
)
"""Kinds of point that measure a whole machine at the socket, best first."""
