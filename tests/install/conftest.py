# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Prints the table of installation steps at the end of the run, also after a failure or an interruption."""

from __future__ import annotations

from typing import Any

from tests.install import steps


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    if steps.TAKEN:
        terminalreporter.section("installation")
        terminalreporter.write_line(steps.table())
