# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Which factor a zone and a year get. METHOD.md §2."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache

from veilleuse.collector.errors import UnknownZone, UsageError
from veilleuse.collector.factors import BUILTIN, load
from veilleuse.collector.factors.static import zone_names
from veilleuse.collector.ports import ChosenFactor, Factor, FactorSource


class FactorBook:
    """All factors of some sources. The first source that knows a zone is the only one that serves it.

    So FR is ADEME's alone: another provider's French value is listed and can be asked for by name, never chosen.
    """

    def __init__(self, sources: Iterable[FactorSource]) -> None:
        self._by_id: dict[str, Factor] = {}
        self._by_zone: dict[str, list[Factor]] = {}
        for source in sources:
            served: defaultdict[str, list[Factor]] = defaultdict(list)
            for factor in source.factors():
                self._by_id[factor.factor_id] = factor
                served[factor.zone].append(factor)
            for zone, factors in served.items():
                self._by_zone.setdefault(zone, sorted(factors, key=lambda factor: factor.valid_from))

    def choose(self, zone: str, year: int) -> ChosenFactor:
        """The factor of a zone for a year: its own, else the last one before (`provisional`).

        Raises UnknownZone, naming the nearest zones, or when the first value is later than the year: the world mean is
        never applied.
        """
        factors = self._by_zone.get(self.normalise(zone))
        if factors is None:
            raise UnknownZone(f"no electricity factor for zone '{zone}'{self._hint(zone)}")
        years = [factor.valid_from.year for factor in factors]
        index = bisect.bisect_right(years, year) - 1
        if index < 0:
            raise UnknownZone(
                f"no electricity factor for zone '{zone}' in {year}: the first is of {years[0]}"
            )
        factor = factors[index]
        return ChosenFactor(factor, year, provisional=factor.valid_to.year < year)

    def named(self, factor_id: str) -> Factor:
        """The factor of that name. Raises UsageError with the nearest names."""
        factor = self._by_id.get(factor_id)
        if factor is None:
            near = get_close_matches(factor_id, list(self._by_id), n=3)
            hint = f": did you mean {', '.join(near)}?" if near else ": see 'veilleuse factors list'"
            raise UsageError(f"no factor '{factor_id}'{hint}")
        return factor

    def factors(self) -> tuple[Factor, ...]:
        """All of them, by zone and date."""
        return tuple(sorted(self._by_id.values(), key=lambda one: (one.zone, one.valid_from, one.factor_id)))

    def is_official(self, factor: Factor) -> bool:
        """True when `choose` may return it."""
        return factor in self._by_zone.get(factor.zone, ())

    def normalise(self, zone: str) -> str:
        """Two-letter code of a zone given as such, as three letters or in English; unchanged when not known."""
        text = zone.strip()
        return text.upper() if text.upper() in self._by_zone else zone_names().get(text.lower(), text)

    def _hint(self, zone: str) -> str:
        words = {**{code.lower(): code for code in self._by_zone}, **zone_names()}
        near = get_close_matches(zone.strip().lower(), list(words), n=4, cutoff=0.5)
        codes = list(dict.fromkeys(words[word] for word in near))
        known = (
            "; use an ISO 3166 code, e.g. FR, DE, BEL (mainland France only: overseas has its own factors)"
        )
        return f": the nearest are {', '.join(codes)}" if codes else known


@cache
def factor_book() -> FactorBook:
    """The built-in factors. Raises ConfigurationError."""
    return FactorBook(map(load, BUILTIN))


def choose(zone: str, year: int) -> ChosenFactor:
    """`FactorBook.choose` of the built-in factors."""
    return factor_book().choose(zone, year)
