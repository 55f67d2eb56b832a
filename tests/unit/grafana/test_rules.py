# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the alert rules: what Prometheus says of a sample is what the page and `doctor` say of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.alerts import OUTPUT, RECORDED, rules
from tests.architecture.tree import ROOT
from tests.support.peers import peer
from tests.support.processes import ran
from veilleuse.collector.documents.text import words
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.conditions import (
    BY_NAME,
    TABLE,
    UP,
    Condition,
    Measure,
    Severity,
    find_occurrences,
)
from veilleuse.collector.exposition.prometheus import Exposition

CASES = [
    (condition, severity, beyond)
    for condition in TABLE
    for severity in condition.bounds
    for beyond in (True, False)
]
"""Each alert with a sample just beyond its bound, and with one at the bound."""


def name_of(part: object) -> str:
    """Return the name of a part of a case."""
    return part.name if isinstance(part, Condition) else str(part)


def labels_of(condition: Condition) -> dict[str, str]:
    """Return labels that the condition selects: of alternatives the first."""
    chosen = {label: pattern.split("|")[0] for label, pattern in condition.where.items()}
    return {label: chosen.get(label, "x") for label in condition.metric.labels}


def value_of(condition: Condition, severity: Severity, *, beyond: bool) -> float:
    """Return what is measured: at the bound, or a thousandth beyond it.

    A growth just below the bound stands for one at it, because `increase` is not exact.
    """
    bound = condition.bounds[severity]
    is_time = condition.measure in (Measure.AGE, Measure.LEFT)
    step = max(abs(bound) / 1000, 1 if is_time else 0.001)
    if not beyond:
        return bound - step if condition.measure is Measure.GROWTH and bound else bound
    return bound - step if condition.below else bound + step


def promtool_file(condition: Condition, value: float, firing: dict[str, int]) -> str:
    """Return a unit test of promtool: one series of this value; `firing`: severity → number of alerts."""
    minutes = round(condition.lasts.total_seconds() / 60) + 1
    name, end = condition.metric.name, minutes * 60
    labels = ",".join(f'{label}="{text}"' for label, text in labels_of(condition).items())
    match condition.measure:
        case Measure.AGE:  # Prometheus' clock begins at 0 here: the time goes on with it
            samples = f"{-value:.6f}+60x{minutes}"
        case Measure.LEFT:
            samples = f"{value:.6f}+60x{minutes}"
        case Measure.GROWTH:
            window = condition.window.total_seconds() / 60
            minutes += round(window)
            samples, end = f"0+{value / window:.9f}x{minutes}", minutes * 60
        case _:
            samples = f"{value:.9f}x{minutes}"
    series = [{"series": f"{name}{{{labels}}}", "values": samples}]
    if condition.per is not None:
        series.append({"series": condition.per.name, "values": f"1x{minutes}"})
    tests = [
        {
            "expr": f'count(ALERTS{{alertname="{condition.alert}",severity="{severity}",alertstate="firing"}}) or vector(0)',
            "eval_time": f"{end}s",
            "exp_samples": [{"labels": "{}", "value": number}],
        }
        for severity, number in firing.items()
    ]
    return json.dumps(
        {
            "rule_files": [f"{condition.name}.rules"],
            "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}],
        }
    )


def write_rules(folder: Path, condition: Condition | None) -> str:
    """Write the rules of one condition, as they stand in the file, or those that record; return its name.

    promtool evaluates each rule of a file each minute, and no rule reads what another one makes.
    """
    groups = yaml.safe_load(OUTPUT.read_text(encoding="utf-8"))["groups"]
    for group in groups:
        group["rules"] = [
            one for one in group["rules"] if one.get("alert") == getattr(condition, "alert", None)
        ]
    file = folder / f"{condition.name if condition else 'recording'}.rules"
    file.write_text(json.dumps({"groups": groups}), encoding="utf-8")
    return file.name


def expected(condition: Condition, value: float) -> dict[str, int]:
    """Return severity → number of alerts, by the table's own judgement of this value."""
    found = condition.severity_of(value)
    order = list(condition.bounds)
    reached = order.index(found) + 1 if found else 0
    return {severity.value: int(place < reached) for place, severity in enumerate(order)}


def test_prometheus_judges_as_the_table(tmp_path):
    """Each expression fires just beyond its bound and not at it (promtool), after its time."""
    for condition in TABLE:
        write_rules(tmp_path, condition)
    files = []
    for number, (condition, severity, beyond) in enumerate(CASES):
        value = value_of(condition, severity, beyond=beyond)
        file = tmp_path / f"{number}.yml"
        file.write_text(promtool_file(condition, value, expected(condition, value)), encoding="utf-8")
        files.append(str(file))
    done = ran([peer("promtool"), "test", "rules", *files], timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(CASES)


@pytest.mark.parametrize(("condition", "severity", "beyond"), CASES, ids=name_of)
def test_the_page_judges_as_the_table(condition, severity, beyond):
    """The page and `doctor` find a sample beyond its bound, and none at it; of growth they see nothing."""
    out, now = Exposition(), 2_000_000_000.0
    value = value_of(condition, severity, beyond=beyond)
    sample = {Measure.AGE: now - value, Measure.LEFT: now + value}.get(condition.measure, value)
    out.add(condition.metric, tuple(labels_of(condition).values()), sample)
    if condition.per is not None:
        out.add(condition.per, (), 1)
    found = [one for one in find_occurrences(out, now) if one.condition is condition]
    is_seen = condition.measure is not Measure.GROWTH or condition.counts_from_start
    wanted = condition.severity_of(value) if is_seen else None
    assert [one.severity for one in found] == ([wanted] if wanted else [])
    assert all(one.value == pytest.approx(value) for one in found)


def lost_targets(left: int | None, at_minute: int, alerts: list[str]) -> dict[str, Any]:
    """Return a test of promtool: a and b answer for 10 minutes, then only the first `left` of them.

    None: no collector was ever found. `alerts`: instances of VeilleuseWebDown that fire at a minute.
    """
    minutes = {one: 2_000 if number < (left or 0) else 10 for number, one in enumerate("ab")}
    known = [
        {"series": f'up{{job="veilleuse",instance="{one}"}}', "values": f"1x{minute} stale"}
        for one, minute in minutes.items()
    ]
    firing = f'count by (instance) (ALERTS{{alertname="{BY_NAME["web_down"].alert}",alertstate="firing"}})'
    labels = [f'{{instance="{one}"}}' if one else "{}" for one in alerts]
    told = [{"labels": text, "value": 1} for text in labels]
    return {
        "interval": "1m",
        "input_series": [] if left is None else known,
        "promql_expr_test": [{"expr": firing, "eval_time": f"{at_minute}m", "exp_samples": told}],
    }


def run_rules(tmp_path: Path, condition: Condition | None, *tests: dict[str, Any]) -> None:
    """Let promtool judge tests of the rules of a condition, or of those that record."""
    file = tmp_path / "tests.yml"
    told = {"rule_files": [write_rules(tmp_path, condition)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(json.dumps(told), encoding="utf-8")
    done = ran([peer("promtool"), "test", "rules", str(file)], timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_lost_target_is_told(tmp_path):
    """A collector that leaves service discovery is told for a day, also while another answers.

    Afterwards it is told as long as Prometheus has none.
    """
    run_rules(
        tmp_path,
        BY_NAME["web_down"],
        lost_targets(2, 60, []),
        lost_targets(1, 15, []),
        lost_targets(1, 30, ["b"]),
        lost_targets(1, 24 * 60, ["b"]),
        lost_targets(1, 25 * 60, []),
        lost_targets(0, 30, ["a", "b"]),
        lost_targets(0, 25 * 60, [""]),
        lost_targets(None, 30, [""]),
    )


def test_recorded_sums_are_of_one_collector(tmp_path):
    """Two collectors with an entity of one name keep their own energy: 1 W and 3 W."""
    labels = 'entity="E",site="S",population="server",device_class="server"'
    watts = {"a": 1, "b": 3}
    run_rules(
        tmp_path,
        None,
        {
            "interval": "1m",
            "input_series": [
                {
                    "series": f'{metric.name}{{instance="{one}",ledger="official",{labels}}}',
                    "values": f"0+{60 * many}x1500",
                }
                for metric in (c.ENERGY, c.EMISSIONS)
                for one, many in watts.items()
            ],
            "promql_expr_test": [
                {
                    "expr": f"round(sum by (instance) ({name}) * 1000)",
                    "eval_time": "1500m",
                    "exp_samples": [
                        {"labels": f'{{instance="{one}"}}', "value": round(expected * many)}
                        for one, many in watts.items()
                    ],
                }
                for (name, _), expected in zip(RECORDED, (1_000, 24, 86_400_000), strict=True)
            ],
        },
    )


def test_promtool_accepts_the_file():
    """`make dashboards` would change nothing, and promtool's linter has no remark."""
    assert OUTPUT.read_text(encoding="utf-8") == rules(), "run 'make dashboards'"
    done = ran([peer("promtool"), "check", "rules", "--lint-fatal", str(OUTPUT)], timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("language", ["fr", "en"])
def test_each_condition_has_its_texts(language):
    """A sentence and a remedy for each row, none for others, and each field is one of the metric's."""
    texts: dict[str, Any] = dict(words(language).texts)
    assert set(texts["conditions"]) == set(texts["remedies"]) == set(BY_NAME)
    for condition in TABLE:
        known = {*condition.metric.labels, "n", "ratio", "percent", "duration", "memory"}
        assert set(re.findall(r"\{(\w+)\}", texts["conditions"][condition.name])) <= known


def test_metrics_and_labels_exist():
    """Each metric is of the catalogue and has the labels; recorded names are level:metric:operation."""
    for condition in TABLE:
        assert condition.metric is UP or c.BY_NAME[condition.metric.name] is condition.metric
        assert set(condition.where) <= set(condition.metric.labels)
        assert condition.per is None or not condition.per.labels
    assert all(re.fullmatch(r"\w+:\w+:\w+", name) for name, _ in RECORDED)


def test_the_example_of_alertmanager_is_valid():
    """amtool accepts it, and it routes both audiences."""
    file = ROOT / "grafana/rules/alertmanager.yml"
    done = ran([peer("amtool"), "check-config", str(file)], timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    for audience in ("operations", "sustainability"):
        arguments = ["config", "routes", "test", f"--config.file={file}", f"audience={audience}"]
        assert ran([peer("amtool"), *arguments], timeout=60).stdout.strip() == audience


def test_documents_name_files_that_exist():
    """The installation of docs/alerts.md copies files of this folder."""
    text = Path(ROOT / "docs/alerts.md").read_text(encoding="utf-8")
    for name in re.findall(r"cp (grafana/\S+)", text):
        assert (ROOT / name).is_file()
