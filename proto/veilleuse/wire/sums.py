# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Integer splitting and merging that loses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` ≥ 0 in proportion to `weights` ≥ 0; the parts are integers ≥ 0 and sum to `total` exactly.

    Raises ValueError when all weights are zero and there is something to split, or on a negative input.
    """
    if total < 0 or any(weight < 0 for weight in weights):
        raise ValueError("apportion takes non-negative integers")
    whole = sum(weights)
    if whole == 0:
        if total:
            raise ValueError("nothing to apportion to: all weights are zero")
        return [0] * len(weights)
    bounds = [total * reached // whole for reached in accumulate(weights)]
    return [upper - lower for lower, upper in zip([0, *bounds], bounds, strict=False)]


def merge_smallest(values: Mapping[str, int], most: int, rest: str) -> dict[str, int]:
    """At most `most` ≥ 1 names, `rest` among them when it was needed: the smallest values are added up under it.

    The sum stays; of equal values the first name in alphabetical order keeps its own.
    """
    if len(values) <= most:
        return dict(values)
    ordered = sorted((name for name in values if name != rest), key=lambda name: (-values[name], name))
    kept = {name: values[name] for name in ordered[: most - 1]}
    return {**kept, rest: sum(values.values()) - sum(kept.values())}
