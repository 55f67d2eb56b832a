# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The public holidays of France, computed by the `holidays` library (MIT). Source of the dates: Code du travail, art. L3133-1;
Alsace-Moselle: art. L3134-13.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final

_ALSACE_MOSELLE: Final = "57"
"""The library's name of Moselle; Alsace has the same two days more."""


def public_holidays(years: Iterable[int], *, alsace_moselle: bool = False) -> dict[date, str]:
    """Date → French name, in order. Alsace-Moselle adds Good Friday and 26 December."""
    from holidays.countries.france import France  # only now: it takes 20 MiB, and most processes never ask

    region = _ALSACE_MOSELLE if alsace_moselle else None
    found = France(years=list(years), subdiv=region, language="fr")  # type: ignore[no-untyped-call]  # the library's
    return dict(sorted(found.items()))
