# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Which measured machines may stand for others (pure). DESIGN.md §7, PROMISES.md P4.

What a class's sample says of machines that nobody measured is seen in every row of such machines: who has the inventory can compute
the sum of that sample. So it must be k machines', none of them almost all of it, and of none that are withheld. Else their strata are
apart: they lend nothing, and what is missing there is taken from the class's others, or from the class default.

What is left, and why a report that is to be published is a closed one, whose cells are k each (keeping_merge): a row that hides few
machines of a class among others of another class is their sum; whoever has the sums of both classes' samples can take it apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TypeAlias

from veilleuse.collector.account.fleet_inputs import Machine, Stratum
from veilleuse.collector.account.sample import Place
from veilleuse.collector.model import HostId
from veilleuse.collector.privacy import EXEMPT, Cell

_Figures: TypeAlias = tuple[dict[HostId, int], dict[HostId, int]]
"""What each machine adds: milliseconds observed, millijoules."""


class Lenders:
    """Of one stretch: what each machine under the rule puts into its stratum."""

    def __init__(self) -> None:
        self._figures: dict[Stratum, _Figures | None] = {}
        """None of strata that the rule does not know."""

    def add(self, host_id: HostId, made: Machine) -> None:
        """A machine, or its screens."""
        stratum = made.stratum
        if stratum not in self._figures:
            self._figures[stratum] = None if Place.of(stratum).population in EXEMPT else ({}, {})
        figures = self._figures[stratum]
        if figures is not None:
            _more(figures, {host_id: made.observed_milliseconds}, {host_id: sum(made.energy_millijoules)})

    def apart(self, withheld: Collection[Stratum], k: int) -> frozenset[Stratum]:
        """`withheld`: strata that no row shows; k = 1 hides nothing. The same for every grouping, as withheld strata are: else a
        period would have several totals."""
        by_class: defaultdict[str, dict[Stratum, _Figures]] = defaultdict(dict)
        for stratum, figures in self._figures.items():
            if figures is not None and stratum not in withheld:
                by_class[stratum.device_class][stratum] = figures
        few = (
            [strata for strata in by_class.values() if not _cell(strata.values()).is_safe(k)] if k > 1 else []
        )
        return frozenset(withheld).union(*few)


def _cell(strata: Iterable[_Figures]) -> Cell[None]:
    """Of some strata of a class together."""
    whole: _Figures = ({}, {})
    for figures in strata:
        _more(whole, *figures)
    times, energies = whole
    return Cell(None, times, (energies,))


def _more(into: _Figures, *figures: Mapping[HostId, int]) -> None:
    for mine, theirs in zip(into, figures, strict=True):
        for host_id, value in theirs.items():
            mine[host_id] = mine.get(host_id, 0) + value
