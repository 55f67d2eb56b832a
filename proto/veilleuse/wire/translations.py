# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Translates texts for people by a catalogue: whole texts, and patterns with fields.

Both command lines and the API's error answers use it. No resident process imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

_FIELD: Final = re.compile(r"\{(\w+)(?::(may|must|number))?\}")
_BEFORE_A_MARK: Final = re.compile(r" (?=[;:!?»%])|(?<=«) ")
_NO_BREAK: Final = "\u00a0"
_NUMBER: Final = str.maketrans({",": "\u202f", ".": ",", "-": "\u2212", "%": "\u00a0%"})
"""Signs of an English number → French ones."""
_JOINT: Final = "; "
"""Errors say what, then what to do."""


class _Pattern(NamedTuple):
    head: str
    tail: str
    expression: str
    translated: str
    characters: int
    """Length of the literal text."""


class _Found(NamedTuple):
    text: str
    characters: int
    """Number of characters of the English text that are translated."""


_Known = dict[str, _Found | None]


class Translations:
    """Translates texts. A text that the catalogue does not have stays as it is.

    The catalogue maps a text to its translation. `{name}` in a text is a field, which the translation names
    again: `{name}` copies it, `{name:may}` translates it where the catalogue has it, and `{name:must}` makes
    the pattern hold only for a field that the catalogue has. `{name:number}` writes a number with French
    signs. Known texts joined by "; " are known too. Of several ways to translate a text, the one that
    translates most of its characters counts, then the pattern with the longest literal text.
    """

    def __init__(self, catalogue: Mapping[str, str]) -> None:
        """Take the catalogue: text → translation."""
        self._whole = {text: other for text, other in catalogue.items() if not _FIELD.search(text)}
        patterns = [(text, other) for text, other in catalogue.items() if text not in self._whole]
        patterns.sort(key=lambda one: len(_FIELD.sub("", one[0])), reverse=True)
        self._patterns = [_pattern_of(text, other) for text, other in patterns]

    def __call__(self, text: str) -> str:
        """Translate the text, or return it as it is."""
        found = self.find(text)
        return text if found is None else found

    def find(self, text: str) -> str | None:
        """Translate the text; None when the catalogue does not have it."""
        found = self._find(text, {})
        return None if found is None else found.text

    def _find(self, text: str, known: _Known) -> _Found | None:
        """`known`: what was found of parts so far, for a part is met in many ways to translate a text."""
        if text not in known:
            known[text] = self._best(text, known)
        return known[text]

    def _best(self, text: str, known: _Known) -> _Found | None:
        if (whole := self._whole.get(text)) is not None:
            return _Found(whole, len(text))
        may = (one for one in self._patterns if text.startswith(one.head) and text.endswith(one.tail))
        ways = (self._join(text, known), *(self._fill(one, text, known) for one in may))
        return max(filter(None, ways), key=lambda one: one.characters, default=None)

    def _join(self, text: str, known: _Known) -> _Found | None:
        head, joint, rest = text.rpartition(_JOINT)
        if (
            not joint
            or (last := self._find(rest, known)) is None
            or (first := self._find(head, known)) is None
        ):
            return None
        characters = first.characters + len(_JOINT) + last.characters
        return _Found(f"{first.text}{_NO_BREAK}; {last.text}", characters)

    def _fill(self, pattern: _Pattern, text: str, known: _Known) -> _Found | None:
        fields = re.fullmatch(pattern.expression, text, re.DOTALL)
        if fields is None:
            return None
        values: dict[str, str] = {}
        characters = pattern.characters
        for name, kind in _FIELD.findall(pattern.translated):
            values[name] = value = fields[name]
            if kind == "number":
                values[name] = value.replace(" %", "%").translate(_NUMBER)
            elif kind and (found := self._find(value, known)) is not None:
                values[name] = found.text
                characters += found.characters
            elif kind == "must":
                return None
        return _Found(_FIELD.sub(lambda field: values[field[1]], pattern.translated), characters)


def _pattern_of(text: str, translated: str) -> _Pattern:
    literals = _FIELD.split(text)[::3]
    expression = "".join(
        f"(?P<{part}>.*?)" if place % 3 == 1 else re.escape(part)
        for place, part in enumerate(_FIELD.split(text))
        if part and place % 3 != 2
    )
    return _Pattern(literals[0], literals[-1], expression, translated, sum(map(len, literals)))


def is_french(environment: Mapping[str, str]) -> bool:
    """Tell if the locale for messages is French. Source: locale(7)."""
    names = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return bool(re.match(r"fr(?![a-z])", next(filter(None, names), ""), re.IGNORECASE))


def read_french(package: str, *names: str) -> dict[str, str]:
    """Read the French catalogue of a command line: TOML files of the package, and that of this package."""
    return read_catalogue("veilleuse.wire", "french.toml") | read_catalogue(package, *names)


def read_catalogue(package: str, *names: str) -> dict[str, str]:
    """Read a French catalogue: TOML files of the package.

    They are written with plain spaces: those before a mark of punctuation are made unbreakable here.
    """
    import tomllib  # late, both: the agent's sender parses its command line with few modules
    from importlib.resources import files

    places = [files(package).joinpath(name) for name in names]
    tables = [table for place in places for table in tomllib.loads(place.read_text("utf-8")).values()]
    return {text: _BEFORE_A_MARK.sub(_NO_BREAK, other) for table in tables for text, other in table.items()}
