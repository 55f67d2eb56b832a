# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the panels of *Collecteur*: the service itself."""

from __future__ import annotations

from typing import Final

from grafana.queries import (
    Board,
    Form,
    Panel,
    Query,
    Row,
    by_label,
    chosen,
    increase,
    judged,
    kwh,
    rate,
    total,
)
from veilleuse.collector.exposition import catalogue as c

_LOAD: Final = "a load: what a machine bears differs"
_DAY: Final = 86_400


def _certificate(name: str) -> Query:
    selector = chosen(c.CERTIFICATE, f'name="{name}"')
    left = f"({selector} - time()) / {_DAY}"
    return Query(left, ("{name:certificate}",), judged(f"{name}_certificate", _DAY))


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
                    (Query(chosen(c.COLLECTOR_UP), ("service",)),),
                    6,
                    5,
                    values={0: "no", 1: "yes"},
                ),
                Panel(
                    2,
                    "certificates",
                    Form.STAT,
                    "none",
                    "home",
                    judged("server_certificate", _DAY),
                    tuple(map(_certificate, ("server", "intermediate", "root"))),
                    12,
                    5,
                    0,
                ),
                Panel(
                    3,
                    "free",
                    Form.STAT,
                    "none",
                    "home",
                    judged("disk_low"),
                    (Query(f"{chosen(c.STORE_FREE)} / {chosen(c.STORE_RESERVE)}", ("free",)),),
                    6,
                    5,
                ),
                Panel(
                    11,
                    "forecast",
                    Form.STAT,
                    "none",
                    "home",
                    judged("disk_forecast", _DAY),
                    (Query(f"({chosen(c.STORE_FULL)} - time()) / {_DAY}", ("days",)),),
                    6,
                    5,
                    0,
                ),
                Panel(
                    12,
                    "backup",
                    Form.STAT,
                    "none",
                    "home",
                    judged("backup_old", _DAY),
                    (Query(f"(time() - {chosen(c.BACKUP_NEWEST)}) / {_DAY}", ("days",)),),
                    6,
                    5,
                    1,
                ),
                Panel(
                    13,
                    "due",
                    Form.STAT,
                    "none",
                    "bilan",
                    judged("month_late", _DAY, shown_left=True),
                    (
                        Query(f"({chosen(c.MONTH_DUE)} - time()) / {_DAY}", ("month",)),
                        Query(
                            f"({chosen(c.FACTOR_DUE)} - time()) / {_DAY}",
                            ("factor", "{zone}"),
                            judged("factor_stale", _DAY, shown_left=True),
                        ),
                    ),
                    12,
                    5,
                    0,
                ),
                Panel(
                    4,
                    "errors",
                    Form.BARS,
                    "none",
                    "home",
                    judged("store_errors", is_count=True),
                    (
                        Query(total(increase(c.STORE_ERRORS)), ("errors",)),
                        Query(total(increase(c.JOBS, 'outcome="failed"')), ("jobs",)),
                    ),
                    12,
                    5,
                    decimals=0,
                ),
                Panel(
                    14,
                    "own",
                    Form.STAT,
                    "kwatth",
                    "quality",
                    "no target: what it found avoidable stands beside it",
                    (
                        by_label(chosen(c.OWN_ENERGY), "part", convert=kwh),
                        Query(chosen(c.OWN_AVOIDABLE), ("found",), unit="none"),
                        Query(rate(chosen(c.OWN_COLLECTOR_CPU)), ("now",), unit="percentunit"),
                    ),
                    12,
                    5,
                    2,
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
                    (by_label(rate(chosen(c.RECORDS)), "outcome"),),
                ),
                Panel(
                    6,
                    "refused",
                    Form.LINES,
                    "cps",
                    "park",
                    _LOAD,
                    (
                        Query(total(rate(chosen(c.REFUSED_CALLS))), ("calls",)),
                        Query(total(rate(chosen(c.REFUSED_RECORDS))), ("records",)),
                    ),
                ),
                Panel(
                    7,
                    "waiting",
                    Form.LINES,
                    "none",
                    "home",
                    _LOAD,
                    (Query(chosen(c.QUEUE), ("pushes",)), Query(chosen(c.DIRTY), ("periods",))),
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
                            f"histogram_quantile(0.99, {rate(chosen(c.COMMIT, suffix='_bucket'))})",
                            ("most",),
                        ),
                        Query(
                            f"{rate(chosen(c.COMMIT, suffix='_sum'))} / {rate(chosen(c.COMMIT, suffix='_count'))}",
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
                    (Query(chosen(c.STORE_BYTES), ("size",)),),
                ),
                Panel(
                    10,
                    "pages",
                    Form.LINES,
                    "reqps",
                    "home",
                    _LOAD,
                    (by_label(rate(chosen(c.HTTP_DURATION, suffix="_count")), "route"),),
                ),
            ),
        ),
    ),
)
