# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Entry point of `veilleuse-agent` and `python -m veilleuse.agent`."""

from __future__ import annotations

import os
import sys

from veilleuse.wire.interrupt import end_on_interrupt


def main() -> int:
    """Run one command and return its exit code."""
    end_on_interrupt()
    # imported only now: the import takes a tenth of a second, in which Ctrl-C may come
    from veilleuse.agent.commands.main import (
        main as run,
    )

    code = run(sys.argv[1:])
    if sys.argv[1:2] == ["send"]:
        # shutting down the interpreter and grpc takes a tenth of a contact's processor time
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
