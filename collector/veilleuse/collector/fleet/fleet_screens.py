# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How long screens that nobody saw are on: the sampling error of that time (pure). METHOD.md §5; decision 0030.

Of machines the inventory says how long they were in service, and the sample how much they draw. Of screens it says neither: the time
is a ratio of the sample too, as unsure as the PCs that were seen differ in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from veilleuse.collector.fleet.fleet_inputs import DAY_TYPES
from veilleuse.collector.fleet.pool import FEWEST, PRIOR_SPREAD, Pool
from veilleuse.collector.fleet.prediction import Prediction
from veilleuse.collector.fleet.samples import summed

_NOTHING = (0.0,) * len(DAY_TYPES)
_ALL = (1.0,) * len(DAY_TYPES)


def with_time_on(predictions: Sequence[Prediction], pool: Pool) -> None:
    """Add it to strata of screens: c²·(1/n + 1/u) of the square of what is extrapolated, c the relative spread of the time that screens of
    one PC are on, n PCs seen, u PCs with as much time as was not seen. Strata that rest on the class share its n, for they err together."""
    if not pool.n:
        return
    whole = summed(group for _, group in pool.whole.groups)
    mean = sum(whole.times) / whole.n
    squares = max(0.0, whole.squares(_NOTHING, _ALL) - whole.n * mean**2)
    spread = squares / (whole.n - 1) / mean**2 if whole.n > 1 else PRIOR_SPREAD**2
    degrees = max(1, whole.n - 1)
    moved = [one for one in predictions if one.extrapolated]
    resting = sum(one.part.n < FEWEST for one in moved)
    for one in moved:
        n = one.part.n if one.part.n >= FEWEST else whole.n / resting
        unseen = sum(one.part.missing) / mean
        variance = one.extrapolated**2 * spread * (1 / n + 1 / unseen)
        one.terms = one.terms._replace(
            thick=one.terms.thick + variance,
            thick_by_degrees=one.terms.thick_by_degrees + variance**2 / degrees,
        )
