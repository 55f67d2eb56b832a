# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Configured meters for tests of the sources that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.wire.vocabulary import Boundary


def context_of(source: str, address: str, timeout_seconds: float = 0.4, **changes: Any) -> SourceContext:
    """What a source is made with: a meter `rack-a` of this machine; what is no field of MeterSpec is an option."""
    fields = {name: changes.pop(name) for name in MeterSpec._fields if name in changes}
    meter = MeterSpec(
        meter="rack-a",
        source=source,
        address=address,
        subject="machine",
        boundary=Boundary.WALL,
        every_seconds=20,
        timeout_seconds=timeout_seconds,
        ceiling_watts=4_000.0,
        credentials_file="",
        options=changes,
    )._replace(**fields)
    return SourceContext("/nowhere", "/nowhere", "none", meter=meter)


def secret_file(path: Path, text: str) -> str:
    """A credentials file as it should be."""
    path.write_text(text)
    path.chmod(0o640)
    return str(path)
