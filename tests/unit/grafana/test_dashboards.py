# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that the dashboard has the panels of panels.py, known metrics, and nothing that a browser runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.build import OUTPUT, dashboards
from grafana.panels import ROWS
from grafana.queries import Form, series
from tests.architecture.tree import ROOT
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.catalogue import BY_NAME, MetricType

FILES = sorted(OUTPUT.glob("*.json"))
PANELS = [panel for row in ROWS for panel in row.panels]


def names(expression: str) -> set[str]:
    """Return the metrics that an expression reads."""
    return set(re.findall(r"\bveilleuse_\w+", expression))


def base(name: str) -> str:
    """Return the metric family of a series."""
    family = re.sub("_(bucket|sum|count)$", "", name)
    return (
        family if BY_NAME.get(family, c.ENERGY).kind in (MetricType.SUMMARY, MetricType.HISTOGRAM) else name
    )


def test_committed_files_are_what_would_be_built():
    """`make dashboards` would change nothing, and no other file is there."""
    committed = {file.name: file.read_text(encoding="utf-8") for file in FILES}
    assert committed == dashboards(), "run 'make dashboards', and read its diff"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_round_trip(file):
    """Grafana's SDK reads the file and writes it unchanged."""
    raw = json.loads(file.read_text(encoding="utf-8"))
    again = json.loads(json.dumps(Dashboard.from_json(raw), cls=JSONEncoder))
    assert again == raw


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_panels_of_the_file(file):
    """Each panel has its own id, a title, a description, a unit, the variable data source, no HTML (S16)."""
    raw = json.loads(file.read_text(encoding="utf-8"))
    panels: list[dict[str, Any]] = raw["panels"]
    titles: dict[int, str] = {}
    for panel in panels:
        identifier, title = panel["id"], panel["title"]
        assert identifier not in titles, (
            f"id {identifier} is used twice: {titles[identifier]!r} and {title!r}"
        )
        titles[identifier] = title
        where = f"panel {identifier} ({title}) in grafana/panels*.py"
        assert panel["type"] not in {"text", "dashlist", "news", "html"}, f"{where}: no text panels"
        if panel["type"] == "row":
            continue
        assert title, f"{where}: give a title"
        assert panel["description"].endswith("."), f"{where}: the description is a sentence with a full stop"
        assert panel["fieldConfig"]["defaults"]["unit"], f"{where}: give a unit"
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["expr"] for target in panel["targets"])
    assert "<" not in "".join(panel.get("title", "") + panel.get("description", "") for panel in panels)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_panels_do_not_overlap(file):
    """Each panel is within the 24 columns and covers no other."""
    taken: dict[tuple[int, int], str] = {}
    for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
        at = panel["gridPos"]
        x, y = at.get("x", 0), at.get("y", 0)
        title = f"panel {panel['id']} ({panel['title']})"
        assert x + at["w"] <= 24, f"{title} is wider than 24 columns, or ends beyond them"
        cells = dict.fromkeys(((x + i, y + j) for i in range(at["w"]) for j in range(at["h"])), title)
        covered = {taken[cell] for cell in cells.keys() & taken.keys()}
        assert not covered, f"{title} covers {covered}: change a width or a height"
        taken |= cells


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel.identifier))
def test_every_metric_exists(panel):
    """The test finds a metric that was renamed in the catalogue alone."""
    for query in panel.queries:
        assert names(query.expression)
        for name in names(query.expression):
            assert base(name) in BY_NAME, f"{name} is not in exposition/catalogue.py"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_colours_judge_where_they_are_meant_to(file):
    """Each panel has its own thresholds: without them Grafana shows 80 of any unit in red.

    Only a panel with steps judges values. A share has the maximum 100 %.
    """
    panels = {panel["id"]: panel for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]}
    for panel in PANELS:
        if panel.form not in (Form.STAT, Form.BARS):
            continue
        assert panel.identifier in panels, "run 'make dashboards'"
        defaults = panels[panel.identifier]["fieldConfig"]["defaults"]
        base, *steps = [(step["value"], step["color"]) for step in defaults["thresholds"]["steps"]]
        assert base[0] is None
        assert steps == sorted(steps)
        if not panel.steps:
            assert (base[1] in ("text", "blue"), steps) == (True, []), panel.title
        if panel.form is Form.BARS and panel.unit == "percentunit":
            assert defaults["max"] == 1


def test_power_is_of_a_time_that_holds_several_calls():
    """Servers call every 15 minutes: a window of four scrapes would show 0, then four times the power."""
    for panel in PANELS:
        for query in panel.queries:
            if (
                names(query.expression) & {c.ENERGY.name, c.STATE_SECONDS.name}
                and "rate(" in query.expression
            ):
                assert "[1h]" in query.expression, panel.title


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel.identifier))
def test_totals_leave_virtual_machines_out(panel):
    """Each query of energy, power or emissions excludes or selects virtual machines."""
    for query in panel.queries:
        if names(query.expression) & {
            c.ENERGY.name,
            c.EMISSIONS.name,
            c.POWER.name,
            c.DAY_ENERGY.name,
            c.MONTH_ENERGY.name,
        }:
            assert "virtual_machine" in query.expression, f"{panel.title}: select PHYSICAL or VIRTUAL"


def test_unknown_label_is_refused():
    """A matcher on a label that the metric lacks would select nothing, without an error."""
    with pytest.raises(ValueError, match="no label"):
        series(c.HOSTS, 'entity="DSI"')


def test_rules_name_existing_metrics():
    """Rules read metrics of the catalogue; recorded names are level:metric:operation."""
    text = (ROOT / "grafana/rules/veilleuse.yml").read_text(encoding="utf-8")
    expressions = re.findall(r"expr: (?:>-\n)?((?:.*\n)(?: {10,}(?:veilleuse|or ).*\n)*)", text)
    assert len(expressions) == text.count("expr:")
    for expression in expressions:
        for name in names(expression):
            assert base(name) in BY_NAME, name
    assert all(re.fullmatch(r"\w+:\w+:\w+", name) for name in re.findall(r"record: (\S+)", text))


def test_provisioning_points_where_the_readme_says():
    """The README's installation copies to the provider file's folder."""
    provider = (ROOT / "grafana/provisioning/dashboards/veilleuse.yml").read_text(encoding="utf-8")
    (path,) = re.findall(r"path: (\S+)", provider)
    assert path in Path(ROOT / "grafana/README.md").read_text(encoding="utf-8")
