# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Post-stratifies a class by model × age, and tests the sample's composition against the fleet's (pure).

docs/methodology.md §6. Each machine's energy is divided by its cell's scale, which gives the energy of a mean
machine. The stratum's mean is then multiplied by the mean scale of the composition that the inventory
reports. Cells with few machines are merged.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.fleet.samples import DAY_TYPES, Alike, SampleCell, sum_groups
from veilleuse.collector.fleet.strata import Rates, StratumPart
from veilleuse.collector.quantiles import chi_square99

FEWEST_OF_CELL: Final = 10
"""Machines of a cell in the class's sample: docs/methodology.md §6's bound for a mean."""
FEWEST_EXPECTED: Final = 5.0
"""Least expected number of machines in a cell for the χ² law to hold: the usual rule."""
_ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Composition:
    """Merged cells of one class."""

    names: Mapping[SampleCell, SampleCell]
    """Cell → the merged cell it belongs to."""
    scales: Mapping[SampleCell, float]
    """Merged cell → energy of its machines ÷ energy of class-mean machines on the same days."""
    errors: Mapping[SampleCell, float]
    """Merged cell → relative variance of its scale."""

    def merged_cell(self, cell: SampleCell) -> SampleCell:
        """Return the merged cell of `cell`; a cell that was never observed belongs to the rest."""
        return self.names.get(cell, SampleCell(_ANY, _ANY))

    def scale(self, cell: SampleCell) -> float:
        """Return the scale of a cell; 1 where it is not known."""
        return self.scales.get(self.merged_cell(cell), 1.0)

    def unobserved_scale(self, part: StratumPart) -> float:
        """Return the mean scale of a stratum's unobserved time.
        Without the fleet's composition: of its sample; without that, 1.
        """
        shares = unobserved_shares(self, part) or sample_shares(self, part)
        return (
            math.fsum(share * self.scales.get(cell, 1.0) for cell, share in shares.items()) if shares else 1.0
        )


def compute_composition(strata: Sequence[StratumPart], rates: Rates) -> Composition:
    """Compute the composition of one class, whose mean power per day type is `rates`."""
    names = _merge(_counts(strata), {cell for part in strata for cell in part.cells})
    groups: defaultdict[SampleCell, list[Alike]] = defaultdict(list)
    for part in strata:
        for key, group in part.members:
            groups[names[key.cell]].append(group)
    scales, errors = {}, {}
    at_rates = [rate or 0.0 for rate in rates]
    for name, alike in groups.items():
        whole = sum_groups(alike)
        energy = sum(whole.energies)
        expected = math.fsum(time * rate for time, rate in zip(whole.times, at_rates, strict=True))
        if energy and expected:
            scale = scales[name] = energy / expected
            squares = whole.squares((1.0,) * len(DAY_TYPES), [-scale * rate for rate in at_rates])
            errors[name] = squares / energy**2 * whole.n / max(1, whole.n - 1)
    return Composition(names, scales, errors)


def _counts(strata: Sequence[StratumPart]) -> Counter[SampleCell]:
    """Count the machines of the sample by cell."""
    seen: Counter[SampleCell] = Counter()
    for part in strata:
        for key, group in part.members:
            seen[key.cell] += group.n
    return seen


def _merge(seen: Counter[SampleCell], said: set[SampleCell]) -> dict[SampleCell, SampleCell]:
    """Map each cell to the first group that has ten machines of the sample:
    itself, its model, its age, the rest.
    """
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
    """Return each merged cell's share of a stratum's machines in service; empty: not known."""
    return _shares(made, part.cells)


def unobserved_shares(made: Composition, part: StratumPart) -> dict[SampleCell, float]:
    """Return each merged cell's share of a stratum's unobserved machine time;
    empty: not known, or all is observed.
    """
    whole = sum(part.fleet)
    seen: Counter[SampleCell] = Counter()
    for key, group in part.members:
        seen[made.merged_cell(key.cell)] += sum(group.times)
    left = {cell: share * whole - seen[cell] for cell, share in fleet_shares(made, part).items()}
    left = {cell: time for cell, time in left.items() if time > 0}
    unobserved = sum(left.values())
    return {cell: time / unobserved for cell, time in left.items()}


def sample_shares(made: Composition, part: StratumPart) -> dict[SampleCell, float]:
    """Return each merged cell's share of a stratum's sample."""
    return _shares(made, _counts([part]))


def _shares(made: Composition, cells: Mapping[SampleCell, int]) -> dict[SampleCell, float]:
    counts: Counter[SampleCell] = Counter()
    for cell, n in sorted(cells.items()):
        counts[made.merged_cell(cell)] += n
    whole = sum(counts.values())
    return {cell: n / whole for cell, n in counts.items()} if whole else {}


def is_balanced(strata: Sequence[StratumPart], made: Composition) -> bool:
    """Test whether the sample's composition is compatible with a random draw from the fleet.

    The test is χ² on model × age at 1 %. Strata of unknown composition are left out.
    """
    expected: defaultdict[SampleCell, float] = defaultdict(float)
    drawn: Counter[SampleCell] = Counter()
    for part in strata:
        for cell, share in fleet_shares(made, part).items():
            expected[cell] += part.n * share
        if part.cells:
            for cell, n in _counts([part]).items():
                drawn[made.merged_cell(cell)] += n
    rows = [(drawn[cell], more) for cell, more in sorted(expected.items()) if more >= FEWEST_EXPECTED]
    rest = math.fsum(expected.values()) - math.fsum(more for _, more in rows)
    if rest >= FEWEST_EXPECTED:
        rows.append((drawn.total() - sum(one for one, _ in rows), rest))
    if len(rows) < 2:
        return True
    distance = sum((one - more) ** 2 / more for one, more in rows)
    return distance <= chi_square99(len(rows) - 1)
