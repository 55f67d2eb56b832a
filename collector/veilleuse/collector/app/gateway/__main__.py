# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`python -m veilleuse.collector.app.gateway`: process started by `veilleuse serve`.

All settings come from the environment. Exit codes 0, 1, 2.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from veilleuse.collector.app import prepare_process
from veilleuse.collector.settings import read_settings
from veilleuse.wire.process import finish, lower_priority

NICE: Final = 5
"""Lower priority than the collector: work caused by strangers takes no processor time from the agents."""


def main() -> int:
    """Serve until SIGTERM. 0 = stopped as asked, 1 = cannot serve, 2 = wrong configuration."""
    return finish("veilleuse gateway", _main)


def _main() -> int:
    settings = read_settings(None)
    prepare_process(settings)
    os.umask(0o077)
    lower_priority(NICE)
    from veilleuse.collector.app.gateway.server import run  # imported only now: gRPC reads its environment

    return run(settings.data_dir)


if __name__ == "__main__":
    sys.exit(main())
