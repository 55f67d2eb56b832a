# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Gives `veilleuse doctor` the sentences of the first page and of the alerts, as clauses."""

from __future__ import annotations

import re
from typing import Final

from veilleuse.collector.documents.text import words

_SENTENCES: Final = ("conditions", "remedies")
_VALUE: Final = re.compile(r"\{(\w+)\}")
_NUMBERS: Final = frozenset({"n", "ratio", "percent"})
_LABELS: Final = ("population", "device_class", "step")


def as_clause(sentence: str) -> str:
    """Return a sentence as `doctor` writes: without a capital, unless it is a name's, and without a stop."""
    begins_with_word = sentence[1:2].islower() or sentence[1:2] == " "
    return (sentence[0].lower() + sentence[1:] if begins_with_word else sentence).rstrip(".")


def condition_catalogue() -> dict[str, str]:
    """Return English clause → French clause, with their values as fields, and the words in these values."""
    english, french = words("en").texts, words("fr").texts
    catalogue = {
        as_clause(text): _VALUE.sub(_field, as_clause(french[section][name]))
        for section in _SENTENCES
        for name, text in english[section].items()
    }
    for label in _LABELS:
        catalogue |= {text: french["words"][label][name] for name, text in english["words"][label].items()}
    for name, text in english["condition_words"].items():
        several = zip(text, french["condition_words"][name], strict=True) if isinstance(text, list) else ()
        catalogue |= dict(several) or {text: french["condition_words"][name]}
    return catalogue


def _field(found: re.Match[str]) -> str:
    return f"{{{found[1]}:{'number' if found[1] in _NUMBERS else 'may'}}}"
