# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent windows-service`: `run`, as the service that the Service Control Manager starts.

It connects before the configuration is read, so that an error in it too gets into the event log.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from veilleuse.agent.commands.main import main
from veilleuse.agent.errors import AgentError
from veilleuse.agent.platforms import SYSTEM

if TYPE_CHECKING:
    import argparse  # not in the resident process

    from veilleuse.agent.settings import AgentSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing."""


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Run the service, then end the process. Raises AgentError when this is not the service."""
    if SYSTEM != "windows":
        raise AgentError("windows-service is for Windows: use `veilleuse-agent run`")
    from veilleuse.agent.platforms.windows.service_api import WindowsServiceCalls
    from veilleuse.agent.service.windows_service import EventLog, WindowsService

    calls = WindowsServiceCalls()
    service, events = WindowsService(calls), EventLog(calls)
    code = main(["run"])
    events.close()
    service.ended(code)
    # at once: after the report an installer replaces our files
    os._exit(code)
