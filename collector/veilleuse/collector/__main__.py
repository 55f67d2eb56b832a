# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse`, and `python -m veilleuse.collector`."""

from __future__ import annotations

import resource
import sys


def main() -> int:
    """Run one command; its exit code: 0 done, 1 failed, 2 wrong usage or configuration, 3 done with warnings."""
    try:
        from veilleuse.collector.cli.main import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print(f"veilleuse: {error.name} is not installed: install veilleuse[collector]", file=sys.stderr)
        return 1
    _no_core_dump()
    return run(sys.argv[1:])


def _no_core_dump() -> None:
    """A crash leaves no key on the disk; children inherit it. PROMISES.md S19."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    sys.exit(main())
