# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Gives the texts of the dashboards, and the words of label values, in French and English.

A concept has one word: the words of pages and reports are taken from there. locale/ has the others.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.documents.text import Words, unbroken, words

LOCALE: Final = Path(__file__).resolve().parent / "locale"
_OF_REPORTS: Final = ("population", "device_class", "perimeter", "method", "interval", "cause")
"""Labels whose words stand in the reports' files, under the label's name."""


@cache
def texts_of(language: str) -> Mapping[str, Any]:
    """Read the dashboards' own texts of a language; in French, spaces before high marks do not break."""
    found = tomllib.loads((LOCALE / f"{language}.toml").read_text("utf-8"))
    return unbroken(found) if language == "fr" else found


@cache
def words_of(language: str, name: str) -> Mapping[str, str]:
    """Return label value → word of a list; empty for labels that are names, such as sites.

    `name`: a label's, or that of one of the lists that a label has in different metrics.
    """
    pages, own = words(language), texts_of(language)["words"].get(name, {})
    if name in _OF_REPORTS:
        return {**pages.texts["words"][name], **own}
    return {**_of_pages(pages).get(name, {}), **own}


def _of_pages(pages: Words) -> Mapping[str, Mapping[str, str]]:
    reasons = {
        value.removeprefix("GAP_REASON_").lower(): word
        for value, word in pages.texts["values"].items()
        if value.startswith("GAP_REASON_")
    }
    verdicts = {"underused": pages("servers.is_under_used"), "oversized": pages("servers.is_oversized")}
    return {
        "part": pages.texts["words"]["own_part"],
        "state": pages.texts["top"]["states"],
        "reason": reasons,
        "verdict": pages.texts["words"]["comatose"] | verdicts,
    }
