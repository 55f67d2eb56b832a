# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Metrics of the fleet: energy, emissions, states, indicators, factors; and of single servers."""

from __future__ import annotations

from typing import Final

from veilleuse.collector.exposition.kinds import Origin, counter, gauge

GROUP: Final = ("entity", "site", "population", "device_class")
"""The labels of a group of machines, from our own registry only."""

ENERGY: Final = counter(
    "veilleuse_energy_joules_total",
    "Wall energy of servers as first derived, by method and state; populations under the k rule have day and week gauges.",
    (*GROUP, "method", "state"),
    Origin.LEDGER,
)
EMISSIONS: Final = counter(
    "veilleuse_emissions_grams_total",
    "CO2 equivalent of veilleuse_energy_joules_total, at the factor each joule was booked with.",
    (*GROUP, "method", "state", "ledger"),
    Origin.LEDGER,
)
POWER: Final = gauge(
    "veilleuse_power_watts",
    "Mean wall power of servers over their newest complete record, while it is no older than its length and a contact interval; "
    "absent when not known, never 0 for not known.",
    GROUP,
    Origin.RECORDS,
)
POWER_HOSTS: Final = gauge(
    "veilleuse_power_hosts",
    "Servers whose newest record is recent enough to be part of veilleuse_power_watts.",
    GROUP,
    Origin.RECORDS,
)
# No device class: it can change with what a machine says of itself, and would take its past along: a counter that falls.
STATE_SECONDS: Final = counter(
    "veilleuse_state_seconds_total",
    "Time servers spent in each state, as recorded; virtual machines included.",
    ("entity", "site", "population", "state"),
    Origin.SUMS,
)
DAY_ENERGY: Final = gauge(
    "veilleuse_day_energy_joules",
    "Wall energy of the last closed civil day, as currently derived, in published groups; workstations: its closed hours.",
    (*GROUP, "method", "state"),
    Origin.SUMS,
)
DAY_EMISSIONS: Final = gauge(
    "veilleuse_day_emissions_grams",
    "CO2 equivalent of veilleuse_day_energy_joules at the factor of the day's year.",
    (*GROUP, "method", "state", "ledger"),
    Origin.SUMS,
)
DAY_STATE: Final = gauge(
    "veilleuse_day_state_seconds",
    "Time in each state over the last closed civil day, in published groups; workstations: its closed hours.",
    (*GROUP, "state"),
    Origin.SUMS,
)
DAY_HOSTS: Final = gauge(
    "veilleuse_day_hosts",
    "Machines that contributed to the last closed civil day, in published groups.",
    GROUP,
    Origin.SUMS,
)
WEEK_ENERGY: Final = gauge(
    "veilleuse_week_energy_joules",
    "Wall energy of the open hours of the last closed ISO week, for populations that send them by the week.",
    (*GROUP, "method", "state"),
    Origin.SUMS,
)
HOSTS: Final = gauge(
    "veilleuse_hosts",
    "Machines in the registry; workstations as at the first look of the day.",
    ("population", "status"),
    Origin.REGISTRY,
)
SUPPRESSED: Final = gauge(
    "veilleuse_suppressed_groups",
    "Groups below k machines, merged or withheld.",
    ("population", "period", "outcome"),
    Origin.SUMS,
)
COVERAGE: Final = gauge(
    "veilleuse_coverage_ratio",
    "I13: observed share of the fleet's machine-time, for states and for energy.",
    ("population", "machines", "period", "kind"),
    Origin.INDICATORS,
)
OUTSIDE_OPENING: Final = gauge(
    "veilleuse_outside_opening_ratio",
    "I1: share of the time outside opening hours during which machines were on; servers excluded.",
    ("population", "machines", "period"),
    Origin.INDICATORS,
)
OUTSIDE_OPENING_ENERGY: Final = gauge(
    "veilleuse_outside_opening_energy_joules",
    "I1: wall energy drawn while on outside opening hours; servers excluded.",
    ("population", "machines", "period"),
    Origin.INDICATORS,
)
IDLE_WHILE_ON: Final = gauge(
    "veilleuse_idle_while_on_ratio",
    "I2: share of the time on during which machines were idle.",
    ("population", "machines", "period"),
    Origin.INDICATORS,
)
IDLE_WHILE_ON_ENERGY: Final = gauge(
    "veilleuse_idle_while_on_energy_joules",
    "I2: wall energy drawn while on and idle.",
    ("population", "machines", "period"),
    Origin.INDICATORS,
)
POWER_PLAN: Final = gauge(
    "veilleuse_power_plan_compliance_ratio",
    "I3: share of PCs with a known power plan whose display goes off and that sleep within the limits, as of the last closed month.",
    ("population",),
    Origin.INDICATORS,
)
AVOIDABLE_ENERGY: Final = gauge(
    "veilleuse_month_avoidable_energy_joules",
    "I4: wall energy of the last closed month that was avoidable, by causes that share no millisecond.",
    ("population", "cause"),
    Origin.INDICATORS,
)
NIGHT_POWER: Final = gauge(
    "veilleuse_month_night_power_ratio",
    "I5: mean wall power outside opening hours by that inside, over the last closed month; 1 = the night draws as much as the day.",
    ("population", "machines"),
    Origin.INDICATORS,
)
COMATOSE_SERVERS: Final = gauge(
    "veilleuse_comatose_servers",
    "I6: servers by verdict: comatose over 180 days, suspect over 30 (its owner is to confirm), as of yesterday.",
    ("machines", "verdict"),
    Origin.INDICATORS,
)
UNDERUSED_SERVERS: Final = gauge(
    "veilleuse_underused_servers",
    "I7: servers by verdict over the 30 days to yesterday: under-used or in use.",
    ("machines", "verdict"),
    Origin.INDICATORS,
)
OVERSIZED_SERVERS: Final = gauge(
    "veilleuse_oversized_servers",
    "I8: servers by verdict over the 90 days to yesterday: oversized or fitting.",
    ("machines", "verdict"),
    Origin.INDICATORS,
)
FACTOR: Final = gauge(
    "veilleuse_factor_gco2e_per_kwh",
    "Electricity factor applied now.",
    ("zone", "factor_id", "year", "provisional"),
    Origin.FACTORS,
)
FACTOR_INFO: Final = gauge(
    "veilleuse_factor_info",
    "Where the factor applied now comes from.",
    ("zone", "factor_id", "year", "series", "factor_source"),
    Origin.FACTORS,
)
HOST_POWER: Final = gauge(
    "veilleuse_host_power_watts",
    "Mean wall power of one server over its newest complete record; /metrics/hosts only.",
    ("host", *GROUP),
    Origin.RECORDS,
)
HOST_DAY_ENERGY: Final = gauge(
    "veilleuse_host_day_energy_joules",
    "Wall energy of one server over the last closed civil day; /metrics/hosts only.",
    ("host", *GROUP, "method"),
    Origin.SUMS,
)

BUILD_INFO: Final = gauge(
    "veilleuse_build_info",
    "Version of the collector, and whether the data is simulated.",
    ("version", "simulated"),
    Origin.WEB,
)
FLEET: Final = (
    BUILD_INFO,
    ENERGY,
    EMISSIONS,
    POWER,
    POWER_HOSTS,
    STATE_SECONDS,
    DAY_ENERGY,
    DAY_EMISSIONS,
    DAY_STATE,
    DAY_HOSTS,
    WEEK_ENERGY,
    SUPPRESSED,
    HOSTS,
    COVERAGE,
    OUTSIDE_OPENING,
    OUTSIDE_OPENING_ENERGY,
    IDLE_WHILE_ON,
    IDLE_WHILE_ON_ENERGY,
    POWER_PLAN,
    AVOIDABLE_ENERGY,
    NIGHT_POWER,
    COMATOSE_SERVERS,
    UNDERUSED_SERVERS,
    OVERSIZED_SERVERS,
    FACTOR,
    FACTOR_INFO,
)
PER_HOST: Final = (HOST_POWER, HOST_DAY_ENERGY)
