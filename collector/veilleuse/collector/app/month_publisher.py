# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`python -m veilleuse.collector.app.month_publisher DAY`: publishes the months that are due on a day.

`veilleuse serve` starts it each day. It is a separate process because a month of 10,000 machines takes
seconds, and no acknowledgement may wait. Standard output is JSON: the steps, then the months whose
records wait to be derived. Exit codes 0, 1, 2.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from functools import partial
from typing import Final

from veilleuse.collector.app.child import tell_step
from veilleuse.collector.release.publications import publisher
from veilleuse.collector.reports.fleet_publication import FleetPublisher, Tell, tell_nobody
from veilleuse.collector.reports.readers import sobriety_sources_of, targets_of
from veilleuse.collector.settings import CollectorSettings, read_settings
from veilleuse.collector.store import open_reader
from veilleuse.wire.process import finish, lower_priority

_NICE: Final = 10
_ASK_SECONDS: Final = 120.0


def main(day: str) -> int:
    """0 = all is published, or waits; 1 = nothing could be read or stored; 2 = wrong configuration."""
    return finish("veilleuse months", partial(_publish, day))


def _publish(day: str) -> int:
    settings = read_settings(None)
    lower_priority(_NICE)
    sys.stdout.write(json.dumps(publish_due(settings, date.fromisoformat(day), tell=tell_step)))
    return 0


def publish_due(
    settings: CollectorSettings, today: date, *, fleet: bool = True, tell: Tell = tell_nobody
) -> list[str]:
    """Publish the months that are due on a day; return those that wait. Raises CollectorError.

    `fleet`: also the fleet's energy of each.
    """
    publish = publisher(settings.data_dir, _ASK_SECONDS)
    with open_reader(settings.data_dir) as store:
        sources, k = sobriety_sources_of(store, settings.reporting), settings.reporting.k_anonymity
        kept_months, targets = settings.retention.pc_monthly_months, targets_of(settings.indicators)
        return FleetPublisher(sources, publish, k, today, targets, kept_months, tell).run(fleet=fleet)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
