# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a class is made of, model × age, in the fleet and in the sample: post-stratification and its check (pure).

docs/methodology.md §6. A machine of a cell that draws twice the class's mean power stands, halved, for the mean machine; the
stratum's mean is then set to the composition that the inventory gives it. Cells with few machines are merged.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.fleet.samples import DAY_TYPES, Alike, SampleCell, summed
from veilleuse.collector.fleet.strata import Rates, StratumPart
from veilleuse.collector.quantiles import chi_square99

FEWEST_OF_CELL: Final = 10
"""Machines of a cell in the class's sample: docs/methodology.md §6's bound for a mean."""
FEWEST_EXPECTED: Final = 5.0
"""Of a cell, for the χ² law to hold: the usual rule."""
_ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Composition:
    """Merged cells of one class."""

    names: Mapping[SampleCell, SampleCell]
    """Cell → the merged cell it belongs to."""
    scales: Mapping[SampleCell, float]
    """Merged cell → its mean power ÷ what the class's machines would draw on the same days."""
    errors: Mapping[SampleCell, float]
    """Merged cell → relative variance of that scale."""

    def merged(self, cell: SampleCell) -> SampleCell:
        """A cell that was never seen is the rest's."""
        return self.names.get(cell, SampleCell(_ANY, _ANY))

    def scale(self, cell: SampleCell) -> float:
        """1 for what nothing is known of."""
        return self.scales.get(self.merged(cell), 1.0)

    def unobserved_scale(self, part: StratumPart) -> float:
        """Mean scale of a stratum's unobserved time; without the fleet's composition, of its sample; without that, 1."""
        shares = unobserved_shares(self, part) or sample_shares(self, part)
        return (
            math.fsum(share * self.scales.get(cell, 1.0) for cell, share in shares.items()) if shares else 1.0
        )


def composition(strata: Sequence[StratumPart], rates: Rates) -> Composition:
    """Of one class, whose mean power per day type is `rates`."""
    names = _merge(_counts(strata), {cell for part in strata for cell in part.cells})
    groups: defaultdict[SampleCell, list[Alike]] = defaultdict(list)
    for part in strata:
        for key, group in part.members:
            groups[names[key.cell]].append(group)
    scales, errors = {}, {}
    at_rates = [rate or 0.0 for rate in rates]
    for name, alike in groups.items():
        whole = summed(alike)
        energy = sum(whole.energies)
        expected = math.fsum(time * rate for time, rate in zip(whole.times, at_rates, strict=True))
        if energy and expected:
            scale = scales[name] = energy / expected
            squares = whole.squares((1.0,) * len(DAY_TYPES), [-scale * rate for rate in at_rates])
            errors[name] = squares / energy**2 * whole.n / max(1, whole.n - 1)
    return Composition(names, scales, errors)


def _counts(strata: Sequence[StratumPart]) -> Counter[SampleCell]:
    """Machines of the sample by cell."""
    seen: Counter[SampleCell] = Counter()
    for part in strata:
        for key, group in part.members:
            seen[key.cell] += group.n
    return seen


def _merge(seen: Counter[SampleCell], said: set[SampleCell]) -> dict[SampleCell, SampleCell]:
    """Each cell, else its model, else its age, else the rest: the first that ten machines of the sample are of."""
    names: dict[SampleCell, SampleCell] = {}
    left = dict(seen)
    steps = (
        lambda cell: cell,
        lambda cell: SampleCell(cell.hardware, _ANY),
        lambda cell: SampleCell(_ANY, cell.age),
    )
    waiting = sorted(said | set(seen))
    for step in steps:
        counts: Counter[SampleCell] = Counter()
        for cell, n in left.items():
            counts[step(cell)] += n
        for cell in waiting:
            if counts[step(cell)] >= FEWEST_OF_CELL:
                names[cell] = step(cell)
        waiting = [cell for cell in waiting if cell not in names]
        left = {cell: n for cell, n in left.items() if cell not in names}
    return names | {cell: SampleCell(_ANY, _ANY) for cell in waiting}


def fleet_shares(made: Composition, part: StratumPart) -> dict[SampleCell, float]:
    """Merged cell → share of a stratum's machines in service; empty: not known."""
    return _shares(made, part.cells)


def unobserved_shares(made: Composition, part: StratumPart) -> dict[SampleCell, float]:
    """Merged cell → share of a stratum's unobserved machine time; empty: not known, or nothing is unobserved."""
    whole = sum(part.fleet)
    seen: Counter[SampleCell] = Counter()
    for key, group in part.members:
        seen[made.merged(key.cell)] += sum(group.times)
    left = {cell: share * whole - seen[cell] for cell, share in fleet_shares(made, part).items()}
    left = {cell: time for cell, time in left.items() if time > 0}
    unobserved = sum(left.values())
    return {cell: time / unobserved for cell, time in left.items()}


def sample_shares(made: Composition, part: StratumPart) -> dict[SampleCell, float]:
    """Merged cell → share of a stratum's sample."""
    return _shares(made, _counts([part]))


def _shares(made: Composition, cells: Mapping[SampleCell, int]) -> dict[SampleCell, float]:
    counts: Counter[SampleCell] = Counter()
    for cell, n in sorted(cells.items()):
        counts[made.merged(cell)] += n
    whole = sum(counts.values())
    return {cell: n / whole for cell, n in counts.items()} if whole else {}


def is_balanced(strata: Sequence[StratumPart], made: Composition) -> bool:
    """The sample's composition may be a random draw from the fleet's: χ² of model × age, which chance exceeds in 1 % of draws.

    Strata whose composition is not known say nothing.
    """
    expected: defaultdict[SampleCell, float] = defaultdict(float)
    drawn: Counter[SampleCell] = Counter()
    for part in strata:
        for cell, share in fleet_shares(made, part).items():
            expected[cell] += part.n * share
        if part.cells:
            for cell, n in _counts([part]).items():
                drawn[made.merged(cell)] += n
    rows = [(drawn[cell], more) for cell, more in sorted(expected.items()) if more >= FEWEST_EXPECTED]
    rest = math.fsum(expected.values()) - math.fsum(more for _, more in rows)
    if rest >= FEWEST_EXPECTED:
        rows.append((drawn.total() - sum(one for one, _ in rows), rest))
    if len(rows) < 2:
        return True
    distance = sum((one - more) ** 2 / more for one, more in rows)
    return distance <= chi_square99(len(rows) - 1)
