# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S9: requests of another host that never end shut the pages for nobody. Needs root, for namespaces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.promises.support.unfinished import KEPT_ALIVE, KINDS, attack, attacked_collector

CLOSED_SECONDS = 6.5
WAIT_SECONDS = 1.0


@pytest.mark.promise("S9")
@pytest.mark.parametrize(
    ("kind", "addresses", "seconds"),
    [
        ("POST without a body", 1, 0.0),
        *(pytest.param(kind, 1, 0.0, marks=pytest.mark.long) for kind in list(KINDS)[1:-1]),
        pytest.param(KEPT_ALIVE, 1, 8.0, marks=pytest.mark.long),
        pytest.param("POST without a body", 1, 10.0, marks=pytest.mark.long, id="again and again"),
        pytest.param("POST without a body", 40, 0.0, marks=pytest.mark.long, id="from 40 addresses"),
    ],
)
def test_unfinished_requests_shut_the_pages_for_nobody(
    tmp_path: Path,
    kind: str,
    addresses: int,
    seconds: float,
    figure: Callable[[str], None],
    time_bound: Callable[[float, float, str], None],
) -> None:
    """3,000 connections are closed; loopback and a neighbour are answered meanwhile; no traceback."""
    with attacked_collector(tmp_path) as (stack, between):
        became = attack(between, kind, addresses=addresses, seconds=seconds)
        log = stack.log("serve")
    figure(str(became))
    assert became.refused == 0, became.how
    time_bound(became.wait_seconds, WAIT_SECONDS, "longest wait of another client")
    assert became.left == 0
    if kind != KEPT_ALIVE:
        time_bound(became.closed_seconds, CLOSED_SECONDS, "longest life of a connection")
    assert "Traceback" not in log
