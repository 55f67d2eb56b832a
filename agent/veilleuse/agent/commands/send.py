# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent send`: makes one contact or holds one. The resident process or a person starts it."""

from __future__ import annotations

import argparse
import gc

from veilleuse.agent.settings import AgentSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --hold and --attached."""
    parser.add_argument(
        "--hold", action="store_true", help="stay, and send as records come (periods under 60 s)"
    )
    parser.add_argument(
        "--attached",
        action="store_true",
        help="with --hold: end when standard input does (as the service starts it)",
    )
    # Of 0.2: a service that still runs it starts this program after the files were upgraded.
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Return 0 when the contact succeeded, 1 when nothing was delivered;

    `doctor` and the log give the reason.
    """
    hold = parsed.hold and parsed.parent is None  # its end could not be noticed: one contact, then the next
    if not hold:
        # the process ends before there is garbage to collect; the imports alone would start a collection
        gc.disable()
    from veilleuse.agent.sending.process import send

    return send(settings, hold=hold, attached=parsed.attached)
