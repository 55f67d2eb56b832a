# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns one cell of a file into a value, or into a clear refusal.

Pure: no cell is executed, opened or followed.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Final

from veilleuse.collector.documents.formats.csv import SIGNS
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR

MAXIMUM_CHARACTERS: Final = 128
"""Longest name, in characters: docs/guarantees.md S16."""
MAXIMUM_PATH_CHARACTERS: Final = 512
"""Longest path of an entity with its parents, in characters."""
EARLIEST: Final = date(1980, 1, 1)
LATEST: Final = date(2100, 1, 1)

_SPACES: Final = re.compile("[ \u00a0\u2009\u202f]+")
"""Spaces of French typography: the narrow ones stand before signs and between thousands; none is hidden."""
_DATE: Final = re.compile(
    r"(?:(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})|(?P<a>\d{1,2})[-/.](?P<b>\d{1,2})[-/.](?P<c>\d{4}))"
    r"(?:[ T]\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)
_NUMBER: Final = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>\d+|\d{1,3}(?P<by>[., '])\d{3}(?:(?P=by)\d{3})*)"
    r"(?:(?P<point>[.,])(?P<part>\d*))?(?P<power>[eE][+-]?\d{1,3})?",
    re.ASCII,
)
"""Separators of thousands stand before three digits each and are all equal: `12.05.2024` is no amount."""
_TRUE: Final = frozenset({"1", "yes", "y", "true", "oui", "o", "vrai", "x"})
_FALSE: Final = frozenset({"0", "no", "n", "false", "non", "faux"})
_NOTHING: Final = frozenset({"", "-", "--", "n/a", "null", "&nbsp;"})
"""Words that lists write for nothing; GLPI's API writes `&nbsp;` in a dropdown."""


class CellError(Exception):
    """A cell that cannot be taken as it is. `args`: the fault and the remedy."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy


def tidy(cell: str) -> str:
    """Normalise a cell: NFC, single spaces, none at the ends, without the apostrophe that guards against
    formulas.
    """
    text = unicodedata.normalize("NFC", _SPACES.sub(" ", cell)).strip()
    return text[1:] if len(text) > 1 and text[0] == "'" and text[1] in SIGNS else text


def is_blank(cell: str) -> bool:
    """Tell whether a cell holds nothing."""
    return tidy(cell).casefold() in _NOTHING


def name_of(cell: str, maximum: int = MAXIMUM_CHARACTERS) -> str:
    """Return a printable name of at most `maximum` characters; blank for nothing. Raises CellRefused.

    Letters of any script and signs are allowed: "Collège d'Oullins (annexe)" is a name. So is "=1+1": the
    exports guard it.
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
    """Return the path of an entity, its parts joined by ENTITY_SEPARATOR. Raises CellRefused."""
    if len(cell) > 4 * MAXIMUM_PATH_CHARACTERS:
        raise CellError(f"a text of {len(cell)} characters", f"write at most {MAXIMUM_PATH_CHARACTERS}")
    parts = [name_of(part) for part in cell.split(">")]
    if parts == [""]:
        return ""
    if not all(parts):
        raise CellError("an entity without a name between two '>'", "write Parent > Child")
    path = ENTITY_SEPARATOR.join(parts)
    if len(path) > MAXIMUM_PATH_CHARACTERS:
        raise CellError(f"a path of {len(path)} characters", f"write at most {MAXIMUM_PATH_CHARACTERS}")
    return path


def parent_of(entity: str) -> str | None:
    """Return the path of the parent; None at the root."""
    above, found, _ = entity.rpartition(ENTITY_SEPARATOR)
    return above if found else None


def date_of(cell: str, *, day_first: bool = True) -> date | None:
    """Return a civil day; None for nothing. Raises CellRefused.

    Accepted: 2024-09-01, 01/09/2024 and 01-09-2024, with or without a time of day. `day_first` says how to
    read the last two. A date that is valid only in the other order is refused.
    """
    if is_blank(cell):
        return None
    matched = _DATE.fullmatch(tidy(cell)) if len(cell) < 64 else None
    if matched is None:
        raise CellError(f"'{_short(cell)}' is no date", "write YYYY-MM-DD or DD/MM/YYYY")
    if matched["y"]:
        year, month, day = matched["y"], matched["m"], matched["d"]
    else:
        year, month, day = matched["c"], matched["b"], matched["a"]
        if not day_first:
            month, day = day, month
    try:
        found = date(int(year), int(month), int(day))
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
    """Return a decimal number: 1234.56, 1 234,56 €, 4,74E-3.

    Raises CellRefused where a sign has two meanings.
    """
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
    """Tell whether the only sign may separate thousands or a fraction: 1.234."""
    return re.fullmatch(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", text) is not None


def integer_of(cell: str, maximum: int) -> int:
    """Return an integer from 0 to `maximum`. Raises CellRefused."""
    text = tidy(cell)
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= maximum):
        raise CellError(f"'{_short(cell)}' is no whole number from 0 to {maximum}", "write digits only")
    return int(text)


def boolean_of(cell: str) -> bool:
    """Return a boolean: yes or no, oui or non, 1 or 0. Raises CellRefused."""
    text = tidy(cell).casefold()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise CellError(f"'{_short(cell)}' is neither yes nor no", "write yes or no")


def folded(text: str) -> str:
    """Fold a text to compare headings, types and statuses: no accents, no case, signs as one space."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[^\w*?\[\]>]+", " ", bare.casefold().replace("_", " ")).strip()


def shown(text: str, maximum: int = MAXIMUM_CHARACTERS) -> str:
    """Make a text fit for a terminal: printable characters only, at most `maximum`."""
    return "".join(c if c.isprintable() else "?" for c in text[:maximum]) + "…" * (len(text) > maximum)


def _short(cell: str) -> str:
    return shown(cell, 40)
