# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs the command line: `veilleuse`, and `python -m veilleuse.collector`."""

from __future__ import annotations

import sys

from veilleuse.wire.interrupt import end_on_interrupt


def main() -> int:
    """Run one command and return its exit code.

    0 done, 1 failed, 2 wrong usage or configuration, 3 done with warnings.
    """
    end_on_interrupt()
    try:
        from veilleuse.collector.cli.main import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        from veilleuse.wire.process import say

        return say("veilleuse", f"{error.name} is not installed: install veilleuse[collector]", 1)
    _disable_core_dumps()
    return run(sys.argv[1:])


def _disable_core_dumps() -> None:
    """Disable core dumps, so that a crash writes no key to the disk; children inherit the limit:
    docs/promises.md, S19.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    sys.exit(main())
