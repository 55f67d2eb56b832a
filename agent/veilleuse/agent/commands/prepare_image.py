# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent prepare-image`: the last command on a machine whose disk becomes an image."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from veilleuse.agent.commands.state_view import read_spool
from veilleuse.agent.identity.image import WipeResult, wipe
from veilleuse.agent.settings import AgentSettings
from veilleuse.wire.limits import AGENT_ID_DIGITS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --join, --json."""
    parser.add_argument(
        "--join",
        type=Path,
        metavar="FILE",
        help="leave this join file, of a token for a group, for the clones to enrol with by themselves",
    )
    parser.add_argument("--json", action="store_true", help="for a machine")


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Return 0 when no data of this machine is left."""
    before = read_spool(settings)
    undelivered = before.pending + before.unacknowledged
    wiped = wipe(settings, parsed.join)
    if parsed.json:
        result = {
            "state": str(settings.paths.state),
            "removed": [str(path) for path in wiped.removed],
            "agent_id": wiped.agent_id or None,
            "undelivered_records": undelivered,
            "join_file": None if wiped.join_file is None else str(wiped.join_file),
        }
        print(json.dumps(result, ensure_ascii=False))
    else:
        print("\n".join(_lines(settings.paths.state, wiped, undelivered)))
    return 0


def _lines(state: Path, wiped: WipeResult, undelivered: int) -> Iterator[str]:
    if not wiped.removed:
        yield f"nothing of this machine was in {state}"
    for path in wiped.removed:
        yield f"removed {path}"
    if undelivered:
        yield f"{undelivered} record(s) had not been delivered: they are gone"
    if wiped.agent_id:
        yield (
            "this machine was enrolled: on the collector, `veilleuse hosts revoke "
            f"{wiped.agent_id[:AGENT_ID_DIGITS]}`"
        )
    if wiped.join_file is not None:
        yield f"the clones enrol with {wiped.join_file}, each under an identity of its own"
    else:
        yield (
            "the clones measure and wait: enrol each with `veilleuse-agent enrol JOINFILE`, or run this "
            "again with --join"
        )
    yield (
        "next: do not start the service again here; empty /etc/machine-id (`truncate -s 0 /etc/machine-id`, "
        "or"
    )
    yield "virt-sysprep), shut down, take the image. Started by mistake? The same command again."
