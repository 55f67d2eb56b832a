# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Agent and collector do not know each other: what both must agree on beside the wire."""

from __future__ import annotations

from veilleuse.agent.sources import BUILTIN, BY_SYSTEM, POLLED
from veilleuse.collector.web.metrics.health import SOURCES


def test_every_source_of_the_agent_has_its_label():
    """A controller or a PDU that fails is seen by its name on /metrics, not as one more `other`."""
    shipped = {name for names in BY_SYSTEM.values() for name in names} | BUILTIN.keys() | POLLED.keys()
    assert set(SOURCES) == shipped | {"utilisation"}
