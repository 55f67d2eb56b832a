# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists once what somebody should mend: metric, bounds, time it must last.

The first page and `veilleuse doctor` judge the samples of /metrics by this table. The alert rules
(grafana/rules/veilleuse.yml) and the thresholds of docs/alerts.md are generated from it. Texts are in
documents/locale/conditions.*.toml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.metric import Metric, MetricOrigin, MetricType
from veilleuse.collector.exposition.prometheus import Exposition

_DAY_SECONDS: Final = 86_400


class Severity(StrEnum):
    """A Severity says how soon somebody should act. The label `severity` of an alert."""

    INFO = "info"
    """Nothing is wrong, and somebody wants to know."""
    WARNING = "warning"
    CRITICAL = "critical"


class Audience(StrEnum):
    """An Audience says who acts. The label `audience` of an alert."""

    OPERATIONS = "operations"
    SUSTAINABILITY = "sustainability"


class Measure(StrEnum):
    """A Measure says what of a sample is compared with the bounds."""

    VALUE = "value"
    AGE = "age"
    """Seconds since the sample's Unix time."""
    LEFT = "left"
    """Seconds until the sample's Unix time."""
    GROWTH = "growth"
    """Increase of a counter over the condition's window. Prometheus alone knows it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A Condition holds for each series of a metric that is beyond a bound."""

    name: str
    """Key of its texts; `backup_old` is the alert VeilleuseBackupOld."""
    metric: Metric
    bounds: Mapping[Severity, float]
    """Severity → bound, exclusive; the least severe first."""
    measure: Measure = Measure.VALUE
    below: bool = False
    """True where values below the bound are wrong."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Label → regular expression of its whole value."""
    per: Metric | None = None
    """Metric without labels that divides the value."""
    lasts: timedelta = timedelta(minutes=10)
    """Time for which it must hold until the alert fires."""
    window: timedelta = timedelta(minutes=15)
    """Time over which GROWTH is taken."""
    counts_from_start: bool = False
    """True where the page and `doctor` judge the whole counter, since the collector's start."""
    audience: Audience = Audience.OPERATIONS
    or_lost: bool = False
    """True where the alert also holds for each series that Prometheus had in the last day and has no more.

    It holds without labels while Prometheus had none in that day.
    """

    @property
    def alert(self) -> str:
        """Return the name of the alert."""
        return "Veilleuse" + "".join(part.capitalize() for part in self.name.split("_"))

    def severity_of(self, value: float) -> Severity | None:
        """Return the highest severity whose bound the value is beyond; None when it is within all."""
        beyond = [
            severity
            for severity, bound in self.bounds.items()
            if (value < bound if self.below else value > bound)
        ]
        return beyond[-1] if beyond else None

    def expression(self, severity: Severity) -> str:
        """Return the PromQL expression of the severity's alert."""
        matchers = ",".join(f"{label}{_matcher(pattern)}" for label, pattern in self.where.items())
        series = self.metric.name + (f"{{{matchers}}}" if matchers else "")
        match self.measure:
            case Measure.AGE:
                measured = f"time() - {series}"
            case Measure.LEFT:
                measured = f"{series} - time()"
            case Measure.GROWTH:
                measured = f"increase({series}[{round(self.window.total_seconds() / 60)}m])"
            case _:
                measured = series
        if self.per is not None:
            measured += f" / {self.per.name}"
        compared = f"{measured} {'<' if self.below else '>'} {self._bound(self.bounds[severity])}"
        if not self.or_lost:
            return compared
        lost = f"last_over_time({series}[1d]) unless {series}"
        return f"{compared} or ({lost}) or absent_over_time({series}[1d])"

    def _bound(self, bound: float) -> str:
        days = bound / _DAY_SECONDS
        in_days = self.measure in (Measure.AGE, Measure.LEFT) and days and days == int(days)
        return f"{days:.0f} * {_DAY_SECONDS}" if in_days else f"{bound:.12g}"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An Occurrence is one series for which a condition holds."""

    condition: Condition
    severity: Severity
    labels: Mapping[str, str]
    value: float
    """As measured: a number, a ratio, or seconds."""


def find_occurrences(out: Exposition, now_unix_seconds: float) -> Iterator[Occurrence]:
    """Yield what holds now, in the table's order."""
    for condition in TABLE:
        for labels, value in _measured(condition, out, now_unix_seconds):
            if (severity := condition.severity_of(value)) is not None:
                yield Occurrence(condition, severity, labels, value)


LEVELS: Final = {None: 0, Severity.INFO: 1, Severity.WARNING: 2, Severity.CRITICAL: 3}
"""Values of CONDITION_LEVEL."""


def add_levels(out: Exposition, now_unix_seconds: float) -> None:
    """Add the level of each condition that can be judged: one value for other monitoring systems."""
    for condition in TABLE:
        levels = [
            LEVELS[condition.severity_of(value)] for _, value in _measured(condition, out, now_unix_seconds)
        ]
        if levels:
            out.add(c.CONDITION_LEVEL, (condition.name, condition.audience.value), max(levels))


def _measured(
    condition: Condition, out: Exposition, now_unix_seconds: float
) -> Iterator[tuple[Mapping[str, str], float]]:
    """Yield (labels, measured value) of each series of a condition that one exposition can tell."""
    if condition.measure is Measure.GROWTH and not condition.counts_from_start:
        return
    divisors = [1.0] if condition.per is None else [value for _, value in out.samples(condition.per)]
    for values, value in out.samples(condition.metric):
        labels = dict(zip(condition.metric.labels, values, strict=True))
        if not all(re.fullmatch(pattern, labels[label]) for label, pattern in condition.where.items()):
            continue
        for divisor in divisors:
            if condition.measure is Measure.AGE:
                yield labels, now_unix_seconds - value
            elif condition.measure is Measure.LEFT:
                yield labels, value - now_unix_seconds
            elif divisor:
                yield labels, value / divisor


def _matcher(pattern: str) -> str:
    return f'="{pattern}"' if re.fullmatch(r"\w+", pattern) else f'=~"{pattern}"'


def _days(number: int) -> int:
    return number * _DAY_SECONDS


AT_ONCE: Final = timedelta(0)
HOUR: Final = timedelta(hours=1)
UP: Final = Metric("up", MetricType.GAUGE, "1", "Written by Prometheus.", ("job",), MetricOrigin.WEB)
"""1 where the scrape succeeded. Prometheus alone has it."""

TABLE: Final = (
    Condition("web_down", UP, {Severity.CRITICAL: 1}, below=True, where={"job": "veilleuse"}, or_lost=True),
    Condition("collector_down", c.COLLECTOR_UP, {Severity.CRITICAL: 1}, below=True),
    # The levels are those of silence.py: 1 some machines, 2 most of them.
    Condition(
        "servers_silent",
        c.SILENCE_LEVEL,
        {Severity.WARNING: 0, Severity.CRITICAL: 1},
        where={"population": "server"},
    ),
    Condition(
        "population_silent",
        c.SILENCE_LEVEL,
        {Severity.WARNING: 0, Severity.CRITICAL: 1},
        where={"population": "workstation|classroom"},
    ),
    Condition(
        "coverage_falling",
        c.COVERAGE_CHANGE,
        {Severity.WARNING: -0.1, Severity.CRITICAL: -0.3},
        below=True,
        where={"machines": "physical"},
    ),
    Condition("source_failing", c.SOURCE_FAILURES, {Severity.WARNING: 0.2}, lasts=HOUR),
    Condition("backup_missing", c.BACKUP_MADE, {Severity.WARNING: 1}, below=True),
    # Agents send again records of the last 3 days: older ones would be lost with the disk.
    Condition(
        "backup_old",
        c.BACKUP_NEWEST,
        {Severity.WARNING: _days(7), Severity.CRITICAL: _days(30)},
        Measure.AGE,
    ),
    Condition("register_unwritable", c.REGISTER_WRITABLE, {Severity.CRITICAL: 1}, below=True),
    Condition("derivation_late", c.DIRTY, {Severity.WARNING: 10_000}, lasts=timedelta(minutes=15)),
    # The collector tries every hour.
    Condition(
        "month_late", c.MONTH_DUE, {Severity.WARNING: _days(2), Severity.CRITICAL: _days(9)}, Measure.AGE
    ),
    Condition("publication_failing", c.PUBLICATION_FAILURES, {Severity.WARNING: 0}, lasts=2 * HOUR),
    Condition("child_killed", c.CHILD_KILLED, {Severity.WARNING: 0}, lasts=AT_ONCE),
    Condition("month_held", c.MONTH_HELD, {Severity.WARNING: 0}),
    Condition("month_of_older_rule", c.MONTH_OLDER_RULE, {Severity.WARNING: 0}),
    Condition(
        "disk_low",
        c.STORE_FREE,
        {Severity.WARNING: 2, Severity.CRITICAL: 1},
        below=True,
        per=c.STORE_RESERVE,
        lasts=timedelta(minutes=5),
    ),
    Condition(
        "disk_forecast",
        c.STORE_FULL,
        {Severity.WARNING: _days(30), Severity.CRITICAL: _days(7)},
        Measure.LEFT,
        below=True,
        lasts=HOUR,
    ),
    Condition(
        "store_errors",
        c.STORE_ERRORS,
        {Severity.CRITICAL: 0},
        Measure.GROWTH,
        lasts=AT_ONCE,
        counts_from_start=True,
    ),
    # It ends the collector, and is told for a week after the next start.
    Condition(
        "store_replaced",
        c.STORE_LOST,
        {Severity.CRITICAL: _days(7)},
        Measure.AGE,
        below=True,
        lasts=AT_ONCE,
    ),
    Condition(
        "root_certificate",
        c.CERTIFICATE,
        {Severity.WARNING: _days(365), Severity.CRITICAL: _days(60)},
        Measure.LEFT,
        below=True,
        where={"name": "root"},
    ),
    Condition(
        "intermediate_certificate",
        c.CERTIFICATE,
        {Severity.WARNING: _days(180), Severity.CRITICAL: _days(60)},
        Measure.LEFT,
        below=True,
        where={"name": "intermediate"},
    ),
    # The collector replaces its own certificate 30 days before its end.
    Condition(
        "server_certificate",
        c.CERTIFICATE,
        {Severity.WARNING: _days(29), Severity.CRITICAL: _days(14)},
        Measure.LEFT,
        below=True,
        where={"name": "server"},
    ),
    Condition("factor_missing", c.FACTOR_KNOWN, {Severity.WARNING: 1}, below=True),
    Condition("factor_stale", c.FACTOR_DUE, {Severity.WARNING: 0}, Measure.AGE),
    Condition(
        "factor_provisional",
        c.FACTOR,
        {Severity.INFO: 0},
        where={"provisional": "true"},
        audience=Audience.SUSTAINABILITY,
    ),
    Condition("intensity_failing", c.INTENSITY_FAILURES, {Severity.WARNING: 2}),
    Condition("otlp_failing", c.OTLP_FAILURES, {Severity.WARNING: 2}),
    Condition("machine_waiting", c.HOSTS, {Severity.WARNING: 0}, where={"status": "pending"}, lasts=HOUR),
    Condition(
        "identity_shared",
        c.IDENTITY_CONFLICTS,
        {Severity.WARNING: 0},
        Measure.GROWTH,
        window=HOUR,
        lasts=AT_ONCE,
    ),
    Condition("records_refused", c.REFUSED_RECORDS, {Severity.WARNING: 0}, Measure.GROWTH, window=HOUR),
    Condition(
        "calls_shed",
        c.REFUSED_CALLS,
        {Severity.WARNING: 100},
        Measure.GROWTH,
        where={"reason": "queue_full|backlog_full|too_many_calls"},
        lasts=timedelta(minutes=15),
    ),
    Condition("time_unexplained", c.UNEXPLAINED, {Severity.WARNING: 0}, lasts=HOUR),
    Condition("records_quarantined", c.QUARANTINE, {Severity.WARNING: 0}, lasts=HOUR),
    Condition(
        "on_at_night",
        c.MONTH_OUTSIDE_OPENING,
        {Severity.INFO: 0.2},
        audience=Audience.SUSTAINABILITY,
    ),
    Condition(
        "server_comatose",
        c.COMATOSE_SERVERS,
        {Severity.INFO: 0},
        where={"verdict": "comatose"},
        audience=Audience.SUSTAINABILITY,
    ),
)
BY_NAME: Final[Mapping[str, Condition]] = {condition.name: condition for condition in TABLE}
