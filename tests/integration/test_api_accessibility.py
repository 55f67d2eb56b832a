# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Check the page /api in a real browser with axe-core, as the other pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.test_accessibility import SCREENS, axe_says
from tests.support.filled import Filled
from tests.support.pages import body
from tests.support.reading import Reading


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    """Give the application over an empty store, because the page shows nothing of the fleet."""
    with Filled(tmp_path_factory.mktemp("api") / "data") as data, Reading(data) as made:
        yield made


@pytest.mark.parametrize(("language", "screen"), [("fr", "wide"), ("en", "narrow and dark")])
def test_no_violation(reading, language, screen, tmp_path):
    """The page violates no rule of WCAG 2.1 AA and axe's good practice, and never scrolls sideways."""
    page = body(reading.app, f"/api?lang={language}")
    told = axe_says(page, body(reading.app, "/static/veilleuse.css"), tmp_path, SCREENS[screen])
    assert told["violations"] == []
    assert told["passes"] > 15
    assert told["overflow"] <= 0
    assert told["dark"] == ("dark" in screen)
