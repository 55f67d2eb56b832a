# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Charts are well-formed, escaped and to scale, and draw nothing for unknown values."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.documents.charts import Series, columns, nice_ticks, shares

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
    assert names <= {"svg", "title", "defs", "pattern", "rect", "line", "text"}


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
    assert bars(shares("e", "t", ["a"], [Series("s", (None,), 0)])) == []


def test_modelled_series_are_hatched():
    """Stripes over the bar mark a modelled series, not the colour alone."""
    markup = columns("e", "t", ["a"], [Series("s", (1.0,), 0, hatched=True)], str)
    assert 'fill="url(#e-hatch)"' in markup
    assert 'id="e-hatch"' in markup


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=5))
def test_shares_fill_the_width(values):
    """The parts of a bar cover its width exactly, for any sum."""
    drawn = bars(shares("s", "t", ["a"], [Series(str(v), (v,), 0) for v in values]))
    last = drawn[-1]
    assert abs(float(last.get("x") or 0) + float(last.get("width") or 0) - 720) < 1


def test_a_long_label_has_a_short_one_for_narrow_screens():
    """The short label lacks the first part; a label that fits appears once."""
    long = "postes de travail · portables · heures de fermeture du 22/11/2026"
    root = ET.fromstring(shares("s", "t", [long, "serveurs · aujourd’hui"], []))
    texts = [(one.get("class"), one.text) for one in root.iter(f"{SVG}text")]
    assert texts == [
        ("axis long", long),
        ("axis short", "portables · heures de fermeture du 22/11/2026"),
        ("axis", "serveurs · aujourd’hui"),
    ]


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
