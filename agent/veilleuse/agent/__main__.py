# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent`, and `python -m veilleuse.agent`."""

from __future__ import annotations

import os
import sys

from veilleuse.wire.interrupt import end_on_interrupt


def main() -> int:
    """Run one command; its exit code."""
    end_on_interrupt()
    from veilleuse.agent.commands.main import (
        main as run,
    )  # only now: a tenth of a second in which Ctrl-C may come

    code = run(sys.argv[1:])
    if sys.argv[1:2] == ["send"]:
        os._exit(code)  # taking the interpreter and grpc apart costs a tenth of a contact's processor time
    return code


if __name__ == "__main__":
    sys.exit(main())
