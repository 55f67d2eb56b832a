# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes words, numbers and dates in French and English, for reports, pages and the terminal.

Reads locale/ only.

No figure is computed here. A figure that the account did not round (document.SHOWN) gets three significant
digits.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, tzinfo
from fractions import Fraction
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

from veilleuse.collector.documents.document import (
    LANGUAGES,
    RELEASED_FROM,
    RELEASED_UNTIL,
    SHOWN,
    UNDER_WAY_UNTIL,
    UNITS,
    Column,
    Document,
    Row,
    Text,
    Value,
    ValueKind,
    read_columns,
)
from veilleuse.wire.units import (
    GRAMS_PER_KILOGRAM,
    MILLIJOULES_PER_KWH,
    MILLIJOULES_PER_UNIT,
    MILLISECONDS_PER_SECOND,
    WATTS_PER_KILOWATT,
)

SIGNIFICANT: Final = 3
HEAD_DAYS: Final = ("from", "to", UNDER_WAY_UNTIL, RELEASED_FROM, RELEASED_UNTIL, "inventory_imported_on")
"""Entries of a document's head that are days."""
DASH: Final = "–"
NO_BREAK: Final = "\u00a0"


@dataclass(frozen=True, slots=True)
class Words:
    """Words writes texts in one language."""

    texts: Mapping[str, Any]

    @property
    def language(self) -> str:
        """Return fr or en."""
        return str(self.texts["lang"])

    def __call__(self, key: str, /, **values: object) -> str:
        """Return the text of a dotted key, filled in. Raises KeyError for an unknown key."""
        found = str(self._find(key))
        return found.format(**values) if values else found

    def has(self, key: str) -> bool:
        """Tell if the key has a text."""
        try:
            return isinstance(self._find(key), str)
        except KeyError:
            return False

    def count(self, key: str, number: int, **values: object) -> str:
        """Fill in the singular or the plural. French uses the singular for 0 and 1, English for 1 only."""
        one, many = self._find(key)
        single = number == 1 or (number == 0 and self.language == "fr")
        return str(one if single else many).format(n=self.number(number), **values)

    def get(self, section: str, name: str) -> str:
        """Return the text of a name, or the name itself with spaces where it has no text."""
        return str(self.texts[section].get(name, name.replace("_", " ")))

    def text(self, text: Text) -> tuple[str, str]:
        """Return (text, its language)."""
        if isinstance(text, str):
            translated = self.texts["notes"].get(text)
            return (str(translated), self.language) if translated else (text, "en")
        language = next((one for one in (self.language, *LANGUAGES) if one in text), next(iter(text), ""))
        return text.get(language, ""), language

    def translate(self, document: Document) -> Document:
        """Return the document in this language, its notes too: the JSON format translates none itself."""
        assumptions, method = map(self._notes, (document.assumptions, document.method))
        return replace(document, language=self.language, assumptions=assumptions, method=method)

    def _notes(self, notes: Sequence[Text]) -> tuple[Text, ...]:
        return tuple({language: text} for text, language in map(self.text, notes))

    def word(self, words: str | None, value: str) -> str:
        """Translate a word of a closed list; an unknown word stays as it is: it may be a proper name."""
        return str(self.texts["words"].get(words, {}).get(value, value))

    def number(self, value: float) -> str:
        """Write a number: at least three significant digits, all digits of whole numbers, no exponent above
        10⁻⁶.
        """
        if isinstance(value, int) or value == 0 or (value == round(value) and abs(value) >= 100):
            return self.plain_number(f"{value:.0f}")
        decimals = SIGNIFICANT - 1 - math.floor(math.log10(abs(value)))
        if decimals > 8:
            return self.plain_number(f"{value:.{SIGNIFICANT - 1}e}")
        return self.plain_number(f"{value:.{max(0, decimals)}f}")

    def plain_number(self, text: str) -> str:
        """Write the digits of a Python number with this language's marks: `1089000.5` is 1 089 000,5."""
        mantissa, _, exponent = text.partition("e")
        whole, point, decimals = mantissa.partition(".")
        digits = f"{int(whole):,}".replace(",", str(self.texts["thousands"]))
        if whole.startswith("-") and not digits.startswith("-"):
            digits = f"-{digits}"
        written = digits.replace("-", "−") + (f"{self('decimal')}{decimals}" if point else "")
        return f"{written} × 10^{int(exponent)}" if exponent else written

    def tick(self, value: float) -> str:
        """Write a round step of an axis, without trailing zeros."""
        return self.plain_number(f"{value:.6f}".rstrip("0").rstrip("."))

    def percent(self, ratio: float) -> str:
        """Write a ratio 0 to 1 as percent. Only an exact 0 is 0 %, only an exact 1 is 100 %."""
        mark, shown = "", f"{100 * ratio:.1f}"
        if ratio > 0 and shown == "0.0":
            mark, shown = f"<{NO_BREAK}", "0.1"
        elif ratio < 1 and shown == "100.0":
            mark, shown = f">{NO_BREAK}", "99.9"
        elif shown in ("0.0", "100.0"):
            shown = shown.removesuffix(".0")
        return self("percent", number=mark + self.plain_number(shown))

    def energy(self, energy_millijoules: int) -> str:
        """Write kWh, or Wh for small values, or MWh for large ones."""
        scale, unit = energy_unit(energy_millijoules)
        return f"{self.number(energy_millijoules / scale)}{NO_BREAK}{unit}"

    def grams(self, grams: Fraction) -> str:
        """Write gCO2e, or mg, kg, t."""
        if grams == 0:
            return f"0{NO_BREAK}gCO₂e"
        units = ((1_000_000, "t"), (GRAMS_PER_KILOGRAM, "kg"), (1, "g"))
        scale, unit = next(
            ((Fraction(scale), unit) for scale, unit in units if grams >= scale),
            (Fraction(1, GRAMS_PER_KILOGRAM), "mg"),
        )
        return f"{self.number(float(grams / scale))}{NO_BREAK}{unit}CO₂e"

    def kwh(self, kwh: float) -> str:
        """Write a report's kWh in the unit that fits, with its sign."""
        return self._sign(kwh) + self.energy(round(abs(kwh) * MILLIJOULES_PER_KWH))

    def kilograms(self, kgco2e: float) -> str:
        """Write a report's kgCO2e in the unit that fits, with its sign."""
        return self._sign(kgco2e) + self.grams(abs(Fraction(repr(float(kgco2e)))) * GRAMS_PER_KILOGRAM)

    @staticmethod
    def _sign(value: float) -> str:
        return "−" if value < 0 else ""

    def watts(self, watts: float) -> str:
        """Write W, or kW from 10,000 W on."""
        if watts >= 10_000:
            return f"{self.number(watts / WATTS_PER_KILOWATT)}{NO_BREAK}kW"
        return f"{self.number(watts)}{NO_BREAK}W"

    def day(self, text: str) -> str:
        """Write an ISO date in full; return other text unchanged."""
        try:
            return self._day("format", date.fromisoformat(text))
        except ValueError:
            return text

    def long_day(self, day: date) -> str:
        """Write a day with its weekday, in full."""
        return self._day("long", day)

    def short_day(self, day: date) -> str:
        """Write a day in the shortest form of the language."""
        return self("day.short", day=day.day, number=day.month, year=day.year)

    def month(self, day: date) -> str:
        """Write the month of a day, in full, and its year."""
        return f"{self.texts['day']['months'][day.month - 1]} {day.year}"

    def short_month(self, day: date) -> str:
        """Write the month of a day, abbreviated, for an axis."""
        return str(self.texts["day"]["short_months"][day.month - 1])

    def of_month(self, day: date) -> str:
        """Write "of" and the month of a day; French elides it: d’avril, d’octobre."""
        month = self.month(day)
        return self("day.of_vowel" if month[0].lower() in "ao" else "day.of", month=month)

    def from_month(self, day: date, *, with_year: bool = True) -> str:
        """Write "From" and the month of a day, likewise."""
        month = self.month(day) if with_year else self.month(day).partition(" ")[0]
        return self("day.from_vowel" if month[0].lower() in "ao" else "day.from", month=month)

    def months(self, first: date, last: date) -> str:
        """Write from which month to which; both are days of them."""
        if (first.year, first.month) == (last.year, last.month):
            return self.month(first)
        begin = self.from_month(first, with_year=first.year != last.year)
        return self("months.span", begin=begin, last=self.month(last))

    def time(self, unix_milliseconds: int, zone: tzinfo | None = None) -> str:
        """Write a moment to the minute: UTC, or in a zone that the page names."""
        moment = instant(unix_milliseconds).astimezone(zone or UTC)
        day = self.day(moment.date().isoformat())
        return self("day.local_time" if zone else "day.time", day=day, time=f"{moment:%H:%M}")

    def value(self, column: Column, value: Value, row: Row) -> str:
        """Write a value of a row for people: the account's shown text, or by the column's kind."""
        shown = row.get(SHOWN)
        if isinstance(shown, Mapping) and column.name in shown:
            text = shown[column.name]
            return self.number(text) if isinstance(text, (int, float)) else self.text(text)[0]
        unit = row.get(column.unit_from) if column.unit_from else None
        if isinstance(value, bool):
            return self("yes") if value else self("no")
        if isinstance(value, Mapping):
            return ", ".join(
                f"{self.word(column.words, name)} {self._share(share)}" for name, share in value.items()
            )
        if isinstance(value, str):
            return self.day(value) if column.kind is ValueKind.DATE else self.word(column.words, value)
        if not column.grouped:
            return str(value)
        if column.kind is ValueKind.TIME:
            return self.time(int(value))
        return (
            self.percent(value) if column.kind is ValueKind.RATIO or unit == "ratio" else self.number(value)
        )

    def amount(self, column: Column, value: float, row: Row) -> str:
        """Write a value with its unit: emissions and energy in the unit that fits."""
        unit = row.get(column.unit_from) if column.unit_from else column.unit
        if column.kind is ValueKind.RATIO or unit == "ratio":
            return self.percent(value)
        if unit in (UNITS["kgco2e"], "kgCO2e"):
            return self.kilograms(value)
        if unit == UNITS["kwh"]:
            return self.kwh(value)
        written = self.value(column, value, {})
        return f"{written}{NO_BREAK}{self.word('unit', str(unit))}" if column.unit_from and unit else written

    def head(self, name: str, value: Value | Sequence[str]) -> str:
        """Write a value of the document's head."""
        if isinstance(value, Sequence) and not isinstance(value, str):
            known = read_columns()
            return (
                ", ".join(known[one].labels[self.language] if one in known else one for one in value) or DASH
            )
        if name.endswith("_unix_milliseconds") and isinstance(value, int):
            return self.time(value)
        column = read_columns().get(name)
        if column is None:
            kind = ValueKind.DATE if name in HEAD_DAYS else ValueKind.TEXT
            column = Column(name, kind, "", {}, {}, words=name)
        return self.value(column, value, {})

    def _day(self, form: str, day: date) -> str:
        words: Mapping[str, Any] = self.texts["day"]
        return self(
            f"day.{form}",
            weekday=words["weekdays"][day.weekday()],
            day="1er" if day.day == 1 and self.language == "fr" else day.day,
            month=words["months"][day.month - 1],
            year=day.year,
        )

    def _find(self, key: str) -> Any:
        found: Any = self.texts
        for part in key.split("."):
            found = found[part]
        return found

    def _share(self, share: float | str | Mapping[str, str]) -> str:
        return self.percent(share) if isinstance(share, (int, float)) else self.text(share)[0]


def instant(unix_milliseconds: int) -> datetime:
    """Return the moment in UTC, cut to the second."""
    return datetime.fromtimestamp(unix_milliseconds // MILLISECONDS_PER_SECOND, UTC)


def energy_unit(energy_millijoules: int) -> tuple[int, str]:
    """Choose the unit of an amount: return (mJ per unit, unit)."""
    if energy_millijoules >= MILLIJOULES_PER_UNIT["MWh"]:
        return MILLIJOULES_PER_UNIT["MWh"], "MWh"
    if energy_millijoules >= MILLIJOULES_PER_KWH // 10:
        return MILLIJOULES_PER_KWH, "kWh"
    return MILLIJOULES_PER_UNIT["Wh"], "Wh"


_FITTING: Final[Mapping[str, tuple[tuple[float, str], ...]]] = {
    UNITS["kgco2e"]: ((1e3, "tCO₂e"), (1.0, "kgCO₂e"), (1e-3, "gCO₂e")),
    UNITS["kwh"]: ((1e3, "MWh"), (1.0, "kWh"), (1e-3, "Wh")),
}
"""Unit of a column → (its size in that unit, larger or smaller unit), the largest first."""


def fitting_unit(unit: str | None, largest: float) -> tuple[float, str]:
    """Choose one unit for the values of a column: return (divisor, unit)."""
    units = _FITTING.get(unit or "", ((1.0, unit or ""),))
    return next(((size, name) for size, name in units if largest >= size), units[min(1, len(units) - 1)])


@cache
def words(language: str) -> Words:
    """Read the words of `fr` or `en`: those of reports, then of pages.

    `api` holds those of the page about the API. Sections of two files differ: a test says so. In French no
    line begins with a colon or ends with «: their spaces become NO_BREAK.
    """
    found: dict[str, Any] = {}
    for part in text_parts():
        texts = texts_of(f"{part}{language}.toml")
        found |= {"api": texts} if part == "api." else texts
    return Words(unbroken(found) if language == "fr" else found)


def unbroken(texts: Any) -> Any:
    """Return texts, or a tree of them, with NO_BREAK where French wants it."""
    if isinstance(texts, dict):
        return {name: unbroken(text) for name, text in texts.items()}
    if isinstance(texts, list):
        return [unbroken(text) for text in texts]
    return _FRENCH_SPACE.sub(NO_BREAK, texts) if isinstance(texts, str) else texts


_FRENCH_SPACE: Final = re.compile(r"(?<=«) | (?=[:;!?»%])")


def text_parts() -> tuple[str, ...]:
    """Return what comes before the language in the names of the files: empty for reports, or as `pages.`."""
    names = (file.name for file in _folder().iterdir())
    return tuple(sorted(name.removesuffix("fr.toml") for name in names if name.endswith("fr.toml")))


def texts_of(file: str) -> dict[str, Any]:
    """Read the texts of one file of locale/."""
    return tomllib.loads(_folder().joinpath(file).read_text("utf-8"))


def _folder() -> Traversable:
    return files("veilleuse.collector.documents").joinpath("locale")
