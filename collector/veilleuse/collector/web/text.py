# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Words, numbers and dates in French and English, for people. Nothing is rounded before this. Pure but for reading locale/."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any, Final

from veilleuse.collector.silence import Condition
from veilleuse.wire.units import (
    GRAMS_PER_KILOGRAM,
    MILLIJOULES_PER_KWH,
    MILLIJOULES_PER_UNIT,
    WATTS_PER_KILOWATT,
)
from veilleuse.wire.vocabulary import Population

LANGUAGES: Final = ("fr", "en")
DEFAULT_LANGUAGE: Final = "fr"
NO_BREAK: Final = "\u00a0"
DIGITS: Final = 3
"""Significant digits of a figure on a page."""


@dataclass(frozen=True, slots=True)
class PageText:
    """One language."""

    texts: Mapping[str, Any]

    def __call__(self, key: str, /, **values: object) -> str:
        """The text of a dotted key, filled in. Raises KeyError on an unknown key."""
        return str(self._find(key)).format(**values)

    def has(self, key: str) -> bool:
        """Whether there is such a text."""
        try:
            return isinstance(self._find(key), str)
        except KeyError:
            return False

    def count(self, key: str, number: int, **values: object) -> str:
        """Singular or plural, filled in; French says singular for 0 and 1, English for 1 alone."""
        one, many = self._find(key)
        single = number == 1 or (number == 0 and self.texts["lang"] == "fr")
        return str(one if single else many).format(n=self.number(number), **values)

    def silence(self, one: Condition) -> str:
        """What is said of a population that is silent."""
        values = {"whole": self.number(one.machines), "since": self.day(one.since)}
        if one.population is Population.SERVER:
            return self.count("silence.server", one.silent, **values)
        return self(f"silence.{one.population.value}", n=self.number(one.silent), **values)

    def number(self, value: float) -> str:
        """At most three significant digits, no exponent; whole numbers whole."""
        if isinstance(value, int) or (value == round(value) and abs(value) >= 100):
            return self._separate(f"{value:,.0f}")
        if value == 0:
            return "0"
        decimals = max(0, DIGITS - 1 - math.floor(math.log10(abs(value))))
        return self._separate(f"{value:,.{min(decimals, 6)}f}")

    def tick(self, value: float) -> str:
        """A round step of an axis, without useless zeros."""
        return self._separate(f"{value:,.6f}".rstrip("0").rstrip("."))

    def percent(self, ratio: float) -> str:
        """A ratio 0 to 1 as a percentage; 0 and 100 are exactly that."""
        mark = f"{NO_BREAK}%" if self.texts["lang"] == "fr" else "%"
        shown = f"{100 * ratio:.1f}"
        if ratio > 0 and shown == "0.0":
            shown = f"<{NO_BREAK}0.1"
        elif ratio < 1 and shown == "100.0":
            shown = f">{NO_BREAK}99.9"
        return self._separate(shown.removesuffix(".0") if shown in ("0.0", "100.0") else shown) + mark

    def energy(self, energy_millijoules: int) -> str:
        """kWh, or Wh when small, or MWh when large."""
        scale, unit = energy_unit(energy_millijoules)
        return f"{self.number(energy_millijoules / scale)}{NO_BREAK}{unit}"

    def grams(self, grams: Fraction) -> str:
        """gCO2e, or mg, kg, t."""
        for limit, unit in (
            (Fraction(1_000_000), "t"),
            (Fraction(GRAMS_PER_KILOGRAM), "kg"),
            (Fraction(1), "g"),
        ):
            if grams >= limit:
                return f"{self.number(float(grams / limit))}{NO_BREAK}{unit}CO₂e"
        if grams == 0:
            return f"0{NO_BREAK}gCO₂e"
        return f"{self.number(float(grams * GRAMS_PER_KILOGRAM))}{NO_BREAK}mgCO₂e"

    def watts(self, watts: float) -> str:
        """W, or kW from 10,000 W on."""
        if watts >= 10_000:
            return f"{self.number(watts / WATTS_PER_KILOWATT)}{NO_BREAK}kW"
        return f"{self.number(watts)}{NO_BREAK}W"

    def day(self, day: date) -> str:
        """With its weekday, in full."""
        words: Mapping[str, Any] = self.texts["day"]
        number = "1er" if day.day == 1 and self.texts["lang"] == "fr" else str(day.day)
        return str(words["format"]).format(
            weekday=words["weekdays"][day.weekday()],
            day=number,
            month=words["months"][day.month - 1],
            year=day.year,
        )

    def month(self, day: date) -> str:
        """The month of a day, in full, and its year."""
        return f"{self.texts['day']['months'][day.month - 1]} {day.year}"

    def short_day(self, day: date) -> str:
        """Without its weekday, as briefly as the language can."""
        words: Mapping[str, Any] = self.texts["day"]
        return str(words["short"]).format(day=day.day, number=day.month, year=day.year)

    def _find(self, key: str) -> Any:
        found: Any = self.texts
        for part in key.split("."):
            found = found[part]
        return found

    def _separate(self, text: str) -> str:
        marks = {",": str(self.texts["thousands"]), ".": str(self.texts["decimal"])}
        return "".join(marks.get(character, character) for character in text)


def energy_unit(energy_millijoules: int) -> tuple[int, str]:
    """(mJ per unit, unit) fit for an amount."""
    if energy_millijoules >= MILLIJOULES_PER_UNIT["MWh"]:
        return MILLIJOULES_PER_UNIT["MWh"], "MWh"
    if energy_millijoules >= MILLIJOULES_PER_KWH // 10:
        return MILLIJOULES_PER_KWH, "kWh"
    return MILLIJOULES_PER_UNIT["Wh"], "Wh"


@cache
def words(language: str) -> PageText:
    """The words of `fr` or `en`."""
    text = files("veilleuse.collector.web").joinpath("locale", f"{language}.toml").read_text("utf-8")
    return PageText(tomllib.loads(text))


def choose_language(asked: str | None, accept_language: str) -> str:
    """`?lang=` if known, else the best of Accept-Language, else French."""
    if asked in LANGUAGES:
        return asked
    best, best_quality = DEFAULT_LANGUAGE, 0.0
    for part in accept_language.split(",")[:20]:
        tag, _, rest = part.strip().partition(";")
        language = tag.split("-")[0].lower()
        quality = _quality(rest)
        if language in LANGUAGES and quality > best_quality:
            best, best_quality = language, quality
    return best


def _quality(text: str) -> float:
    name, _, value = text.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:
        return 0.0
