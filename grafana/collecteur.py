# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the panels of *Collecteur*: the service itself."""

from __future__ import annotations

from typing import Final

from grafana.queries import Board, Form, Panel, Query, Row, by_label, increase, rate, series, total
from veilleuse.collector.exposition import catalogue as c

_LOAD: Final = "a load: what a machine bears differs"
_OF_AUTHORITY: Final = ((None, "red"), (60, "green"))
"""Days; the alert's limit: an administrator renews them."""
_OF_SERVER: Final = ((None, "red"), (14, "green"))
"""Days; the alert's limit: it renews itself 30 days before its end."""

COLLECTEUR: Final = Board(
    "collecteur",
    (
        Row(
            100,
            "health",
            (
                Panel(
                    1,
                    "up",
                    Form.STAT,
                    "none",
                    "home",
                    ((None, "red"), (1, "green")),
                    (Query(series(c.COLLECTOR_UP), ("service",)),),
                    6,
                    5,
                    values={0: "no", 1: "yes"},
                ),
                Panel(
                    2,
                    "certificates",
                    Form.STAT,
                    "d",
                    "home",
                    _OF_AUTHORITY,
                    (
                        Query(
                            f"({series(c.CERTIFICATE, 'name!=\"server\"')} - time()) / 86400",
                            ("{name:certificate}",),
                        ),
                        Query(
                            f"({series(c.CERTIFICATE, 'name=\"server\"')} - time()) / 86400",
                            ("{name:certificate}",),
                            _OF_SERVER,
                        ),
                    ),
                    12,
                    5,
                    0,
                ),
                Panel(
                    3,
                    "free",
                    Form.STAT,
                    "bytes",
                    "home",
                    ((None, "red"), (0, "green")),
                    (Query(f"{series(c.STORE_FREE)} - {series(c.STORE_RESERVE)}", ("free",)),),
                    6,
                    5,
                ),
                Panel(
                    4,
                    "errors",
                    Form.BARS,
                    "short",
                    "home",
                    ((None, "green"), (1, "red")),
                    (
                        Query(total(increase(c.STORE_ERRORS)), ("errors",)),
                        Query(total(increase(c.JOBS, 'outcome="failed"')), ("jobs",)),
                    ),
                    decimals=0,
                ),
            ),
        ),
        Row(
            200,
            "load",
            (
                Panel(
                    5,
                    "records",
                    Form.STACK,
                    "cps",
                    "park",
                    _LOAD,
                    (by_label(rate(series(c.RECORDS)), "outcome"),),
                ),
                Panel(
                    6,
                    "refused",
                    Form.LINES,
                    "cps",
                    "park",
                    _LOAD,
                    (
                        Query(total(rate(series(c.REFUSED_CALLS))), ("calls",)),
                        Query(total(rate(series(c.REFUSED_RECORDS))), ("records",)),
                    ),
                ),
                Panel(
                    7,
                    "waiting",
                    Form.LINES,
                    "short",
                    "home",
                    _LOAD,
                    (Query(series(c.QUEUE), ("pushes",)), Query(series(c.DIRTY), ("periods",))),
                ),
                Panel(
                    8,
                    "commit",
                    Form.LINES,
                    "s",
                    "home",
                    _LOAD,
                    (
                        Query(
                            f"histogram_quantile(0.99, {rate(series(c.COMMIT, suffix='_bucket'))})",
                            ("most",),
                        ),
                        Query(
                            f"{rate(series(c.COMMIT, suffix='_sum'))} / {rate(series(c.COMMIT, suffix='_count'))}",
                            ("mean",),
                        ),
                    ),
                ),
                Panel(
                    9,
                    "size",
                    Form.LINES,
                    "bytes",
                    "home",
                    "the disk of panel 3 judges it",
                    (Query(series(c.STORE_BYTES), ("size",)),),
                ),
                Panel(
                    10,
                    "pages",
                    Form.LINES,
                    "reqps",
                    "home",
                    _LOAD,
                    (by_label(rate(series(c.HTTP_DURATION, suffix="_count")), "route"),),
                ),
            ),
        ),
    ),
)
