# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run `veilleuse query` beside a real `veilleuse serve`, which stores records that later queries see."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.stack import Stack

RECORDS = "SELECT count(*) AS n FROM records JOIN hosts USING (host_id)"
FAST = {
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "2",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
    "VEILLEUSE_AGENT__COLLECTOR__CONTACT_SECONDS": "5",
}
FOREVER = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n, hosts"


def test_a_query_while_the_service_runs(tmp_path: Path) -> None:
    """New records appear in the answer. Access to names is noted through the socket. A query without end does
    not stop records from being stored."""
    with Stack(tmp_path, FAST) as stack:
        serving = stack.start_collector()
        stack.enrol()

        def records() -> int:
            (row,) = json.loads(stack.must("veilleuse", "query", RECORDS, "--json"))
            return int(row["n"])

        assert records() == 0
        endless = stack.start("veilleuse", "query", FOREVER, "--seconds", "300")
        stack.start("veilleuse-agent", "run")
        stack.wait_for(lambda: records() > 0, "a record is stored")
        assert endless.poll() is None, "the query has ended by itself"
        stack.must("veilleuse", "query", "SELECT * FROM identity.names", "--names", "--why", "a test")
        (line,) = json.loads(
            stack.must(
                "veilleuse", "query", "SELECT why FROM journal", "--names", "--json", "--limit", "1000"
            )
        )[-1:]
        assert line == {"why": "veilleuse query --names"}
        assert serving.poll() is None
