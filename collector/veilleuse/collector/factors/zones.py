# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Knows the French grid zones: the mainland, and islands and territories with their own grids.

docs/methodology.md §8.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

MAINLAND: Final = "FR"

APART: Final[Mapping[str, tuple[str, ...]]] = {
    "FR-20R": ("corse", "corsica", "fr-cor", "fr-h"),
    "GP": ("guadeloupe",),
    "MQ": ("martinique",),
    "GF": ("guyane", "guyane francaise", "french guiana"),
    "RE": ("la reunion", "reunion", "ile de la reunion"),
    "YT": ("mayotte",),
    "PM": ("saint-pierre-et-miquelon", "saint pierre et miquelon"),
    "BL": ("saint-barthelemy", "saint barthelemy"),
    "MF": ("saint-martin", "saint martin"),
    "WF": ("wallis-et-futuna", "wallis et futuna"),
    "PF": ("polynesie francaise", "french polynesia"),
    "NC": ("nouvelle-caledonie", "nouvelle caledonie", "new caledonia"),
}
"""Code → folded names.

Codes are ISO 3166-1 alpha-2. Corsica has none and uses ISO 3166-2:FR (FR-20R since 2020; FR-COR and FR-H
before).
"""

CODES: Final[Mapping[str, str]] = {name: code for code, names in APART.items() for name in names} | {
    "france continentale": MAINLAND
}
"""Folded name → code."""


def fold(text: str) -> str:
    """Fold a name for comparison: lower case, no accents, single spaces, plain apostrophes."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'"))
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return " ".join(letters.lower().split())


def zones_named(text: str) -> frozenset[str]:
    """Return the codes of separate zones that a text (such as a category path) names as whole words."""
    words = f" {re.sub('[^a-z]+', ' ', fold(text))} "
    return frozenset(
        code
        for code, names in APART.items()
        if any(f" {re.sub('[^a-z]+', ' ', name)} " in words for name in names if not name.startswith("fr-"))
    )
