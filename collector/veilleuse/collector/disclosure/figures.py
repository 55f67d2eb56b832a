# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Withholds values of indicators with few machines behind a part of them (pure). docs/privacy.md."""

from __future__ import annotations

from dataclasses import replace

from veilleuse.collector.disclosure.rule import EXEMPT, is_nobodys_or_safe
from veilleuse.collector.model.indicators import Contributions, Figure
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import HostId


def disclose_figure(figure: Figure, key: GroupKey, k: int) -> Figure:
    """Remove values with fewer than k machines or assets of people: docs/guarantees.md P4, P5.

    Details that are parts of one sum are removed together: the rest would reveal a removed one.
    """
    if k == 1 or key.population in EXEMPT:
        return figure
    if any(not _may_show(one, k) for one in figure.behind):
        return replace(
            figure,
            value=None,
            numerator=None,
            denominator=None,
            details={name: one for name, one in figure.details.items() if isinstance(one, str)},
            interval=None,
            withheld=True,
        )
    if any(not _may_show(one, k) for one in figure.behind_details.values()):
        kept = {name: one for name, one in figure.details.items() if name not in figure.behind_details}
        return replace(figure, details=kept)
    return figure


def _may_show(behind: Contributions, k: int) -> bool:
    """Return true when nobody contributes, or enough do."""
    return is_nobodys_or_safe({HostId(key): value for key, value in behind.items()}, k)
