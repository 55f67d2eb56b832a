# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`python -m veilleuse.collector.app.year_keeper DAY`: keeps the years that are due on a day.

`veilleuse serve` starts it each day. It is a separate process because a year of 10,000 machines takes
seconds, and no acknowledgement may wait. Standard output is JSON: the steps, then year → reason why it could
not be kept. Exit codes 0, 1, 2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import date
from functools import partial
from typing import Any, Final

from veilleuse.collector.app.child import tell_step
from veilleuse.collector.ipc import ask
from veilleuse.collector.reports.close_year import ClosingOrder, Proposal, propose
from veilleuse.collector.reports.kept_years import keep_due
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.settings import CollectorSettings, read_settings
from veilleuse.collector.store import open_reader
from veilleuse.wire.process import finish, lower_priority

_NICE: Final = 10
_ASK_SECONDS: Final = 120.0


def propose_year(settings: CollectorSettings, order: ClosingOrder) -> Proposal:
    """Compute a year to close. Raises CollectorError."""
    with open_reader(settings.data_dir) as store:
        return propose(sources_of(store, settings.reporting), settings, order)


def main(day: str) -> int:
    """0 = all due years are kept, or reported with a reason; 1 = nothing could be read;

    2 = wrong configuration.
    """
    return finish("veilleuse closing", partial(_keep, day))


def _keep(day: str) -> int:
    settings = read_settings(None)
    lower_priority(_NICE)

    def perform(operation: str, arguments: Mapping[str, Any]) -> Any:
        return ask(settings.data_dir, operation, timeout_seconds=_ASK_SECONDS, **arguments)

    with open_reader(settings.data_dir) as store:
        tell = partial(tell_step, "year_sums")
        failed = keep_due(store, settings, date.fromisoformat(day), perform, lambda year: tell(str(year)))
    sys.stdout.write(json.dumps(failed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
