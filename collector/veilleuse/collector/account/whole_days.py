# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Known time where few machines were silent: in whole days of each, or the month less it is their silence (pure). docs/decisions/0046."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Final, TypeVar

from veilleuse.collector.account.group_sums import Tally
from veilleuse.collector.model.figures import KNOWN_STATES, REST_STATES
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import State

K = TypeVar("K")
LITTLE: Final = 2
"""Where time at rest is not this many times what it is changed by, all known time is changed."""


def in_whole_days(tally: Tally, k: int) -> Tally:
    """The same, its known time a multiple of 24 h × machines where 1 to k − 1 of them were silent, never above enrolled time. Time at rest
    makes up the difference, and its energy in proportion: watts stay what they are, or a model's would tell the time again."""
    machines = len(tally.hosts)
    known = sum(sums.milliseconds for (_, state), sums in tally.states.items() if state in KNOWN_STATES)
    step = machines * MILLISECONDS_PER_DAY
    if not known or tally.tells_silence(k):
        return tally
    told = max(1, (known + step // 2) // step) * step
    if told > tally.enrolled_milliseconds:
        told = told - step or tally.enrolled_milliseconds  # enrolled for less than a day each: never 0
    rest = sum(sums.milliseconds for (_, state), sums in tally.states.items() if state in REST_STATES)
    states = REST_STATES if rest > LITTLE * abs(told - known) else KNOWN_STATES
    return _changed(tally, states, told - known, rest if states is REST_STATES else known)


def _changed(tally: Tally, states: frozenset[State], more: int, of: int) -> Tally:
    """`more` milliseconds put on the `of` of these states, in proportion."""

    def changed(value: int) -> int:
        return value * (of + more) // of

    times = {key: sums for key, sums in tally.states.items() if key[1] in states}
    whole = _in_proportion({key: sums.milliseconds for key, sums in times.items()}, of, more)
    found = replace(tally)
    found.states = tally.states | {
        key: replace(sums.share(changed), milliseconds=whole[key]) for key, sums in times.items()
    }
    found.energies = dict(tally.energies)
    for key, energy in tally.energies.items():
        if key[3] in states:
            found.energies[key] = replace(energy.share(changed), milliseconds=energy.milliseconds)
    # A month pairs methods' times with states in their order: the time with an energy is changed as a whole.
    derived = {key: energy.milliseconds for key, energy in found.energies.items()}
    known = sum(sums.milliseconds for (_, state), sums in tally.states.items() if state in KNOWN_STATES)
    for key, milliseconds in _in_proportion(derived, known, more).items():
        found.energies[key] = replace(found.energies[key], milliseconds=milliseconds)
    return found


def _in_proportion(values: Mapping[K, int], of: int, more: int) -> Mapping[K, int]:
    """Each × (of + more) ÷ of, rounded so that their sum is too."""
    ends: Sequence[int] = [end * (of + more) // of for end in accumulate(values.values(), initial=0)]
    return {key: after - before for key, (before, after) in zip(values, pairwise(ends), strict=True)}
