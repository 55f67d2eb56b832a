# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Metrics of the indicative ledger and of the grid's intensity. Gauges all: consolidated values replace real-time ones, so they may fall."""

from __future__ import annotations

from typing import Final

from veilleuse.collector.exposition.fleet_metrics import GROUP
from veilleuse.collector.exposition.metric import Origin, gauge

# A name of its own beside the label: a sum over veilleuse_day_emissions_grams can never hold both ledgers by mistake.
INDICATIVE_DAY_EMISSIONS: Final = gauge(
    "veilleuse_indicative_day_emissions_grams",
    "Indicatif, hors bilan: CO2 equivalent of servers over the last closed civil day, hour by hour with the grid's intensity; of the"
    " energy that has one.",
    (*GROUP, "ledger"),
    Origin.INTENSITIES,
)
INDICATIVE_DAY_COVERAGE: Final = gauge(
    "veilleuse_indicative_day_coverage_ratio",
    "Share of that day's energy of servers whose hour has an intensity.",
    ("population",),
    Origin.INTENSITIES,
)
INTENSITY: Final = gauge(
    "veilleuse_intensity_gco2e_per_kwh",
    "Newest intensity of the grid that is kept; no factor, and in no official figure.",
    ("zone", "intensity_series", "status"),
    Origin.INTENSITIES,
)
INTENSITY_NEWEST: Final = gauge(
    "veilleuse_intensity_newest_timestamp_seconds",
    "End of the newest intensity that is kept, Unix time.",
    ("zone", "intensity_series", "status"),
    Origin.INTENSITIES,
)
INTENSITY_FAILURES: Final = gauge(
    "veilleuse_intensity_failures",
    "Polls of a connector that failed in a row; 0 after a success.",
    ("connector",),
    Origin.INTENSITIES,
)
INTENSITY_CALLS: Final = gauge(
    "veilleuse_intensity_calls",
    "Calls of a connector in its last UTC month.",
    ("connector",),
    Origin.INTENSITIES,
)
GRID_SERIES: Final = 16
"""Most (zone, series, status) shown: series of one's own could else be without end."""
GRID: Final = (
    INDICATIVE_DAY_EMISSIONS,
    INDICATIVE_DAY_COVERAGE,
    INTENSITY,
    INTENSITY_NEWEST,
    INTENSITY_FAILURES,
    INTENSITY_CALLS,
)
