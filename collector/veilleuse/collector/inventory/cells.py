# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One cell of somebody's file → a value, or a clear refusal. Pure; nothing in a cell is ever executed, opened or followed."""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Final

MAXIMUM_CHARACTERS: Final = 128
"""Of a name: PROMISES.md S16."""
MAXIMUM_PATH_CHARACTERS: Final = 512
"""Of an entity with all that is above it."""
EARLIEST: Final = date(1980, 1, 1)
LATEST: Final = date(2100, 1, 1)
SEPARATOR: Final = " > "
"""Between an entity and the one above it, as GLPI writes it."""

_SPACES: Final = re.compile("[ \u00a0\u2009\u202f]+")
"""French typography puts the narrow ones before signs and between thousands; none of them is a hidden character."""
_DATE: Final = re.compile(
    r"(?:(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})|(?P<a>\d{1,2})[-/.](?P<b>\d{1,2})[-/.](?P<c>\d{4}))"
    r"(?:[ T]\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})?)?"
)
_NUMBER: Final = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>\d+|\d{1,3}(?P<by>[., '])\d{3}(?:(?P=by)\d{3})*)"
    r"(?:(?P<point>[.,])(?P<part>\d*))?(?P<power>[eE][+-]?\d{1,3})?"
)
"""Signs between thousands stand before three digits each, and are all the same: `12.05.2024` is no amount."""
_TRUE: Final = frozenset({"1", "yes", "y", "true", "oui", "o", "vrai", "x"})
_FALSE: Final = frozenset({"0", "no", "n", "false", "non", "faux"})
_NOTHING: Final = frozenset({"", "-", "--", "0000-00-00", "n/a", "null", "&nbsp;"})
"""What lists write for nothing; GLPI's own dropdowns say &nbsp; in its API."""


class CellError(Exception):
    """Cannot be taken as it is. `args`: what, and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy


def tidy(cell: str) -> str:
    """The cell as text: NFC, spaces made one, none at its ends; an apostrophe that guards against formulas is taken off."""
    text = unicodedata.normalize("NFC", _SPACES.sub(" ", cell)).strip()
    return text[1:] if len(text) > 1 and text[0] == "'" and text[1] in "=+-@" else text


def is_blank(cell: str) -> bool:
    """Whether it says nothing."""
    return tidy(cell).casefold() in _NOTHING


def name_of(cell: str, maximum: int = MAXIMUM_CHARACTERS) -> str:
    """A name: printable, at most so many characters; blank for nothing. Raises CellRefused.

    Letters of any script, and signs: "Collège d'Oullins (annexe)" is a name, and so is "=1+1", which outputs guard.
    """
    if len(cell) > 4 * maximum:
        raise CellError(f"a text of {len(cell)} characters", f"write at most {maximum}")
    text = tidy(cell)
    if len(text) > maximum:
        raise CellError(f"a text of {len(text)} characters", f"write at most {maximum}")
    if not text.isprintable():
        bad = next(character for character in text if not character.isprintable())
        raise CellError(
            f"a hidden character (U+{ord(bad):04X}: {unicodedata.name(bad, 'a control character').lower()})",
            "take it out: names are printable text on one line",
        )
    return text


def entity_of(cell: str) -> str:
    """An entity's path, parts joined by SEPARATOR. Raises CellRefused."""
    if len(cell) > 4 * MAXIMUM_PATH_CHARACTERS:
        raise CellError(f"a text of {len(cell)} characters", f"write at most {MAXIMUM_PATH_CHARACTERS}")
    parts = [name_of(part) for part in cell.split(">")]
    if parts == [""]:
        return ""
    if not all(parts):
        raise CellError("an entity without a name between two '>'", "write Parent > Child")
    path = SEPARATOR.join(parts)
    if len(path) > MAXIMUM_PATH_CHARACTERS:
        raise CellError(f"a path of {len(path)} characters", f"write at most {MAXIMUM_PATH_CHARACTERS}")
    return path


def parent_of(entity: str) -> str | None:
    """The path above; None at the root."""
    above, found, _ = entity.rpartition(SEPARATOR)
    return above if found else None


def date_of(cell: str, *, day_first: bool = True) -> date | None:
    """A day: 2024-09-01, 01/09/2024, 01-09-2024, a time of day behind it or not; None for nothing. Raises CellRefused.

    `day_first`: how the second form is meant. What can only be meant otherwise is refused, not turned round.
    """
    if is_blank(cell):
        return None
    matched = _DATE.fullmatch(tidy(cell)) if len(cell) < 64 else None
    if matched is None:
        raise CellError(f"'{_short(cell)}' is no date", "write YYYY-MM-DD or DD/MM/YYYY")
    if matched["y"]:
        year, month, day = int(matched["y"]), int(matched["m"]), int(matched["d"])
    else:
        year, month, day = int(matched["c"]), int(matched["b"]), int(matched["a"])
        if not day_first:
            month, day = day, month
    try:
        found = date(year, month, day)
    except ValueError as error:
        raise CellError(
            f"'{_short(cell)}' is no date, read {'day' if day_first else 'month'} first",
            "write YYYY-MM-DD, or set date_format in the mapping",
        ) from error
    if not EARLIEST <= found < LATEST:
        raise CellError(
            f"'{_short(cell)}' is before {EARLIEST.year} or after {LATEST.year}", "correct the year"
        )
    return found


def decimal_of(cell: str) -> Decimal:
    """A number with a point or a comma: 1234.56, 1 234,56 €, 4,74E-3. Raises CellRefused where it could mean two things."""
    text = tidy(cell).removesuffix("€").removesuffix("EUR").strip()
    matched = _NUMBER.fullmatch(text) if len(text) <= 40 else None
    if matched is None or (matched["by"] and matched["by"] == matched["point"]):
        raise CellError(f"'{_short(cell)}' is no number", "write it like 1234.56 or 1234,56")
    if is_ambiguous(text):
        raise CellError(
            f"'{_short(cell)}' may be thousands or a fraction",
            "write it without a sign between thousands, e.g. 1234.00",
        )
    whole = matched["whole"].replace(matched["by"] or " ", "")
    part = f".{matched['part']}" if matched["part"] else ""
    try:
        found = Decimal(f"{matched['sign']}{whole}{part}{matched['power'] or ''}")
    except InvalidOperation as error:
        raise CellError(f"'{_short(cell)}' is no number", "write it like 1234.56") from error
    if not found.is_finite():
        raise CellError(f"'{_short(cell)}' is no number", "write it like 1234.56")
    return found


def is_ambiguous(text: str) -> bool:
    """Whether its one sign may stand between thousands or before a fraction: 1.234."""
    return re.fullmatch(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", text) is not None


def integer_of(cell: str, maximum: int) -> int:
    """A whole number from 0. Raises CellRefused."""
    text = tidy(cell)
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= maximum):
        raise CellError(f"'{_short(cell)}' is no whole number from 0 to {maximum}", "write digits only")
    return int(text)


def boolean_of(cell: str) -> bool:
    """Yes or no, oui or non, 1 or 0. Raises CellRefused."""
    text = tidy(cell).casefold()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise CellError(f"'{_short(cell)}' is neither yes nor no", "write yes or no")


def folded(text: str) -> str:
    """For comparing headings, types and statuses: no accents, no case, signs as one space."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[^\w*?\[\]>]+", " ", bare.casefold().replace("_", " ")).strip()


def shown(text: str, maximum: int = MAXIMUM_CHARACTERS) -> str:
    """Fit for a terminal: printable, not long."""
    return "".join(c if c.isprintable() else "?" for c in text[:maximum]) + "…" * (len(text) > maximum)


def _short(cell: str) -> str:
    return shown(cell, 40)
