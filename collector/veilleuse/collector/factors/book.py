# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Chooses the factor of a zone and a year. docs/methodology.md §8."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Final

from veilleuse.collector.errors import ConfigurationError, UnknownZone, UsageError
from veilleuse.collector.factors import BUILTIN, IMPORTED_INTO, load
from veilleuse.collector.factors.static import APART, CODES, MAINLAND, fold, zone_names
from veilleuse.collector.factors.versions import in_force, known_on
from veilleuse.collector.model.factors import ChosenFactor, Factor, FactorVersion
from veilleuse.collector.ports.imports import FactorSource

STANDS_IN_YEARS: Final = 2
"""Number of years after its own in which a factor may be used, as provisional [P]: docs/factors.md."""
CODE_CHARACTERS: Final = 3
"""Longest code of a zone: ISO 3166-1 codes have two or three letters; a longer word is a name."""


class FactorBook:
    """All factors of some sources. Only the first source that knows a zone serves it.

    So FR is served by ADEME alone: a French value of another provider is listed and found by name, never
    chosen.
    """

    def __init__(self, sources: Iterable[FactorSource]) -> None:
        self._by_id: dict[str, Factor] = {}
        self._by_zone: dict[str, list[Factor]] = {}
        for source in sources:
            served: defaultdict[str, list[Factor]] = defaultdict(list)
            for factor in source.factors():
                _require_origin(factor)
                self._by_id[factor.factor_id] = factor
                served[factor.zone].append(factor)
            for zone, factors in served.items():
                self._by_zone.setdefault(zone, sorted(factors, key=lambda factor: factor.valid_from))

    def choose(self, zone: str, year: int) -> ChosenFactor:
        """Return the factor of a zone for a year: its own, else the last one of the two years before
        (`provisional`).

        Raises UnknownZone that names the nearest zones, also without a value of these years. The world mean
        is never used for a zone, nor the mainland's factor for Corsica or overseas.
        """
        factors = self._by_zone[self.zone_of(zone)]
        years = [factor.valid_from.year for factor in factors]
        index = bisect.bisect_right(years, year) - 1
        if index < 0:
            raise UnknownZone(
                f"no electricity factor for zone '{zone}' in {year}: the first is of {years[0]}"
            )
        factor = factors[index]
        if year > factor.valid_to.year + STANDS_IN_YEARS:
            french = factor.zone == MAINLAND or factor.zone in APART
            remedy = (
                "import ADEME's with 'veilleuse factors import FILE'" if french else "use a newer Veilleuse"
            )
            raise UnknownZone(
                f"no electricity factor for zone '{zone}' in {year}: the last before is of {factor.valid_to.year}, and stands in "
                f"for {STANDS_IN_YEARS} years at most: {remedy}"
            )
        return ChosenFactor(factor, year, provisional=factor.valid_to.year < year)

    def zone_of(self, zone: str) -> str:
        """Return the code of a zone that has factors, from any of its names.

        Raises UnknownZone with the nearest.
        """
        code = self.normalise(zone)
        if code not in self._by_zone:
            raise UnknownZone(f"no electricity factor for zone '{zone}'{self._hint(zone)}")
        return code

    def require_zone(self, zone: str) -> None:
        """Raise ConfigurationError unless `reporting.zone` has factors."""
        try:
            self.zone_of(zone)
        except UnknownZone as error:
            raise ConfigurationError(f"'reporting.zone' is '{zone}': {error}") from error

    def named(self, factor_id: str) -> Factor:
        """Return the factor of that name. Raises UsageError with the nearest names."""
        factor = self._by_id.get(factor_id)
        if factor is None:
            near = get_close_matches(factor_id, list(self._by_id), n=3)
            hint = f": did you mean {', '.join(near)}?" if near else ": see 'veilleuse factors list'"
            raise UsageError(f"no factor '{factor_id}'{hint}")
        return factor

    def factors(self) -> tuple[Factor, ...]:
        """Return all factors, by zone and date."""
        return tuple(sorted(self._by_id.values(), key=lambda one: (one.zone, one.valid_from, one.factor_id)))

    def is_official(self, factor: Factor) -> bool:
        """Return True when `choose` may return the factor."""
        return factor in self._by_zone.get(factor.zone, ())

    def normalise(self, zone: str) -> str:
        """Return the code of a zone given as code, alpha-3 or English name (French for French zones); else
        unchanged.
        """
        text = zone.strip()
        if text.upper() in self._by_zone or text.upper() in APART:
            return text.upper()
        return CODES.get(fold(text)) or zone_names().get(fold(text), text)

    def _hint(self, zone: str) -> str:
        if (code := self.normalise(zone)) in APART:
            return (
                f": {code} has a grid and a factor of its own, which is not shipped: import ADEME's with "
                "'veilleuse factors import FILE'; the mainland's is never applied there"
            )
        text = fold(zone)
        words = {**{code.lower(): code for code in self._by_zone}, **zone_names(), **CODES}
        names = {code: word for word, code in reversed(words.items()) if len(word) > CODE_CHARACTERS}
        is_name = len(text) > CODE_CHARACTERS
        # Compare names with names and codes with codes: a likeness between them is chance.
        alike = [word for word in words if (len(word) > CODE_CHARACTERS) == is_name]
        found = get_close_matches(text, alike, n=4, cutoff=0.6 if is_name else 0.5)
        near = dict.fromkeys(words[word] for word in found)
        if near:
            told = (f"{code} ({names[code].title()})" if code in names else code for code in near)
            return f": the nearest are {', '.join(told)}"
        return "; use an ISO 3166 code, e.g. FR, DE, BEL (mainland France only: overseas has its own factors)"


def _require_origin(factor: Factor) -> None:
    """Raise ConfigurationError for a factor without origin: no figure without its source."""
    missing = [word for word in ("licence", "source") if not getattr(factor, word).strip()]
    if missing:
        raise ConfigurationError(
            f"factor {factor.factor_id} has no {' and no '.join(missing)}: add it, a factor without origin is not loaded"
        )


class _Merged:
    """A shipped source with imported versions: of one name, the imported one is in force."""

    def __init__(self, source: FactorSource, versions: Iterable[FactorVersion], day: date | None) -> None:
        self.name = source.name
        found = {one.factor_id: one for one in source.factors() if known_on(one, day)}
        found.update((one.factor.factor_id, one.factor) for one in in_force(versions, day).values())
        self._factors = tuple(found.values())

    def factors(self) -> tuple[Factor, ...]:
        """Return one factor for each name."""
        return self._factors


def book_of(versions: Iterable[FactorVersion] = (), day: date | None = None) -> FactorBook:
    """Return the shipped factors with these imported versions, as known at the end of `day` in UTC (None:
    now).

    Raises ConfigurationError when a shipped table lacks its licence or cannot be read.
    """
    return _book_of(tuple(versions), day)


@lru_cache(maxsize=8)  # thousands of factors, the same for each report
def _book_of(versions: tuple[FactorVersion, ...], day: date | None) -> FactorBook:
    return FactorBook(_Merged(load(name), versions if name == IMPORTED_INTO else (), day) for name in BUILTIN)


@cache
def factor_book() -> FactorBook:
    """Return the shipped factors only. Raises ConfigurationError."""
    return book_of()


def choose(zone: str, year: int) -> ChosenFactor:
    """Call `FactorBook.choose` on the shipped factors, for callers without a data directory."""
    return factor_book().choose(zone, year)


class KnownFactors:
    """Factors in force in a data directory. For a thread that may call `versions`."""

    def __init__(self, versions: Callable[[], tuple[FactorVersion, ...]]) -> None:
        """`versions`: ports.FactorReader.versions."""
        self._versions = versions
        self._made: tuple[tuple[FactorVersion, ...], FactorBook] | None = None

    def book(self) -> FactorBook:
        """Return the cached book, for the collector, which calls `forget` after each import.

        Raises StoreDamaged, ConfigurationError.
        """
        return self.latest() if self._made is None else self._made[1]

    def latest(self) -> FactorBook:
        """Read the imported versions again, for a process beside the collector.

        Raises the errors of `book`.
        """
        versions = self._versions()
        made = self._made
        if made is None or made[0] != versions:
            self._made = made = (versions, book_of(versions))
        return made[1]

    def choose(self, zone: str, year: int) -> ChosenFactor:
        """See FactorBook.choose."""
        return self.book().choose(zone, year)

    def forget(self) -> None:
        """Empty the cache after an import."""
        self._made = None
