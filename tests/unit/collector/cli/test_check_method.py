# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse check-method`: every worked answer is right, and a broken function is detected."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from veilleuse.collector import quantiles
from veilleuse.collector.account import emissions, rounding
from veilleuse.collector.cli.main import run
from veilleuse.collector.derive import wall
from veilleuse.collector.factors import book
from veilleuse.collector.fleet import estimator
from veilleuse.collector.model.sums import WallEnergy
from veilleuse.collector.reports import worked_examples
from veilleuse.collector.reports.worked_examples import check_examples
from veilleuse.wire import units

SECTION_13 = {
    "0.01625", "0.55275", "0.56039", "33.0252", "520", "338", "182.4", "-0.4", "711.25", "2.5163566012590954", "1124000",
    "18394.13", "36051.8", "333", "0.0163649", "1088520", "1160636",
}  # fmt: skip
"""Answers of docs/methodology.md §13, as written there."""


def test_every_answer_is_right_and_none_of_the_method_is_missing():
    """All answers of §13 and some of §1, §2, §6, §8 and §10 are checked, and none differs."""
    found = list(check_examples())
    assert {one.expected for one in found if one.section == "13"} == SECTION_13
    assert {one.section for one in found} == {"1", "2", "6", "8", "10", "13"}
    assert [one for one in found if not one.ok] == []


def test_the_command_prints_each_with_expected_and_got(capsys):
    """The answers are a table or JSON; the exit code is 0 without a data directory."""
    assert run(["check-method"]) == 0
    out, err = capsys.readouterr()
    lines = [line.split("\t") for line in out.splitlines()]
    assert ["TEC, notebook, EU 617/2013", "33.0252", "33.0252", "ok"] in [
        [line[0], line[3], line[4], line[-1]] for line in lines
    ]
    assert err.endswith(f"{len(lines) - 1} answers, 0 differ\n")
    assert run(["check-method", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["differences"] == 0
    (one,) = [one for one in told["answers"] if one["what"].startswith("pedigree")]
    assert one == {
        "section": "13",
        "what": "pedigree, nothing known",
        "inputs": "all scores null",
        "unit": "",
        "expected": "2.5163566012590954",
        "got": pytest.approx(2.5163566012590954, rel=1e-15),
        "ok": True,
    }


def _slightly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Increase the result by one per mille."""

    def broken(*arguments: Any, **named: Any) -> Any:
        right = function(*arguments, **named)
        return right * Fraction(1001, 1000) if isinstance(right, Fraction) else right * 1.001

    return broken


def _wall(function: Callable[..., tuple[WallEnergy, ...]]) -> Callable[..., tuple[WallEnergy, ...]]:
    def broken(*arguments: Any, **named: Any) -> tuple[WallEnergy, ...]:
        return tuple(
            WallEnergy(
                one.method,
                one.energy_millijoules * 1001 // 1000,
                one.uncertainty_millijoules,
                one.milliseconds,
            )
            for one in function(*arguments, **named)
        )

    return broken


def _rounded(_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda figure: tuple(str(round(one)) for one in figure)


def _book(function: Callable[[], book.FactorBook]) -> Callable[[], book.FactorBook]:
    """Choose the factor of the year before."""

    class _Late:
        def __init__(self) -> None:
            self.named = function().named

        def choose(self, zone: str, year: int) -> Any:
            return function().choose(zone, max(2021, year - 1))

    return _Late  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("module", "name", "breaking", "differing"),
    [
        (units, "kwh_from_millijoules", _slightly, "energy from power"),
        (emissions, "kgco2e", _slightly, "OWID table"),
        (emissions, "kgco2e", _slightly, "ADEME 2022, residual"),
        (emissions, "factor_u", _slightly, "u of a published ±p %"),
        (worked_examples, "tec_kwh_per_year", _slightly, "TEC, notebook, EU 617/2013"),
        (emissions, "pedigree_gsd2", _slightly, "pedigree, nothing known"),
        (quantiles, "quantile95", _slightly, "stratified mean, half-width"),
        (wall, "wall_energy", _wall, "wall model, laptop"),
        (rounding, "round_interval", _rounded, "rounded for people, upper end"),
        (worked_examples, "factor_book", _book, "ADEME 2025"),
    ],
)
def test_a_broken_function_is_found(monkeypatch, capsys, module, name, breaking, differing):
    """A function that is wrong by a thousandth makes its answer differ and the command fail."""
    monkeypatch.setattr(module, name, breaking(getattr(module, name)))
    assert run(["check-method", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    wrong = [one["what"] for one in told["answers"] if not one["ok"]]
    assert len(wrong) == told["differences"]
    assert differing in wrong


def test_a_broken_variance_is_found(monkeypatch, capsys):
    """The stratified mean uses the estimator: a sampling variance 1 % too small changes its error alone."""
    right = estimator.Fleet.total

    def broken(self: estimator.Fleet) -> Any:
        total = right(self)
        return replace(total, sampling_variance=total.sampling_variance * 0.99)

    monkeypatch.setattr(estimator.Fleet, "total", broken)
    assert run(["check-method", "--json"]) == 1
    wrong = {one["what"] for one in json.loads(capsys.readouterr().out)["answers"] if not one["ok"]}
    assert "stratified mean, standard error" in wrong
    assert "stratified mean" not in wrong


def test_tec_of_every_duty_is_a_whole_year():
    """The shares of each duty sum to 1, so one watt all year is 8.76 kWh."""
    one = Decimal(1)
    for duty in worked_examples.duties().values():
        assert duty.off + duty.sleep + duty.long_idle + duty.short_idle == 1
        assert worked_examples.tec_kwh_per_year(duty, one, one, one, one) == Fraction(876, 100)
