# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Prints docs/metrics.md from the catalogue: `python -m veilleuse.collector.exposition.document`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from veilleuse.collector.exposition.catalogue import (
    AGENTS,
    CATALOGUE,
    COLLECTOR,
    FLEET,
    GRID,
    HISTORY,
    HTTP,
    OWN,
    PER_HOST,
    MetricOrigin,
)

ORIGIN_TEXT: Final[Mapping[MetricOrigin, str]] = {
    MetricOrigin.LEDGER: "the stored ledger, as first derived; never restated. A later meter reading, calibration or correction of the "
    "method changes day gauges and reports, not the ledger",
    MetricOrigin.RECORDS: "the newest derived record of each server",
    MetricOrigin.SUMS: "the sums of the store; energy as currently derived",
    MetricOrigin.RELEASE: "the month of /api/v1, published once (docs/api.md); absent until three days after its end",
    MetricOrigin.FLEET: "the fleet's energy of released months (docs/methodology.md §6), with the digits of `veilleuse report emissions "
    "--group-by perimeter,population,device_class`; rows that differ only by power context are one series. At most 700 series: the oldest "
    "months are left out first",
    MetricOrigin.INDICATORS: "the indicators (docs/methodology.md §12); those of machines are published once with each month",
    MetricOrigin.FACTORS: "the electricity factors in force, shipped and imported",
    MetricOrigin.INTENSITIES: "stored intensities of the grid (docs/indicative.md); no part of the bilan",
    MetricOrigin.REGISTRY: "the registry of hosts and the reports of agents on themselves",
    MetricOrigin.COLLECTOR: "the running collector, over its administration socket",
    MetricOrigin.WEB: "the web process itself",
}

LABEL_TEXT: Final[Mapping[str, str]] = {
    "entity": "organisational unit of the registry, in released months with groups below it that merged to reach k machines; "
    "`autres` = merged groups of one grid zone without a common branch",
    "site": "site of the registry; determines the grid zone",
    "perimeter": "perimeter declared for the year (docs/reports.md); several = small groups of several perimeters, merged; total = "
    "the whole fleet",
    "population": "workstation, classroom or server; empty for devices that are only listed in the inventory",
    "device_class": "laptop … server, virtual_machine, unknown; in released months also monitor (screens). Rows of virtual_machine "
    "are a memo line, never in a total; the whole fleet also has server rooms and listed devices, and no virtual_machine",
    "method": "method of the energy, best first: metered … class_default",
    "state": "on_active, on_idle, asleep, off, unknown; in released months on_active, on_idle (or on, both) and rest (off or "
    "asleep); of a year: to_date (its released months so far) or closed",
    "ledger": "official (ADEME's yearly factor), or indicative (the grid's intensity of the hour: indicatif, hors bilan)",
    "machines": "physical, or virtual (the memo line)",
    "kind": "states or energy",
    "condition": "name of a row of docs/alerts.md",
    "audience": "who acts on a condition: operations or sustainability",
    "period": "servers: today (current civil day) or day (last closed one); PCs: month (last released one); month_before (the one before it, where they are compared); of failures, month or year",
    "at": "month or year that a daily process was at",
    "step": "step of a daily process",
    "signal": "signal that ended a process, as SIGKILL",
    "status": "active, pending, suspended, revoked or forgotten; of an intensity: estimated, realtime or consolidated",
    "cause": "cause of avoidable energy: closed_bands (on and idle outside opening hours), open_idle (idle beyond the plan's "
    "time), screens (external screens in both), comatose_servers; `mixed` where causes may not be shown separately",
    "verdict": "comatose, suspect, in_service, excluded (by its role); underused, in_use; oversized, fitting; or not_judged "
    "(not observed for long enough, or not measured)",
    "intensity_series": "series of the grid's intensity",
    "connector": "odre, odre_consolidated or electricity_maps",
    "statistic": "median or max over the hosts",
    "source": "one way of measuring, by name",
    "outcome": "result",
    "reason": "reason, a word of a closed list",
    "zone": "grid zone",
    "factor_id": "identifier of the published factor",
    "factor_source": "publisher of the factor",
    "series": "way of averaging the factor",
    "year": "year that the factor is applied to",
    "month": "released month, as 2026-03",
    "last_month": "last month in the year's figure",
    "interval": "kind of the interval: 95 %, or sample only (how the measured machines were chosen is not in it)",
    "factor_kgco2e_per_kwh": "value of the factor, with the digits of the report",
    "provisional": "true while the year's own factor is not published",
    "version": "version of the program",
    "simulated": "true when the data directory holds simulated data",
    "host": "first 12 digits of the agent id, as in `veilleuse hosts`; servers only",
    "name": "name of the certificate",
    "part": "agents, or collector (all its processes; population is empty)",
    "direction": "received or sent by the collector",
    "route": "route of the page",
    "code": "HTTP status code",
}

_CHAPTERS: Final = (
    ("The fleet", FLEET),
    ("The indicative ledger: indicatif, hors bilan", GRID),
    ("The agents", AGENTS),
    ("The collector", (*COLLECTOR, *HTTP)),
    ("What Veilleuse itself uses", OWN),
    ("One server at a time", PER_HOST),
    ("Released months, written by `veilleuse backfill` and not on /metrics", HISTORY),
)
_PREAMBLE: Final = """\
<!-- Generated by `make docs` from collector/veilleuse/collector/exposition/catalogue.py. Do not edit. -->
# Metrics

`/metrics` is served on loopback, or with the bearer token of `http.metrics_token_file`. The format is OpenMetrics
1.0.0 if the scraper accepts it, else the text format 0.0.4. Varying parts are labels, never part of a name. Absent is
not zero: an unknown figure has no sample.

Energy and emissions of office PCs are `veilleuse_fleet_…`: released months and years of the whole fleet, measured and
extrapolated, by perimeter. Prefer them to `veilleuse_month_…`, which are of measured machines only. Emissions of the year by
perimeter, and the factor beside them:

```promql
sum by (perimeter, year, state) (veilleuse_fleet_year_emissions_grams)
veilleuse_fleet_year_emissions_grams * on (year, state, zone) group_left (factor_id, factor_kgco2e_per_kwh) veilleuse_fleet_emissions_info
```

Workstations and classroom PCs only have gauges of released months: the rows of the API (docs/api.md), each of
at least `reporting.k_anonymity` machines. Smaller groups are merged, or withheld. The web process also
exposes the standard `process_*` and `python_*` metrics of the Prometheus client.
"""


def markdown() -> str:
    """Return the full text of docs/metrics.md."""
    parts = [_PREAMBLE]
    for title, metrics in _CHAPTERS:
        parts.append(f"## {title}\n")
        for metric in metrics:
            labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
            parts.append(
                f"### `{metric.name}`\n\n{metric.help}\n\n"
                f"- type: {metric.kind}; unit: {metric.unit}\n- labels: {labels}\n"
                f"- from: {ORIGIN_TEXT[metric.origin]}\n"
            )
    parts.append("## Labels\n")
    used = {label for metric in CATALOGUE for label in metric.labels}
    parts.append("".join(f"- `{label}`: {LABEL_TEXT[label]}\n" for label in LABEL_TEXT if label in used))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(markdown())
