# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests the translation of texts, and which locale is French."""

from __future__ import annotations

import pytest

from veilleuse.wire.translations import Translations, is_french

CATALOGUE = {
    "free some space": "libérez de la place",
    "no site '{site}'": "pas de site « {site} »",
    "no site '{site}': known: {sites}": "pas de site « {site} » ; connus : {sites}",
    "cannot read {file}: {why}": "impossible de lire {file} : {why:may}",
    "Permission denied": "accès refusé",
    "line {number}: {error}": "ligne {number} : {error:must}",
    "see '{command}'": "voir « {command} »",
    "note: {note}": "note : {note:may}",
    "{year} is open to all": "{year} est ouverte à tous",
    "{share} of {watts} W": "{share:number} de {watts:number} W",
}


@pytest.mark.parametrize(
    ("text", "french"),
    [
        ("free some space", "libérez de la place"),
        ("no site 'A{b}'", "pas de site « A{b} »"),
        ("no site 'A': known: B, C", "pas de site « A » ; connus : B, C"),
        ("cannot read /x: Permission denied", "impossible de lire /x : accès refusé"),
        ("cannot read /x: Is a\ndirectory", "impossible de lire /x : Is a\ndirectory"),
        ("line 3: no site 'A'", "ligne 3 : pas de site « A »"),
        ("line 3: nobody knows", None),
        (
            "cannot read /x: Permission denied; free some space",
            "impossible de lire /x : accès refusé\u00a0; libérez de la place",
        ),
        ("no site 'A'; see 'x list'", "pas de site « A »\u00a0; voir « x list »"),
        ("note: 2025 is open to all", "note : 2025 est ouverte à tous"),
        ("note: nobody knows", "note : nobody knows"),
        ("8.5% of -1,234.5 W", "8,5\u00a0% de \u22121\u202f234,5 W"),
        ("nobody knows", None),
        ("nobody knows; free some space", None),
        ("", None),
    ],
)
def test_texts_and_patterns(text, french):
    """Whole texts, fields that are copied, translated, required or numbers, parts joined by "; ".

    Of two patterns that fit, the one that translates more of the text counts.
    """
    translations = Translations(CATALOGUE)
    assert translations.find(text) == french
    assert translations(text) == (french or text)


@pytest.mark.parametrize(
    ("environment", "french"),
    [
        ({"LANG": "fr_FR.UTF-8"}, True),
        ({"LANG": "fr"}, True),
        ({"LANG": "fr.UTF-8"}, True),
        ({"LANG": "fr_FR.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "fr_CH.UTF-8", "LC_ALL": ""}, True),
        ({"LANG": "frp_FR"}, False),
        ({}, False),
    ],
)
def test_which_locale_is_french(environment, french):
    """LC_ALL precedes LC_MESSAGES, which precedes LANG; an empty one does not count."""
    assert is_french(environment) is french
