# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I3: power-plan compliance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from veilleuse.collector.model.indicators import (
    PCS,
    Figure,
    GaugeParts,
    IndicatorGroup,
    IndicatorMachine,
    IndicatorMeta,
    Pair,
    Targets,
    contributions,
    judged,
    known_part,
)
from veilleuse.collector.ports.stages import Indicator

_MINUTE_SECONDS: Final = 60


class PowerPlanCompliance(Indicator):
    """I3, power-plan compliance.

    Formula: machines whose power plan on mains switches the display off within 15 minutes and sleeps within
    30 ÷ machines whose plan is known. 0 = never = not compliant. A machine with one unknown timeout is in
    neither, unless the other timeout alone makes it fail. Servers and virtual machines are excluded.
    A plan is set by administrators: 0 and 1 are shown, even for few known plans. With 1 to k - 1 machines on
    the smaller side (compliant or not), I3 has no value.
    Period: the last report of each machine that was observed; no history. Unit: ratio, 0 to 1.
    Threshold: the two timeouts, `indicators.display_off_minutes` and `indicators.sleep_minutes` (15 and 30:
    ENERGY STAR's defaults). Direction: higher is better. Owner: system team (group policies).

    Worked example: plans (display, sleep) of 10 and 30 min, 15 and never, never and 30, 5 and not known, 20
    and not known, not known at all: 1 complies, 3 fail (the fifth by its display alone), 2 are not known: 1 ÷
    4 = 0.25.
    """

    meta = IndicatorMeta("I3", "power-plan compliance", "ratio", "higher", "system team")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figure of physical PCs."""
        machines = [one for one in group.machines if one.population in PCS and not one.is_virtual]
        if not machines:
            return
        said = [(one, complies(one, targets)) for one in machines]
        good = [one for one, fine in said if fine]
        bad = [one for one, fine in said if fine is False]
        known = len(good) + len(bad)
        yield Figure(
            len(good) / known if known else None,
            len(machines),
            len(good),
            known,
            details={"not_known": len(machines) - known},
            behind=(contributions((one, 1) for one in min(good, bad, key=len)),),
        )

    def parts(self, figure: Figure) -> GaugeParts:
        """Return the share."""
        return (known_part(figure.value),)

    def pair(self, machine: IndicatorMachine, targets: Targets) -> Pair:
        """Return (numerator, denominator) of one machine: does its plan comply?"""
        return judged(complies(machine, targets))


def complies(machine: IndicatorMachine, targets: Targets) -> bool | None:
    """Tell if a machine's plan complies; None when that is not known."""
    display_off, sleep = machine.power_plan
    one = _within(display_off, targets.display_off_minutes)
    other = _within(sleep, targets.sleep_minutes)
    if one is False or other is False:
        return False
    return True if one and other else None


def _within(seconds: int | None, minutes: int) -> bool | None:
    return None if seconds is None else 0 < seconds <= minutes * _MINUTE_SECONDS
