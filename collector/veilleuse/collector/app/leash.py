# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`python -m veilleuse.collector.app.leash PID MODULE …`: runs a module that dies with its parent PID.

A collector that is killed must not leave its web process on the port: the next start would find the port in
use.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""Source: linux/prctl.h. The signal comes when the *thread* that started us ends;

Child's lasts like the service.
"""


def main() -> None:
    """Bind this process to its parent, then run the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    # Linux only; elsewhere the service manager ends the group
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # the parent died before the call
        sys.exit(1)
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
