# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run a bench: `python -m tests.bench NAME [its options]`.

SIGTERM ends it as an exception does, so that it stops what it started.
"""

from __future__ import annotations

import ast
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent


def names() -> list[str]:
    """Return the benches: the modules of this folder that have a `main`, but for this one."""
    return sorted(
        file.stem
        for file in FOLDER.glob("*.py")
        if file != Path(__file__)
        and any(
            isinstance(one, ast.FunctionDef) and one.name == "main"
            for one in ast.parse(file.read_bytes()).body
        )
    )


def main(arguments: list[str]) -> int:
    """Run the bench that the first argument names; returns 2 where there is none of that name."""
    if not arguments or arguments[0] not in names():
        print(
            f"python -m tests.bench NAME [options], where NAME is one of: {' '.join(names())}",
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.argv = arguments
    return int(import_module(f"tests.bench.{arguments[0]}").main() or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
