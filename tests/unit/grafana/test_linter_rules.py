# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the committed dashboards by the rules of Grafana's dashboard-linter, restated here.

The linter is a Go program that cannot be had on the test machines. Each rule has its name there. That every
expression parses (target-promql-rule) is seen on a real Prometheus, tests/integration/test_prometheus.py.
Rules of LogQL do not apply. A rule that is adapted says so, and why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from grafana.build import OUTPUT
from veilleuse.collector.exposition.catalogue import BY_NAME

FILES = sorted(OUTPUT.glob("*.json"))
DATASOURCES: Final = ("$datasource", "${datasource}")
UNITS: Final = frozenset(
    ("none", "percentunit", "bytes", "watt", "kwatth", "massg", "masst", "s", "cps", "reqps", "dateTimeAsIso")
)
"""Of the linter's list. Hours and days are not here: Grafana writes them in English, so titles name them."""
SELECTOR: Final = re.compile(r"(\w+)\{([^}]*)\}(\[[^\]]*\])?")
"""(metric, matchers, range) of an expression."""

Dashboard = dict[str, Any]
Rule = Callable[[Dashboard], Iterator[str]]


def panels(board: Dashboard) -> Iterator[Dashboard]:
    """Return the panels that are no rows."""
    return (panel for panel in board["panels"] if panel["type"] != "row")


def targets(board: Dashboard) -> Iterator[tuple[Dashboard, str]]:
    """Return (panel, expression) of each query."""
    return ((panel, target["expr"]) for panel in panels(board) for target in panel["targets"])


def variables(board: Dashboard, kind: str) -> list[Dashboard]:
    """Return the variables of a kind."""
    return [one for one in board["templating"]["list"] if one["type"] == kind]


def template_datasource_rule(board: Dashboard) -> Iterator[str]:
    """Adapted: the label is "Data source" in the dashboard's language (the linter warns)."""
    found = variables(board, "datasource")
    if [(one["name"], one["query"]) for one in found] != [("datasource", "prometheus")]:
        yield f"one variable `datasource` of Prometheus, not {found}"


def template_instance_rule(board: Dashboard) -> Iterator[str]:
    """Adapted: one instance is chosen, not several: figures of two collectors are never added."""
    (one,) = [one for one in variables(board, "query") if one["name"] == "instance"] or [{}]
    if one.get("datasource", {}).get("uid") not in DATASOURCES:
        yield f"a variable `instance` of the chosen data source, not {one}"
    if one.get("multi") or one.get("includeAll"):
        yield "`instance` chooses one collector"


def template_job_rule(board: Dashboard) -> Iterator[str]:
    """Adapted: there is no variable `job`, nor a matcher (target-job-rule).

    /metrics and /metrics/hosts are two jobs of one instance, and no other exporter has metrics called
    veilleuse_.
    """
    for panel, expression in targets(board):
        for name, inside, _ in SELECTOR.findall(expression):
            if not name.startswith("veilleuse_"):
                yield f"{panel['title']}: {name} is not told apart by its name"
            if "job" in inside:
                yield f"{panel['title']}: a matcher of `job`"


def template_label_promql_rule(board: Dashboard) -> Iterator[str]:
    """Choices are values of a label that the metric has."""
    for one in variables(board, "query"):
        asked = re.fullmatch(r"label_values\((veilleuse_\w+)(\{.*\})?, (\w+)\)", one["query"])
        if asked is None:
            yield f"{one['name']}: {one['query']} is no label_values()"
        elif asked[3] not in (*BY_NAME[asked[1]].labels, "instance"):
            yield f"{one['name']}: {asked[1]} has no label {asked[3]}"


def template_on_time_change_reload_rule(board: Dashboard) -> Iterator[str]:
    """Choices are read again when the time range changes."""
    for one in variables(board, "query"):
        if one["refresh"] != 2:
            yield f"{one['name']} is not read again when the time range changes"


def panel_datasource_rule(board: Dashboard) -> Iterator[str]:
    """Each panel reads the chosen data source."""
    for panel in panels(board):
        if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            yield f"{panel['title']}: {panel['datasource']}"
        for target in panel["targets"]:
            if target.get("datasource", panel["datasource"]) != panel["datasource"]:
                yield f"{panel['title']}: a query of another data source"


def panel_title_description_rule(board: Dashboard) -> Iterator[str]:
    """Each panel has a title and a description."""
    for panel in panels(board):
        if not panel.get("title") or not panel.get("description"):
            yield f"panel {panel['id']} has no title or no description"


def panel_units_rule(board: Dashboard) -> Iterator[str]:
    """Stricter: a panel with value mappings needs a unit too."""
    for panel in panels(board):
        unit = panel["fieldConfig"]["defaults"].get("unit")
        if unit not in UNITS:
            yield f"{panel['title']}: unit {unit}"


def panel_no_targets_rule(board: Dashboard) -> Iterator[str]:
    """Each panel has a query, and none is hidden."""
    for panel in panels(board):
        if not panel.get("targets"):
            yield f"{panel['title']} has no query"
        if any(target.get("hide") or not target["expr"] for target in panel["targets"]):
            yield f"{panel['title']}: a query is hidden or empty"


def target_instance_rule(board: Dashboard) -> Iterator[str]:
    """Each selector has the matcher of the chosen instance."""
    for panel, expression in targets(board):
        for name in re.findall(r"\bveilleuse_\w+", expression):
            if not re.search(rf'\b{name}\{{[^}}]*instance=~"\$instance"\}}', expression):
                yield f"{panel['title']}: {name} of any instance"


def target_rate_interval_rule(board: Dashboard) -> Iterator[str]:
    """Adapted: counters of servers have [1h]. They advance with each call, every 15 minutes: four scrapes
    would show 0, and then four times the rate."""
    for panel, expression in targets(board):
        for name, _, window in SELECTOR.findall(expression):
            if re.search(rf"\brate\({name}\{{", expression):
                of_servers = name in ("veilleuse_energy_joules_total", "veilleuse_state_seconds_total")
                if window != ("[1h]" if of_servers else "[$__rate_interval]"):
                    yield f"{panel['title']}: {window}"


def target_counter_agg_rule(board: Dashboard) -> Iterator[str]:
    """A counter is read through a rate or an increase."""
    for panel, expression in targets(board):
        for found in re.finditer(r"veilleuse_\w+(_total|_bucket|_sum|_count)\{[^}]*\}(\[)?", expression):
            before = expression[: found.start()]
            if not re.search(r"\b(rate|irate|increase)\($", before) or not found[2]:
                yield f"{panel['title']}: {found[0]} without a rate"


def uneditable_dashboard(board: Dashboard) -> Iterator[str]:
    """The dashboard cannot be changed in Grafana."""
    if board["editable"]:
        yield "editable: a change in Grafana would be lost with the next release"


RULES: Final[tuple[Rule, ...]] = (
    template_datasource_rule,
    template_instance_rule,
    template_job_rule,
    template_label_promql_rule,
    template_on_time_change_reload_rule,
    panel_datasource_rule,
    panel_title_description_rule,
    panel_units_rule,
    panel_no_targets_rule,
    target_instance_rule,
    target_rate_interval_rule,
    target_counter_agg_rule,
    uneditable_dashboard,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__.replace("_", "-"))
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_rule(file, rule):
    """The dashboard gives the rule no reason to complain."""
    assert list(rule(json.loads(file.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    ("rule", "path", "value"),
    [
        (template_datasource_rule, ("templating", "list", 0, "name"), "ds"),
        (template_instance_rule, ("templating", "list", 1, "multi"), True),
        (template_job_rule, ("panels", 1, "targets", 0, "expr"), 'up{job="x",instance=~"$instance"}'),
        (template_label_promql_rule, ("templating", "list", 1, "query"), "label_values(up, instance)"),
        (template_on_time_change_reload_rule, ("templating", "list", 1, "refresh"), 1),
        (panel_datasource_rule, ("panels", 1, "datasource"), {"type": "prometheus", "uid": "abc"}),
        (panel_title_description_rule, ("panels", 1, "description"), ""),
        (panel_units_rule, ("panels", 1, "fieldConfig", "defaults", "unit"), "suffix: g/kWh"),
        (panel_no_targets_rule, ("panels", 1, "targets", 0, "hide"), True),
        (target_instance_rule, ("panels", 1, "targets", 0, "expr"), "veilleuse_collector_up"),
        (
            target_rate_interval_rule,
            ("panels", 1, "targets", 0, "expr"),
            'rate(veilleuse_collector_pushes_total{instance=~"$instance"}[5m])',
        ),
        (
            target_counter_agg_rule,
            ("panels", 1, "targets", 0, "expr"),
            'sum(veilleuse_collector_pushes_total{instance=~"$instance"})',
        ),
        (uneditable_dashboard, ("editable",), True),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_each_rule_can_complain(rule, path, value):
    """A rule that accepts anything would prove nothing."""
    board = json.loads(FILES[0].read_text(encoding="utf-8"))
    *way, last = path
    place = board
    for step in way:
        place = place[step]
    place[last] = value
    assert list(rule(board))
