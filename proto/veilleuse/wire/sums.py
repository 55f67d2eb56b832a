# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Splits and merges integers without loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` ≥ 0 in proportion to `weights` ≥ 0; the parts are integers ≥ 0 and sum to `total`.

    Raises ValueError when all weights are zero and `total` is not, or on a negative input.
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
    """Merge the smallest values into `rest`, so that at most `most` ≥ 1 names remain.

    The sum stays the same. Of equal values, the first name in alphabetical order is kept.
    """
    if len(values) <= most:
        return dict(values)
    ordered = sorted((name for name in values if name != rest), key=lambda name: (-values[name], name))
    kept = {name: values[name] for name in ordered[: most - 1]}
    return {**kept, rest: sum(values.values()) - sum(kept.values())}
