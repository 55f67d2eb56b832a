# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the tables of panels, their texts, and the JSON that is built from them."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.build import BOARDS, OUTPUT, dashboards, legend_words
from grafana.queries import Form, Panel, Query, judged, series
from grafana.texts import texts_of, words_of
from tests.architecture.tree import ROOT
from veilleuse.collector.documents.document import LANGUAGES
from veilleuse.collector.documents.text import words
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.catalogue import BY_NAME, MetricType
from veilleuse.collector.exposition.conditions import TABLE, Severity
from veilleuse.collector.indicators.avoidable_energy import CAUSES
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.indicators import ServerVerdict
from veilleuse.collector.model.remote_config import HostState
from veilleuse.collector.web.pages.table import PAGES
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import DeviceClass, GapReason, Population, State

FILES = sorted(OUTPUT.glob("*.json"))
PANELS = [pytest.param(panel, id=f"{board.name}-{panel.key}") for board in BOARDS for panel in board.panels]
QUERIES = [
    pytest.param(query.expression, id=f"{board.name}-{panel.key}-{number}")
    for board in BOARDS
    for panel in board.panels
    for number, query in enumerate(panel.queries)
]
ABSENCE = {
    "fr": ("Pas de donnée", "coupure", "mois absent"),
    "en": ("No data", "break", "missing month"),
}
"""How a description says what a missing value means."""

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def read(file: Path) -> dict[str, Any]:
    """Return a dashboard's JSON."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def panels_of(file: Path) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without its rows."""
    return [panel for panel in read(file)["panels"] if panel["type"] != "row"]


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


def test_five_dashboards_in_two_languages():
    """The five of the two languages differ in texts and links only: a reader of English sees no less."""
    assert len(BOARDS) == 5
    assert all(len(board.panels) <= 14 for board in BOARDS)
    for board in BOARDS:
        french, english = (panels_of(OUTPUT / f"{board.name}.{language}.json") for language in LANGUAGES)
        for one, other in zip(french, english, strict=True):
            assert [target["expr"] for target in one["targets"]] == [
                target["expr"] for target in other["targets"]
            ]
            assert (one["id"], one["gridPos"]) == (other["id"], other["gridPos"])
    uids = [read(file)["uid"] for file in FILES]
    assert len(set(uids)) == 10
    assert all(len(uid) <= 40 for uid in uids), "Grafana refuses longer ones"


@each_file
def test_round_trip(file):
    """Grafana's SDK reads the file and writes it unchanged."""
    raw = read(file)
    again = json.loads(json.dumps(Dashboard.from_json(raw), cls=JSONEncoder))
    assert again == raw


@each_file
def test_a_panel_explains_itself(file):
    """The title is a question, the description a sentence that says what a missing value means, and a link
    leads to a page of the product in the dashboard's language. No panel holds HTML (S16)."""
    language = file.name.split(".")[1]
    paths = "|".join(page.path for page in PAGES)
    identifiers = [panel["id"] for panel in read(file)["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    for panel in panels_of(file):
        where = f"panel {panel['id']} ({panel['title']})"
        assert panel["type"] not in {"text", "dashlist", "news", "html"}, f"{where}: no text panels"
        assert panel["title"].endswith("?"), f"{where}: a question"
        assert panel["description"].rstrip("»").endswith("."), f"{where}: a sentence with a full stop"
        assert any(word in panel["description"] for word in ABSENCE[language]), (
            f"{where}: say what no data means"
        )
        (link,) = panel["links"]
        assert re.fullmatch(
            rf"\$\{{pages:raw\}}({paths})\?lang={language}(&id=\$\{{host:raw\}})?", link["url"]
        )
        assert "<" not in panel["title"] + panel["description"]


@each_file
def test_panels_do_not_overlap(file):
    """Each panel is within the 24 columns and covers no other."""
    taken: dict[tuple[int, int], str] = {}
    for panel in read(file)["panels"]:
        at = panel["gridPos"]
        x, y = at.get("x", 0), at.get("y", 0)
        title = f"panel {panel['id']} ({panel['title']})"
        assert x + at["w"] <= 24, f"{title} is wider than 24 columns, or ends beyond them"
        cells = dict.fromkeys(((x + i, y + j) for i in range(at["w"]) for j in range(at["h"])), title)
        covered = {taken[cell] for cell in cells.keys() & taken.keys()}
        assert not covered, f"{title} covers {covered}: change a width or a height"
        taken |= cells


@each_file
def test_variables_act_on_every_panel(file):
    """A variable that some panels ignore misleads. Each is in every expression, or in the choices of one
    that is; the address of the pages is in every link."""
    raw = read(file)
    choices = {one["name"]: one for one in raw["templating"]["list"]}
    assert {"datasource", "instance", "pages"} <= choices.keys()
    for name in choices.keys() - {"datasource", "pages"}:
        narrowed = [
            other for other, one in choices.items() if one["type"] == "query" and f'"${name}"' in one["query"]
        ]
        for panel in panels_of(file):
            for target in panel["targets"]:
                used = re.findall(r'"\$(\w+)"', target["expr"])
                assert name in used or set(narrowed) & set(used), f"{panel['title']} ignores ${name}"


@each_file
def test_colours_judge_where_they_are_meant_to(file):
    """Each panel has its own thresholds: without them Grafana shows 80 of any unit in red.

    A panel that judges nothing says why in its table, and has one neutral colour. A share has the maximum
    100 %.
    """
    board = next(board for board in BOARDS if file.name.startswith(f"{board.name}."))
    for panel, built in zip(board.panels, panels_of(file), strict=True):
        defaults = built["fieldConfig"]["defaults"]
        first, *steps = [(step["value"], step["color"]) for step in defaults["thresholds"]["steps"]]
        assert first[0] is None
        assert steps == sorted(steps)
        if isinstance(panel.judge, str):
            assert panel.judge, f"{panel.key}: say why it judges nothing"
            assert (first[1] in ("text", "blue"), steps) == (True, []), panel.key
        if panel.form is Form.BARS and panel.unit == "percentunit":
            assert defaults["max"] == 1


@pytest.mark.parametrize("condition", TABLE, ids=lambda one: one.name)
def test_thresholds_are_those_of_the_conditions(condition):
    """Grafana colours a value as the alert would, on both sides of each bound."""

    def colour(value: float) -> str:
        return [colour for step, colour in judged(condition.name) if step is None or value >= step][-1]

    colours = {None: "green", Severity.INFO: "blue", Severity.WARNING: "orange", Severity.CRITICAL: "red"}
    for bound in condition.bounds.values():
        for value in (bound - 0.001, bound + 0.001):
            assert colour(value) == colours[condition.severity_of(value)]


@pytest.mark.parametrize("expression", QUERIES)
def test_every_metric_exists(expression):
    """The test finds a metric that was renamed in the catalogue alone."""
    assert names(expression)
    for name in names(expression):
        assert base(name) in BY_NAME, f"{name} is not in exposition/catalogue.py"


@pytest.mark.parametrize("expression", QUERIES)
def test_power_is_of_a_time_that_holds_several_calls(expression):
    """Servers call every 15 minutes: a window of four scrapes would show 0, then four times the power."""
    if names(expression) & {c.ENERGY.name, c.STATE_SECONDS.name}:
        assert "rate(" in expression
        assert "[1h]" in expression


@pytest.mark.parametrize("expression", QUERIES)
def test_months_and_years_come_from_closed_periods(expression):
    """A Prometheus keeps 15 days: an increase of a counter of energy is never a month or a year."""
    if "increase(" in expression:
        assert all("_collector_" in name for name in names(expression))
    if re.search(r"_(month|year|day)_", expression):
        assert "rate(" not in expression


@pytest.mark.parametrize("expression", QUERIES)
def test_no_panel_mixes_periods(expression):
    """Gauges that have a period are read for one: bars of today, of yesterday and of a month are no total."""
    of_a_period = [metric.name for metric in c.CATALOGUE if "period" in metric.labels]
    for name, inside in re.findall(r"(veilleuse_\w+)\{([^}]*)\}", expression):
        if name in of_a_period:
            assert re.search(r'period="\w+"', inside), name


@pytest.mark.parametrize("expression", QUERIES)
def test_totals_leave_virtual_machines_out(expression):
    """Each query of a fleet's energy, power or emissions excludes or selects virtual machines. Servers like
    one server are of its class."""
    live = {c.ENERGY.name, c.EMISSIONS.name, c.POWER.name, c.DAY_ENERGY.name, c.DAY_EMISSIONS.name}
    if names(expression) & live and "host=" not in expression:
        assert "virtual_machine" in expression


def test_texts_have_the_same_keys():
    """A text that one language lacks would end the build for that language; one without a panel is stale."""

    def keys(texts: Any, place: str = "") -> set[str]:
        if not isinstance(texts, dict):
            return {place}
        return {key for name, text in texts.items() for key in keys(text, f"{place}.{name}")}

    assert keys(texts_of("fr")) == keys(texts_of("en"))
    sections = {board.name: {panel.key for panel in board.panels} for board in BOARDS}
    for name, panels in sections.items():
        assert {key for key, text in texts_of("fr")[name].items() if isinstance(text, dict)} == panels | {
            "rows"
        }


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("population", Population),
        ("device_class", DeviceClass),
        ("method", Method),
        ("state", State),
        ("reason", GapReason),
        ("verdict", [*ServerVerdict, "underused", "in_use", "oversized", "fitting"]),
        ("status", HostStatus),
        ("configuration", HostState),
        ("cause", [*CAUSES, "mixed"]),
        ("condition", [one.name for one in TABLE]),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_closed_lists_have_words(language, name, values):
    """A new value of a list needs a word in both languages, or a legend would show it raw."""
    known = words_of(language, name)
    assert [value for value in map(str, values) if value not in known] == []


def test_each_list_of_words_is_used():
    """A list that no legend names is stale."""
    parts = [
        part for board in BOARDS for panel in board.panels for query in panel.queries for part in query.legend
    ]
    named = {part.strip("{}").split(":")[-1] for part in parts if part.startswith("{")}
    assert texts_of("fr")["words"].keys() <= named


def test_one_word_for_one_concept():
    """What a page or a report calls by a word is called so here."""
    for language in LANGUAGES:
        pages = words(language)
        assert words_of(language, "device_class")["laptop"] == pages.word("device_class", "laptop")
        assert words_of(language, "verdict")["underused"] == pages("servers.is_under_used")
        assert words_of(language, "reason")["spool_cap"] == pages.texts["values"]["GAP_REASON_SPOOL_CAP"]


def test_a_legend_with_two_meanings_of_a_value_is_refused():
    """`server` is a population and a certificate: one legend of both would show a wrong word."""
    panel: Panel = BOARDS[0].panels[0]
    wrong = dataclasses.replace(panel, queries=(Query("x", ("{population}", "{name:certificate}")),))
    with pytest.raises(ValueError, match="server is"):
        legend_words(wrong, "fr")


def test_unknown_label_is_refused():
    """A matcher on a label that the metric lacks would select nothing, without an error."""
    with pytest.raises(ValueError, match="no label"):
        series(c.HOSTS, 'entity="DSI"')


def test_provisioning_points_where_the_readme_says():
    """The README's installation copies to the provider file's folder."""
    provider = (ROOT / "grafana/provisioning/dashboards/veilleuse.yml").read_text(encoding="utf-8")
    (path,) = re.findall(r"path: (\S+)", provider)
    assert path in Path(ROOT / "grafana/README.md").read_text(encoding="utf-8")
