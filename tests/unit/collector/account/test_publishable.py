# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A closed year published beside its months, through the commands. P15 measures its protection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from tests.support.closed_years import PERIOD, YEAR, command, filled_year, report, told
from tests.support.machines import settings_in
from tests.support.sources import opened
from veilleuse.collector.account.publishable import _nice, round_for_publication
from veilleuse.collector.model.figures import EnergyByOrigin
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.collector.settings import settings_environment

STEP_KWH = 5_000
"""Publication step of these towers: 20 of them use some 4,000 kWh a year."""


@pytest.fixture
def year(tmp_path, monkeypatch, capsys):
    """Return the commands for an open year of 60 towers of Voirie, 30 of Eau, and a server."""
    settings = settings_in(tmp_path, **{"closing.coverage_minimum_ratio": "0"})
    filled_year(settings, machines=90)
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)
    return command(capsys)


def entity(made: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the one row of an entity's PCs."""
    (found,) = (row for row in made["rows"] if row.get("entity") == name and row["population"] != "server")
    return found  # type: ignore[no-any-return]


def test_a_published_year(year):
    """Figures are rounded to one step, and their interval contains the exact one.
    Parts, changes and days are not published; servers are unchanged."""
    told(year, "close", str(YEAR))
    exact, published = report(year), report(year, "--public")
    assert published["report"]["public"] is True
    for before, after in (
        (entity(exact, "Voirie"), entity(published, "Voirie")),
        (exact["totals"][0], published["totals"][0]),
    ):
        step = STEP_KWH
        assert after["kwh_total"] % step == 0
        assert abs(after["kwh_total"] - before["kwh_total"]) <= step / 2
        assert after["kgco2e_total"] == pytest.approx(after["kwh_total"] * before["factor_kgco2e_per_kwh"])
        for unit in ("kwh", "kgco2e"):
            for end in ("sample", "sensitivity"):
                assert after[f"{unit}_lo_{end}"] <= before[f"{unit}_lo_{end}"]
                assert before[f"{unit}_hi_{end}"] <= after[f"{unit}_hi_{end}"]
        assert after["coverage_energy"] * 20 == round(after["coverage_energy"] * 20)
        assert after["n"] % 10 == 0
        assert after["n_fleet"] == before["n_fleet"]
        assert not {
            "kwh_measured",
            "method_mix",
            "machine_days_observed",
            "days_observed",
            "u_sampling",
        } & set(after)
    few = entity(published, "Eau")
    assert not [name for name in few if name.startswith(("kwh", "kgco2e", "coverage", "energy"))]
    assert [row for row in published["rows"] if row["population"] == "server"] == [
        row for row in exact["rows"] if row["population"] == "server"
    ]
    assert not published["items"]


@pytest.mark.parametrize("words", [(), ("--group-by", "month")])
def test_what_is_not_closed_is_not_published(year, words):
    """Two reports of an open year can be subtracted whatever their rounding."""
    if words:
        told(year, "close", str(YEAR))
    code, out, err = year("report", "emissions", *PERIOD, "--public", *words)
    assert (code, out) == (2, "")
    assert "close" in err


def test_pcs_without_an_energy(year, tmp_path):
    """A row of PCs without a known energy has no time or coverage either."""
    told(year, "close", str(YEAR))
    settings = settings_in(tmp_path)
    question = Query(date(YEAR, 1, 1), date(YEAR + 1, 1, 1), ("entity",), 10, date(YEAR + 1, 6, 1))
    with opened(settings.data_dir, settings.reporting) as sources:
        made = emissions_report_of(sources, question, compare=False)
    (period,) = made.periods
    pcs = [number for number, row in enumerate(period.rows) if row.key.population == "workstation"]
    rows, figures = list(made.statement.rows), list(period.rows)
    for number in pcs:
        assert rows[number].activity.machine_days_observed
        rows[number] = replace(rows[number], energy=EnergyByOrigin())
        unknown = {
            name: replace(one, estimate=replace(one.estimate, energy_millijoules=0))
            for name, one in figures[number].classes.items()
        }
        figures[number] = replace(figures[number], classes=unknown)
    statement = replace(made.statement, rows=tuple(rows))
    published = round_for_publication(statement, [replace(period, rows=tuple(figures))], 10)
    for number in pcs:
        row = published.rows[number]
        assert (
            row.activity.machine_days_observed,
            row.activity.coverage_states,
            row.activity.days_observed,
        ) == (None, None, None)


def test_steps():
    """A step is the next of 1, 2 and 5 × 10ⁿ, so that it does not show where the figure lies between them."""
    assert [_nice(wanted) for wanted in (0.3, 1, 1.1, 4.9, 5, 5.1, 99, 1001)] == [
        pytest.approx(step) for step in (0.5, 1, 2, 5, 5, 10, 100, 2000)
    ]
