# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The order of measurements: which one a machine's wall energy comes from. docs/methodology.md §1."""

from __future__ import annotations

from typing import Final

from veilleuse.wire.vocabulary import PointKind, Word


class Method(Word):
    """How a joule is known, best first."""

    METERED = "metered"
    BATTERY = "battery"
    COUNTER_CALIBRATED = "counter_calibrated"
    COUNTER_MODELLED = "counter_modelled"
    LOAD_MODELLED = "load_modelled"
    CLASS_DEFAULT = "class_default"


MEASURED: Final = frozenset({Method.METERED, Method.BATTERY, Method.COUNTER_CALIBRATED})
"""What a report sums as measured; the others are modelled. docs/methodology.md §1."""

METER_KINDS: Final = (
    PointKind.PLUG,
    PointKind.PDU,
    PointKind.UPS,
    PointKind.BMC,
    PointKind.HWMON,
    PointKind.FAKE,
)
"""Kinds of point that see a whole machine at the socket, best first."""
