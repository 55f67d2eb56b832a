# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent run`: the resident process. It imports nothing of the sender.

A child process first checks whether this machine is a clone: the hash functions would stay in memory for
ever. `--check` runs that child, and can be run by a person.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from veilleuse.agent.platforms import here
from veilleuse.agent.settings import AgentSettings

if TYPE_CHECKING:
    import argparse  # not in the resident process

    from veilleuse.agent.ports import ServiceManager


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --check."""
    parser.add_argument(
        "--check",
        action="store_true",
        help="only check whether this is a copy of another machine, and set aside that machine's data",
    )


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Measure until asked to stop."""
    if getattr(parsed, "check", False):
        from veilleuse.agent.identity.reset import reset_if_clone

        reset_if_clone(settings)
        return 0
    from veilleuse.agent.resident.process import RESTART
    from veilleuse.agent.resident.process import run as measure

    while (code := _run_check(parsed)) == 0 and (
        code := measure(settings, parsed.config, service_manager())
    ) == RESTART:
        pass
    return code


def service_manager() -> ServiceManager | None:
    """Create the service manager of this system; None where none is known."""
    module, _, name = here.SERVICE_MANAGER.partition(":")
    manager: ServiceManager | None = getattr(importlib.import_module(module), name)() if name else None
    return manager


def _run_check(parsed: argparse.Namespace) -> int:
    """Run the check in a child process and return its exit code; the child prints its own messages."""
    import subprocess
    import sys

    command = [sys.executable, "-P", "-m", "veilleuse.agent", "run", "--check"]
    if parsed.config is not None:
        command += ["--config", str(parsed.config)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    return done.returncode if done.returncode >= 0 else 1
