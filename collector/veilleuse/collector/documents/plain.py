# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Texts that any format can hold: a name can come from anybody's inventory. The second wall behind the importers'. S14-S16."""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 1_024
"""Characters of one value: an entity's path has 512 at most; a spreadsheet's cell holds 32,767 UTF-16 units."""
LONGEST_TEXT: Final = 16_000
"""Of a note: at most 32,000 UTF-16 units."""
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
"""Seen, so that nobody takes the name for another one."""

_BREAKS: Final = re.compile("[\t\n\r\x0b\x0c\x85\u2028\u2029]+")
_REFUSED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # controls: no XML holds them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi: they make a text read as another (Unicode TR 36)
    "\ud800-\udfff"  # lone surrogates: no encoding holds them
    "\ufdd0-\ufdef\ufff9-\uffff"  # noncharacters, interlinear annotation and what XML excludes; U+FFFD itself stays one
    "\U000e0000-\U000e007f]"  # tags: invisible letters
)


def plain(text: str, *, whole: bool = False) -> str:
    """On one line, encodable, without control and bidi characters, LONGEST characters at most (`whole`: LONGEST_TEXT)."""
    longest = LONGEST_TEXT if whole else LONGEST
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return _REFUSED.sub(REPLACEMENT, _BREAKS.sub(" ", text))
