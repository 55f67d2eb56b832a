# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the metrics of the fleet (energy, emissions, states, indicators, factors) and of single servers."""

from __future__ import annotations

from typing import Final

from veilleuse.collector.exposition.metric import MetricGroup, MetricOrigin

GROUP: Final = ("entity", "site", "population", "device_class")
"""Labels of a group of machines; their values come only from our own registry."""
RELEASED: Final = ("entity", "population", "device_class", "zone")
"""Labels of a row of a released month: it is partitioned by grid zone, not by site."""
FLEET_GROUP: Final = ("perimeter", "population", "device_class", "zone")
"""Labels of a group of the whole fleet in released months."""
FLEET_YEAR: Final = ("year", "state")

FLEET: Final = MetricGroup(MetricOrigin.INDICATORS)
BUILD_INFO: Final = FLEET.gauge(
    "veilleuse_build_info",
    "Version of the collector; simulated = true for simulated data.",
    ("version", "simulated"),
    origin=MetricOrigin.WEB,
)
ENERGY: Final = FLEET.counter(
    "veilleuse_energy_joules_total",
    "Wall energy of servers as first derived, by method and state; PCs have gauges of released months only.",
    (*GROUP, "method", "state"),
    origin=MetricOrigin.LEDGER,
)
EMISSIONS: Final = FLEET.counter(
    "veilleuse_emissions_grams_total",
    "CO2 equivalent of veilleuse_energy_joules_total, at the factor in force when each joule was first derived.",
    (*GROUP, "method", "state", "ledger"),
    origin=MetricOrigin.LEDGER,
)
POWER: Final = FLEET.gauge(
    "veilleuse_power_watts",
    "Mean wall power of servers over their newest complete record, if that is not older than its length plus a "
    "contact interval; absent when not known.",
    GROUP,
    origin=MetricOrigin.RECORDS,
)
POWER_HOSTS: Final = FLEET.gauge(
    "veilleuse_power_hosts",
    "Servers whose newest record is recent enough to count in veilleuse_power_watts.",
    GROUP,
    origin=MetricOrigin.RECORDS,
)
# No device class: it can change with a machine's facts. Past time would move to another series, and a counter
# would fall.
STATE_SECONDS: Final = FLEET.counter(
    "veilleuse_state_seconds_total",
    "Time that servers spent in each state, as recorded; includes virtual machines.",
    ("entity", "site", "population", "state"),
    origin=MetricOrigin.SUMS,
)
DAY_ENERGY: Final = FLEET.gauge(
    "veilleuse_day_energy_joules",
    "Wall energy of servers over the last closed civil day, as currently derived.",
    (*GROUP, "method", "state"),
    origin=MetricOrigin.SUMS,
)
DAY_EMISSIONS: Final = FLEET.gauge(
    "veilleuse_day_emissions_grams",
    "CO2 equivalent of veilleuse_day_energy_joules at the factor of the day's year.",
    (*GROUP, "method", "state", "ledger"),
    origin=MetricOrigin.SUMS,
)
DAY_STATE: Final = FLEET.gauge(
    "veilleuse_day_state_seconds",
    "Time that servers spent in each state over the last closed civil day.",
    (*GROUP, "state"),
    origin=MetricOrigin.SUMS,
)
DAY_HOSTS: Final = FLEET.gauge(
    "veilleuse_day_hosts",
    "Servers that contributed to the last closed civil day.",
    GROUP,
    origin=MetricOrigin.SUMS,
)
MONTH_START: Final = FLEET.gauge(
    "veilleuse_month_start_timestamp_seconds",
    "Start of the released month that the gauges of workstations and classroom PCs describe, Unix time.",
    ("population",),
    origin=MetricOrigin.RELEASE,
)
MONTH_ENERGY: Final = FLEET.gauge(
    "veilleuse_month_energy_joules",
    "Wall energy of workstations, classroom PCs and their screens over the last released month, by row: of measured "
    "machines only; the whole fleet's is veilleuse_fleet_month_energy_joules.",
    RELEASED,
    origin=MetricOrigin.RELEASE,
)
MONTH_EMISSIONS: Final = FLEET.gauge(
    "veilleuse_month_emissions_grams",
    "CO2 equivalent of veilleuse_month_energy_joules, measured machines only, at the factor of the month's year in "
    "the row's zone; the whole fleet's is veilleuse_fleet_month_emissions_grams.",
    (*RELEASED, "ledger"),
    origin=MetricOrigin.RELEASE,
)
MONTH_STATE: Final = FLEET.gauge(
    "veilleuse_month_state_seconds",
    "Time that workstations and classroom PCs spent in each state over the last released month; a row may merge "
    "several rows of energy.",
    (*RELEASED, "state"),
    origin=MetricOrigin.RELEASE,
)
MONTH_HOSTS: Final = FLEET.gauge(
    "veilleuse_month_hosts",
    "Machines in a row of the last released month. Device class monitor: machines with a screen, already counted "
    "in another row; leave them out of sums.",
    RELEASED,
    origin=MetricOrigin.RELEASE,
)
FLEET_MONTH_ENERGY: Final = FLEET.gauge(
    "veilleuse_fleet_month_energy_joules",
    "Wall energy of the whole fleet in each released month of the newest year that has one: measured and "
    "extrapolated, as `veilleuse report emissions` states it.",
    (*FLEET_GROUP, "month"),
    origin=MetricOrigin.FLEET,
)
FLEET_MONTH_EMISSIONS: Final = FLEET.gauge(
    "veilleuse_fleet_month_emissions_grams",
    "CO2 equivalent of veilleuse_fleet_month_energy_joules at the factor in veilleuse_fleet_emissions_info.",
    (*FLEET_GROUP, "month"),
    origin=MetricOrigin.FLEET,
)
FLEET_YEAR_ENERGY: Final = FLEET.gauge(
    "veilleuse_fleet_year_energy_joules",
    "Wall energy of the whole fleet, this year and the last one: the sum of the released months so far, or a closed "
    "year as frozen.",
    (*FLEET_GROUP, *FLEET_YEAR),
    origin=MetricOrigin.FLEET,
)
FLEET_YEAR_EMISSIONS: Final = FLEET.gauge(
    "veilleuse_fleet_year_emissions_grams",
    "CO2 equivalent of veilleuse_fleet_year_energy_joules at the factor in veilleuse_fleet_emissions_info.",
    (*FLEET_GROUP, *FLEET_YEAR),
    origin=MetricOrigin.FLEET,
)
FLEET_YEAR_ENERGY_LOW: Final = FLEET.gauge(
    "veilleuse_fleet_year_energy_low_joules",
    "Lower end of the interval of veilleuse_fleet_year_energy_joules, by perimeter and in total.",
    ("perimeter", *FLEET_YEAR, "interval"),
    origin=MetricOrigin.FLEET,
)
FLEET_YEAR_ENERGY_HIGH: Final = FLEET.gauge(
    "veilleuse_fleet_year_energy_high_joules",
    "Upper end of the same interval.",
    ("perimeter", *FLEET_YEAR, "interval"),
    origin=MetricOrigin.FLEET,
)
FLEET_YEAR_EMISSIONS_LOW: Final = FLEET.gauge(
    "veilleuse_fleet_year_emissions_low_grams",
    "Lower end of the interval of veilleuse_fleet_year_emissions_grams, by perimeter and in total.",
    ("perimeter", *FLEET_YEAR, "interval"),
    origin=MetricOrigin.FLEET,
)
FLEET_YEAR_EMISSIONS_HIGH: Final = FLEET.gauge(
    "veilleuse_fleet_year_emissions_high_grams",
    "Upper end of the same interval.",
    ("perimeter", *FLEET_YEAR, "interval"),
    origin=MetricOrigin.FLEET,
)
FLEET_EMISSIONS_INFO: Final = FLEET.gauge(
    "veilleuse_fleet_emissions_info",
    "Electricity factor of the fleet's emissions of a year and its months, and the last month in the year's figure.",
    (*FLEET_YEAR, "last_month", "zone", "factor_id", "factor_source", "factor_kgco2e_per_kwh", "provisional"),
    origin=MetricOrigin.FLEET,
)
SUPPRESSED: Final = FLEET.gauge(
    "veilleuse_suppressed_groups",
    "Parts of the released month (machines of one population and grid zone) that are not fully shown: some groups "
    "merged into autres, or all withheld.",
    ("population", "period", "outcome"),
    origin=MetricOrigin.RELEASE,
)
MONTH_DUE: Final = FLEET.gauge(
    "veilleuse_month_due_timestamp_seconds",
    "Day on which the next month may be released, Unix time; absent before the first one.",
    origin=MetricOrigin.RELEASE,
)
MONTH_OLDER_RULE: Final = FLEET.gauge(
    "veilleuse_month_of_older_rule",
    "1 if the last month was released in an older format, and so is not shown; else 0.",
    origin=MetricOrigin.RELEASE,
)
MONTH_HELD: Final = FLEET.gauge(
    "veilleuse_month_held",
    "1 for each month that stays unpublished since a restore: nobody knows whether it was published before.",
    ("month",),
    origin=MetricOrigin.RELEASE,
)
MONTH_OUTSIDE_OPENING: Final = FLEET.gauge(
    "veilleuse_month_outside_opening_ratio",
    "I1 of an entity over the last released month: share of the time outside opening hours during which its PCs "
    "were on. Of those in rows of that entity alone: small groups that merged with others are in none.",
    ("entity", "population"),
    origin=MetricOrigin.RELEASE,
)
HOSTS: Final = FLEET.gauge(
    "veilleuse_hosts",
    "Machines in the registry; workstations and classroom PCs as of the first count of the day.",
    ("population", "status"),
    origin=MetricOrigin.REGISTRY,
)
COVERAGE: Final = FLEET.gauge(
    "veilleuse_coverage_ratio",
    "I13: observed share of the fleet's machine-time, for states and for energy.",
    ("population", "machines", "period", "kind"),
)
COVERAGE_CHANGE: Final = FLEET.gauge(
    "veilleuse_coverage_change_ratio",
    "I13 of the last released month divided by that of the month before, minus 1: -0.1 is a tenth less.",
    ("population", "machines", "kind"),
)
OUTSIDE_OPENING: Final = FLEET.gauge(
    "veilleuse_outside_opening_ratio",
    "I1: share of the time outside opening hours during which machines were on; servers excluded.",
    ("population", "machines", "period"),
)
OUTSIDE_OPENING_ENERGY: Final = FLEET.gauge(
    "veilleuse_outside_opening_energy_joules",
    "I1: wall energy drawn while on outside opening hours; servers excluded.",
    ("population", "machines", "period"),
)
IDLE_WHILE_ON: Final = FLEET.gauge(
    "veilleuse_idle_while_on_ratio",
    "I2: share of the time on during which machines were idle.",
    ("population", "machines", "period"),
)
IDLE_WHILE_ON_ENERGY: Final = FLEET.gauge(
    "veilleuse_idle_while_on_energy_joules",
    "I2: wall energy drawn while on and idle.",
    ("population", "machines", "period"),
)
POWER_PLAN: Final = FLEET.gauge(
    "veilleuse_power_plan_compliance_ratio",
    "I3: share of PCs, of those with a known power plan, that switch off the display and sleep within the limits, "
    "at the end of the last released month.",
    ("population",),
)
AVOIDABLE_ENERGY: Final = FLEET.gauge(
    "veilleuse_month_avoidable_energy_joules",
    "I4: avoidable wall energy of the last released month, by cause; no millisecond counts for two causes.",
    ("population", "cause"),
)
NIGHT_POWER: Final = FLEET.gauge(
    "veilleuse_month_night_power_ratio",
    "I5: mean wall power outside opening hours divided by that inside, over the last released month; 1 = the night "
    "draws as much as the day.",
    ("population", "machines"),
)
COMATOSE_SERVERS: Final = FLEET.gauge(
    "veilleuse_comatose_servers",
    "I6: servers by verdict at the end of the last released month: comatose over 180 days, or suspect over 30 (the owner must confirm).",
    ("machines", "verdict"),
)
UNDERUSED_SERVERS: Final = FLEET.gauge(
    "veilleuse_underused_servers",
    "I7: servers by verdict over the last 30 days of the last released month: under-used or in use.",
    ("machines", "verdict"),
)
OVERSIZED_SERVERS: Final = FLEET.gauge(
    "veilleuse_oversized_servers",
    "I8: servers by verdict over the 90 days to the end of the last released month: oversized or fitting.",
    ("machines", "verdict"),
)
FACTOR: Final = FLEET.gauge(
    "veilleuse_factor_gco2e_per_kwh",
    "Electricity factor currently applied.",
    ("zone", "factor_id", "year", "provisional"),
    origin=MetricOrigin.FACTORS,
)
FACTOR_INFO: Final = FLEET.gauge(
    "veilleuse_factor_info",
    "Source of the electricity factor currently applied.",
    ("zone", "factor_id", "year", "series", "factor_source"),
    origin=MetricOrigin.FACTORS,
)
FACTOR_KNOWN: Final = FLEET.gauge(
    "veilleuse_factor_known",
    "1 if a factor is known for the current year in a grid zone of the sites, else 0.",
    ("zone",),
    origin=MetricOrigin.FACTORS,
)
FACTOR_DUE: Final = FLEET.gauge(
    "veilleuse_factor_due_timestamp_seconds",
    "Unix time from which a newer electricity factor than the applied one should be known: that of a year is "
    "published in the spring of the next one, and due on 1 July.",
    ("zone",),
    origin=MetricOrigin.FACTORS,
)
RELEASED_FLEET: Final = tuple(metric for metric in FLEET if metric.origin is MetricOrigin.FLEET)
FLEET_SERIES: Final = 700
"""Maximum number of series of RELEASED_FLEET together: perimeters could be unlimited."""

HISTORY: Final = MetricGroup(MetricOrigin.FLEET)
HISTORY_ENERGY: Final = HISTORY.gauge(
    "veilleuse_fleet_history_energy_joules",
    "Wall energy of the whole fleet in one released month, as veilleuse_fleet_month_energy_joules: one sample, at "
    "noon UTC of the month's first day.",
    FLEET_GROUP,
)
HISTORY_EMISSIONS: Final = HISTORY.gauge(
    "veilleuse_fleet_history_emissions_grams",
    "CO2 equivalent of veilleuse_fleet_history_energy_joules at the factor of the report, with the same times.",
    FLEET_GROUP,
)

PER_HOST: Final = MetricGroup(MetricOrigin.SUMS)
HOST_POWER: Final = PER_HOST.gauge(
    "veilleuse_host_power_watts",
    "Mean wall power of one server over its newest complete record; /metrics/hosts only.",
    ("host", *GROUP),
    origin=MetricOrigin.RECORDS,
)
HOST_DAY_ENERGY: Final = PER_HOST.gauge(
    "veilleuse_host_day_energy_joules",
    "Wall energy of one server over the last closed civil day; /metrics/hosts only.",
    ("host", *GROUP, "method"),
)

GRID: Final = MetricGroup(MetricOrigin.INTENSITIES)
# A separate name, not only a label, so that a sum over veilleuse_day_emissions_grams never mixes both
# ledgers.
INDICATIVE_DAY_EMISSIONS: Final = GRID.gauge(
    "veilleuse_indicative_day_emissions_grams",
    "Indicatif, hors bilan: CO2 equivalent of servers over the last closed civil day, by the grid's intensity of "
    "each hour; only energy whose hour has an intensity.",
    (*GROUP, "ledger"),
)
INDICATIVE_DAY_COVERAGE: Final = GRID.gauge(
    "veilleuse_indicative_day_coverage_ratio",
    "Share of servers' energy of that day whose hour has an intensity.",
    ("population",),
)
INTENSITY: Final = GRID.gauge(
    "veilleuse_intensity_gco2e_per_kwh",
    "Newest stored intensity of the grid; not a factor, and in no official figure.",
    ("zone", "intensity_series", "status"),
)
INTENSITY_NEWEST: Final = GRID.gauge(
    "veilleuse_intensity_newest_timestamp_seconds",
    "End of the newest stored intensity, Unix time.",
    ("zone", "intensity_series", "status"),
)
INTENSITY_FAILURES: Final = GRID.gauge(
    "veilleuse_intensity_failures",
    "Consecutive failed polls of a connector; 0 after a success.",
    ("connector",),
)
INTENSITY_CALLS: Final = GRID.gauge(
    "veilleuse_intensity_calls", "Calls of a connector in its last UTC month.", ("connector",)
)

GRID_SERIES: Final = 16
"""Maximum (zone, series, status) shown: imported series could be unlimited."""
