# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of contrast in light and dark: text ≥ 4.5:1, drawings ≥ 3:1 (WCAG 2.1 AA, 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

CSS = files("veilleuse.collector.web").joinpath("static", "veilleuse.css").read_text("utf-8")
TEXTS = [
    ("text", "ground"),
    ("text", "panel"),
    ("quiet", "ground"),
    ("quiet", "panel"),
    ("link", "ground"),
    ("band-text", "band"),
    ("notice-text", "notice"),
]


def palettes() -> dict[str, dict[str, str]]:
    """Return scheme → name → #rrggbb."""
    blocks = re.findall(r":root\s*{([^}]*)}", CSS)
    light, dark = (dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", block)) for block in blocks)
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


def luminance(colour: str) -> float:
    """Return WCAG's relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme):
    """Text and drawings have enough contrast in both colour schemes."""
    palette = palettes()[scheme]
    for text, ground in TEXTS:
        assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for number in range(8):
        assert contrast(palette[f"c{number}"], palette["ground"]) >= 3, number


def test_scheme_motion_and_reflow():
    """The style follows the system's scheme, shows focus, and has no animation or external address; nothing
    outside a scrolled region is wider than 320 px (WCAG 2.1, 1.4.10)."""
    assert "prefers-color-scheme: dark" in CSS
    assert "focus-visible" in CSS
    assert "animation" not in CSS
    assert "transition" not in CSS
    assert "http" not in CSS
    widths = [
        (selector.strip(), float(number) * (1 if unit == "px" else 16))
        for selector, body in re.findall(r"([^{}]+){([^{}]*)}", CSS)
        for number, unit in re.findall(r"(?<![\w-])(?:min-)?width:\s*([\d.]+)(px|rem)", body)
    ]
    assert len(widths) > 2
    assert [one for one in widths if one[1] > 320 and not one[0].startswith(".scroll ")] == []
