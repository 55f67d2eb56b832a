# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run a command to its end, and programs that have none."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

HANGS: Final = "import signal\nwhile True: signal.pause()"
"""A Python program that runs until it is killed."""


def ran(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command with these options of subprocess.run; returns what it wrote and its exit status."""
    return subprocess.run(command, **{"capture_output": True, "text": True, "check": False, **options})
