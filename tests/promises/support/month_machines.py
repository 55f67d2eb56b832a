# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the true power plans and avoidable energy of a month's PCs, for indicator_answers.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.model.indicators import NO_USE, IndicatorMachine, add_uses
from veilleuse.collector.model.records import HostId
from veilleuse.collector.reports.machines import Stretch, machines_of
from veilleuse.collector.reports.readers import SobrietySources


def pcs_of_month(sources: SobrietySources, part: Slice) -> dict[int, IndicatorMachine]:
    """Return the physical PCs that are enrolled, or were observed in a month; a reinstalled one is its last.

    Those silent all month are among them: fewer than k of a row's, which counts them (0046).
    """
    base = sources.base
    stretch = Stretch((part.first, part.end), part.end, part.end - timedelta(days=1))
    found: dict[int, IndicatorMachine] = {}
    for one in machines_of(sources, stretch, base.hosts, base.assets):
        host = base.same.get(one.host_id, one.host_id)
        before = found.get(host)
        bands = before.bands if before else {}
        last = one if before is None or one.host_id == host else before
        together = {
            band: add_uses(bands.get(band, NO_USE), one.bands.get(band, NO_USE))
            for band in bands.keys() | one.bands.keys()
        }
        found[host] = replace(last, host_id=HostId(host), bands=together)
    return {host: one for host, one in found.items() if one.population not in EXEMPT and not one.is_virtual}
