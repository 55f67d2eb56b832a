# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Charts are well-formed, escaped and to scale, and draw nothing for unknown values."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.documents.charts import Series, columns, nice_ticks

SVG = "{http://www.w3.org/2000/svg}"
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30)


def bars(markup: str) -> list[ET.Element]:
    """Return the coloured rectangles."""
    root = ET.fromstring(markup)
    return [r for r in root.iter(f"{SVG}rect") if (r.get("class") or "").startswith("c")]


@given(TEXT, TEXT)
def test_hostile_text_stays_text(title, label):
    """Markup in names is never markup in the drawing."""
    markup = columns("e", title, [label], [Series(label, (1.0,), 0)], str)
    root = ET.fromstring(markup)
    assert root.findtext(f"{SVG}title") == title
    names = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert names <= {"svg", "title", "rect", "line", "text"}


def test_heights_are_to_scale():
    """A column of twice the value is twice as high."""
    one, two = bars(columns("e", "t", ["a", "b"], [Series("s", (2.0, 4.0), 0)], str))
    assert float(two.get("height") or 0) == 2 * float(one.get("height") or 0)


def test_stacked_columns_touch_and_do_not_overlap():
    """The second column begins where the first ends."""
    lower, upper = bars(columns("e", "t", ["a"], [Series("s", (3.0,), 0), Series("u", (1.0,), 1)], str))
    assert float(upper.get("y") or 0) + float(upper.get("height") or 0) == float(lower.get("y") or 0)


def test_unknown_draws_nothing():
    """None is a gap, not a bar of height zero."""
    assert bars(columns("e", "t", ["a", "b"], [Series("s", (None, None), 0)], str)) == []


@given(st.floats(1e-9, 1e12))
def test_ticks_are_round_and_cover(maximum):
    """Ticks go from zero to at most twice the maximum, in 1 to 5 steps."""
    ticks = nice_ticks(maximum)
    assert ticks[0] == 0
    assert maximum * (1 - 1e-9) <= ticks[-1] <= maximum * 2
    assert 2 <= len(ticks) <= 6


def test_ticks_of_nothing():
    """An axis is drawn even without values."""
    assert nice_ticks(0.0) == [0.0, 1.0]
