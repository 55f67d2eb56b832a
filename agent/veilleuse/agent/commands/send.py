# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent send`: one contact, or one held open. The resident process starts it; a human may too."""

from __future__ import annotations

import argparse
import gc
import os

from veilleuse.agent.settings import AgentSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--hold."""
    parser.add_argument(
        "--hold", action="store_true", help="stay, and send as records come (periods under 60 s)"
    )
    parser.add_argument(
        "--parent",
        type=int,
        default=os.getppid(),
        metavar="PID",
        help="with --hold: end when this parent is gone",
    )


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """0 when the contact went well, 1 when nothing could be delivered: the reason is logged and in `doctor`."""
    if not parsed.hold:
        gc.disable()  # the process is over before there is anything to collect; imports alone would trigger it
    from veilleuse.agent.sending.process import send

    return send(settings, hold_for=parsed.parent if parsed.hold else None)
