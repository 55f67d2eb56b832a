# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent enrol JOINFILE`: gets the first identity with the token of a join file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

from veilleuse.agent.commands.language import print_lines
from veilleuse.agent.commands.state_view import read_identity
from veilleuse.agent.settings import AgentSettings

EXIT_WARNINGS: Final = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add JOINFILE, --keep, --json."""
    parser.add_argument(
        "join_file", type=Path, metavar="JOINFILE", help="written by `veilleuse token create`"
    )
    parser.add_argument(
        "--keep", action="store_true", help="do not delete the join file (a token for a group)"
    )
    parser.add_argument("--json", action="store_true", help="for a machine")


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Return 0 when enrolled, 3 when the join file could not be deleted.

    After any failure run the command again: it asks with the same key.
    """
    from veilleuse.agent.sending.enrol import enrol

    former, _ = read_identity(settings)
    identity = enrol(settings, parsed.join_file, keep=parsed.keep)
    place = identity.place
    if parsed.json:
        result = {
            "agent_id": identity.agent_id.hex(),
            "address": place.address,
            "org_entity": place.org_entity,
            "site": place.site,
            "population": place.population,
            "ca_pinned": place.ca_pinned,
            "certificate_not_after_unix_milliseconds": identity.not_after_unix_milliseconds,
        }
        print(json.dumps(result, ensure_ascii=False))
    else:
        where = f"{place.population} of {place.org_entity}, site {place.site}"
        lines = [
            f"enrolled as {identity.agent_id.hex()}: {where}",
            f"sends to {place.address}; see `veilleuse-agent doctor`",
        ]
        if former is not None and former.agent_id != identity.agent_id:
            lines.append(
                f"it was {former.agent_id.hex()} until now: `veilleuse hosts revoke {former.agent_id.hex()}` on "
                "the collector ends that identity"
            )
        print_lines(lines)
    left = not parsed.keep and parsed.join_file.exists()
    return EXIT_WARNINGS if left else 0
