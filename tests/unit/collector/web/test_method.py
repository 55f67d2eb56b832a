# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the page of the method: each method, indicator and status is there, with the constants in use."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.support.filled import METER, Filled, minutes_of_server
from tests.support.reading import Reading
from veilleuse.collector.derive import priors
from veilleuse.collector.documents.text import words
from veilleuse.collector.indicators import TABLE
from veilleuse.wire.ladder import Method

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    """Give an application of one server."""
    with Filled(tmp_path_factory.mktemp("method") / "data", clock=NOW.timestamp) as data:
        data.push(data.add_host(entity="A"), minutes_of_server(20, 15, 180.0, at=NOW), METER)
        data.derive()
        with Reading(data, clock=NOW.timestamp) as opened:
            yield opened


@pytest.mark.parametrize("language", ["fr", "en"])
def test_everything_that_a_figure_may_carry_is_explained(reading: Reading, language: str):
    """Each method, indicator and status of a figure has its entry, and other pages link to its id."""
    text, w = reading.get(f"/methode?lang={language}").text, words(language)
    for one in Method:
        assert w.word("method", one.value) in text, one
    identifiers = set(re.findall(r' id="([^"]+)"', text))
    assert TABLE.keys() | {"published", "provisional", "closed", "unreleased", "couverture"} <= identifiers


def test_the_factor_is_the_one_that_reports_apply(reading: Reading):
    """The factor of the fleet's zone stands with its source, and 1,000 kWh are multiplied by it."""
    snapshot = reading.get("/methode?lang=en").text
    assert "46.1 gCO₂e per kWh in zone FR" in snapshot
    assert "1,000\u00a0kWh make 46.1\u00a0kgCO₂e" in snapshot


def test_margins_are_those_of_the_derivation(reading: Reading):
    """The margin of the load model is the GSD² that the derivation uses: 1.5, and 2 by threads alone."""
    text = reading.get("/methode?lang=en").text
    assert math.exp(2 * priors.STATE_POWER_U_PPM / priors.MILLION) == pytest.approx(1.5, rel=1e-5)
    assert "× or ÷ 1.5 to 2<" in text
    assert "± 2 to 5%" in text


def test_the_rule_is_that_of_the_settings(reading: Reading):
    """The page states the number of machines of `reporting.k_anonymity`, and the largest share."""
    text = reading.get("/methode?lang=fr").text
    assert "La règle des 10 machines" in text
    assert "85\u00a0%" in text
