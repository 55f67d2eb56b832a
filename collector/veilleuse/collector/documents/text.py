# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a report says to people, in French and English. Pure but for reading locale/.

No figure is computed here. One that the account did not round (report.SHOWN) is written with three significant digits.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from veilleuse.collector.documents.columns import Column, ValueKind, catalogue
from veilleuse.collector.documents.document import LANGUAGES, SHOWN, UNDER_WAY_UNTIL, Row, Text, Value
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

SIGNIFICANT: Final = 3
HEAD_DAYS: Final = ("from", "to", UNDER_WAY_UNTIL, "inventory_imported_on")
"""What of a document's head is a day."""
DASH: Final = "–"
NO_BREAK: Final = "\u00a0"


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    texts: Mapping[str, Any]

    @property
    def language(self) -> str:
        """fr or en."""
        return str(self.texts["lang"])

    def __call__(self, key: str, /, **values: object) -> str:
        """The text of a dotted key, filled in. Raises KeyError on an unknown key."""
        section, _, name = key.partition(".")
        found = self.texts[section][name] if name else self.texts[section]
        return str(found).format(**values) if values else str(found)

    def get(self, section: str, name: str) -> str:
        """The text of a name that may have none: the name itself then, with spaces."""
        return str(self.texts[section].get(name, name.replace("_", " ")))

    def text(self, text: Text) -> tuple[str, str]:
        """(text, the language that it is in)."""
        if isinstance(text, str):
            translated = self.texts["notes"].get(text)
            return (str(translated), self.language) if translated else (text, "en")
        language = next((one for one in (self.language, *LANGUAGES) if one in text), next(iter(text), ""))
        return text.get(language, ""), language

    def word(self, words: str | None, value: str) -> str:
        """A word of a closed list; as it is where the list does not know it: it may be somebody's name."""
        return str(self.texts["words"].get(words, {}).get(value, value))

    def number(self, value: float) -> str:
        """At least three significant digits, whole numbers whole, no exponent above 10⁻⁶."""
        if isinstance(value, int) or value == 0 or (value == round(value) and abs(value) >= 100):
            return self.plain_number(f"{value:.0f}")
        decimals = SIGNIFICANT - 1 - math.floor(math.log10(abs(value)))
        if decimals > 8:
            return self.plain_number(f"{value:.{SIGNIFICANT - 1}e}")
        return self.plain_number(f"{value:.{max(0, decimals)}f}")

    def plain_number(self, text: str) -> str:
        """A number's digits, as Python writes them, with this language's marks: `1089000.5` is 1 089 000,5."""
        mantissa, _, exponent = text.partition("e")
        whole, point, decimals = mantissa.partition(".")
        digits = f"{int(whole):,}".replace(",", str(self.texts["thousands"]))
        if whole.startswith("-") and not digits.startswith("-"):
            digits = f"-{digits}"
        written = digits.replace("-", "−") + (f"{self('decimal')}{decimals}" if point else "")
        return f"{written} × 10^{int(exponent)}" if exponent else written

    def percent(self, ratio: float) -> str:
        """A ratio 0 to 1."""
        return self("percent", number=self.plain_number(f"{ratio:.1%}"[:-1]))

    def day(self, text: str) -> str:
        """An ISO date in full; what is none, as it is."""
        try:
            day = date.fromisoformat(text)
        except ValueError:
            return text
        first = day.day == 1 and self.language == "fr"
        months: Sequence[str] = self.texts["day"]["months"]
        return self("day.format", day="1er" if first else day.day, month=months[day.month - 1], year=day.year)

    def time(self, unix_milliseconds: int) -> str:
        """To the minute, UTC."""
        moment = instant(unix_milliseconds)
        return self("day.time", day=self.day(moment.date().isoformat()), time=f"{moment:%H:%M}")

    def value(self, column: Column, value: Value, row: Row) -> str:
        """A value of a row as people read it: as the account has shown it, or by its kind."""
        shown = row.get(SHOWN)
        if isinstance(shown, Mapping) and column.name in shown:
            text = shown[column.name]
            return str(text) if isinstance(text, (int, float)) else self.text(text)[0]
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

    def head(self, name: str, value: Value | Sequence[str]) -> str:
        """A value of the document's head."""
        if isinstance(value, Sequence) and not isinstance(value, str):
            known = catalogue()
            return (
                ", ".join(known[one].labels[self.language] if one in known else one for one in value) or DASH
            )
        if name.endswith("_unix_milliseconds") and isinstance(value, int):
            return self.time(value)
        column = catalogue().get(name)
        if column is None:
            kind = ValueKind.DATE if name in HEAD_DAYS else ValueKind.TEXT
            column = Column(name, kind, "", {}, {}, words=name)
        return self.value(column, value, {})

    def _share(self, share: float | str | Mapping[str, str]) -> str:
        return self.percent(share) if isinstance(share, (int, float)) else self.text(share)[0]


def instant(unix_milliseconds: int) -> datetime:
    """UTC, to the second."""
    return datetime.fromtimestamp(unix_milliseconds // MILLISECONDS_PER_SECOND, UTC)


def shown_interval(figure: tuple[str, str, str], unit: str) -> dict[str, str]:
    """For a row's SHOWN: (value, lower, upper end), digits that the account has rounded, in every language.

    ("1124000", "1089000", "1161000") of kWh is `1 124 000 kWh (1 089 000 à 1 161 000)` in French.
    """
    value, low, high = figure
    return {
        language: w(
            "interval",
            value=w.plain_number(value),
            low=w.plain_number(low),
            high=w.plain_number(high),
            unit=f"{NO_BREAK}{unit}",
        )
        for language in LANGUAGES
        for w in (words(language),)
    }


@cache
def words(language: str) -> Words:
    """The words of `fr` or `en`."""
    text = files("veilleuse.collector.documents").joinpath("locale", f"{language}.toml").read_text("utf-8")
    return Words(tomllib.loads(text))
