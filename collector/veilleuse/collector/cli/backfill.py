# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse backfill`: released months as OpenMetrics with timestamps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from typing import Annotated, Final

import typer
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from veilleuse.collector import clock
from veilleuse.collector.calendars.periods import add_months
from veilleuse.collector.cli.output import write_output
from veilleuse.collector.cli.progress import shown_step
from veilleuse.collector.cli.shared import APP, ConfigOption, load_settings, parse_date, plural, print_note
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.model.query import check_period
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.metrics.fleet_emissions import FleetAmounts, Groups, read_months
from veilleuse.wire.units import joules_from_millijoules

app = typer.Typer(**APP)

_NOON: Final = time(12, tzinfo=UTC)
"""The first day of a month at noon UTC is in that month in every time zone of France."""


@app.command()
def backfill(
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="first day, e.g. 2026-01-01")],
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="day after the last, e.g. 2027-01-01")],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="where to write; - is standard output")
    ] = "-",
    config: ConfigOption = None,
) -> None:
    """Write released months of a period as OpenMetrics with timestamps, for a database that knows no past.

    The figures are those of 'veilleuse report emissions --group-by perimeter,population,device_class' for
    each month. Give the file to 'promtool tsdb create-blocks-from openmetrics', or to the import of
    VictoriaMetrics: docs/monitoring.md.
    """
    settings = load_settings(config)
    since, until = parse_date("--from", first), parse_date("--to", end)
    check_period(since, until)
    with shown_step("computing the report"), open_reader(settings.data_dir) as store:
        sources, now = sources_of(store, settings.reporting), clock.today()
        years = [read_months(sources, year, now) for year in range(since.year, min(until, now).year + 1)]
    months = {
        month: groups
        for year in years
        for month, groups in sorted(year.items())
        if since <= month and add_months(month, 1) <= until
    }
    if not months:
        raise CollectorError(
            f"no month of {since} to {until} is released: give whole months that ended three days ago or more"
        )
    registry = CollectorRegistry()
    registry.register(_Months(months))
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]  # the client leaves it untyped
    write_output(text, output, binary=False)
    number = len(months)
    print_note(
        f"note: {number} released {plural(number, 'month')} written, {min(months):%Y-%m} to {max(months):%Y-%m}"
    )


class _Months(Collector):
    """Collects one sample of each group, month and metric."""

    def __init__(self, months: Mapping[date, Groups]) -> None:
        self._months = months

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for metric, value_of in ((c.HISTORY_ENERGY, _joules), (c.HISTORY_EMISSIONS, _grams)):
            family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for month, groups in self._months.items():
                noon = int(datetime.combine(month, _NOON).timestamp())
                for group, amounts in groups.items():
                    family.add_metric(group, value_of(amounts), timestamp=noon)
            yield family


def _joules(amounts: FleetAmounts) -> float:
    return joules_from_millijoules(amounts.energy_millijoules)


def _grams(amounts: FleetAmounts) -> float:
    return float(amounts.grams)
