# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I4: avoidable energy, by causes that never share a millisecond."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from veilleuse.collector.disclosure.rule import MIXED
from veilleuse.collector.indicators.comatose_server import is_judged, verdict
from veilleuse.collector.model.figures import SCREEN_STANDBY_MICROWATTS
from veilleuse.collector.model.indicators import (
    PCS,
    BandUse,
    Contributions,
    Detail,
    Figure,
    GaugeParts,
    IndicatorGroup,
    IndicatorMachine,
    IndicatorMeta,
    ServerVerdict,
    Targets,
    contributions,
)
from veilleuse.collector.ports.stages import Indicator
from veilleuse.collector.quantiles import Z95
from veilleuse.wire.limits import IDLE_RUN_EDGES_MINUTES
from veilleuse.wire.units import MICROWATT_MILLISECONDS_PER_MILLIJOULE, MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, DeviceClass, Population

CAUSES: Final = ("closed_bands", "open_idle", "screens", "comatose_servers")
"""Names of the causes in details."""
OUTSIDE: Final = (Band.NIGHT, Band.CLOSED)


class Cause(NamedTuple):
    """A Cause holds the avoidable energy of one cause, for one machine and some bands.

    Integers ≥ 0: mJ and ms.
    """

    name: str
    bands: tuple[Band, ...]
    millijoules: int
    machine_milliseconds: int
    """On-idle time of the machine that the cause counts; 0 for screens, which have their own time."""
    screen_milliseconds: int = 0


class AvoidableEnergy(Indicator):
    """I4, avoidable energy.

    Formula: Σ over disjoint causes, for each machine by its own on-idle energy, from the best method
    (measured where available):
    closed_bands: in the bands night and closed, on-idle energy - P·on-idle time. P = off (laptops: sleep),
    calibrated for the model where available, else the class default;
    open_idle: in the band open, the on-idle energy of the time in idle runs beyond the plan's 30 minutes -
    P_sleep·that time;
    screens: external screens' energy × (that idle time, less the time after a known display timeout, ÷
    on-time) - 0.3 W of standby;
    comatose_servers: energy while on of servers that I6 calls comatose. No other server energy counts: the
    saving of a smaller server (I8) is not known in joules. Servers that I6 cannot judge, or excludes, are
    counted apart: their energy is in no sum, avoidable or not.
    Energy drawn in declared update windows, in any state, is subtracted from the cause of the band: the
    result is never too high.
    Energy of on-active time outside opening hours is listed (on_active_outside_kwh), not avoidable.
    Period: the whole months inside the period asked. Unit: kWh.
    Threshold: none; the plan's timeout is `indicators.sleep_minutes`. Direction: lower is better. Owner:
    system team. Interval: uncertainty of the energies themselves, k = 1.96.

    Worked example: a tower (off 0.8 W, sleep 2 W) draws 20 W on-idle: 100 h in the night and 40 h open, of
    which 10 h beyond 30 min; no screen, no window. closed_bands (20 - 0.8) W × 100 h = 1.92 kWh; open_idle
    (20 - 2) W × 10 h = 0.18 kWh; together 2.1 kWh.
    """

    meta = IndicatorMeta("I4", "avoidable energy", "kWh", "lower", "system team")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figure of physical machines; energy of a virtual machine is its server's."""
        machines = [one for one in group.machines if not one.is_virtual and one.bands]
        if not machines:
            return
        by_cause: dict[str, dict[int, int]] = {}
        known: list[IndicatorMachine] = []
        apart: list[IndicatorMachine] = []
        for machine in machines:
            causes = causes_of(machine, targets)
            for cause in causes:
                by_cause.setdefault(cause.name, {})[machine.host_id] = cause.millijoules
            (known if causes else apart).append(machine)
        if not known:
            return  # only servers, and none could be judged: not known
        whole = contributions((one, sum(by.get(one.host_id, 0) for by in by_cause.values())) for one in known)
        figure = _figure(known, whole, by_cause)
        yield replace(figure, n=len(machines), details={**figure.details, **_count_left_out(apart, targets)})

    def add(self, figures: Sequence[Figure], *, same_time: bool) -> Figure:
        """Add figures, with the share of the energy where all of it is known."""
        whole = super().add(figures, same_time=same_time)
        if not whole.denominator or whole.value is None:
            return whole
        return replace(whole, details={**whole.details, "avoidable_share": whole.value / whole.denominator})

    def parts(self, figure: Figure) -> GaugeParts:
        """Return the energy by cause."""
        return (kwh_by_cause(figure),)


def kwh_by_cause(figure: Figure) -> dict[str, float]:
    """Return cause → kWh; `mixed` is that of machines whose causes have too few of them to be shown alone."""
    parts = {
        cause: float(figure.details[f"{cause}_kwh"])
        for cause in (*CAUSES, MIXED)
        if f"{cause}_kwh" in figure.details
    }
    if parts or figure.value is None:
        return parts
    return {MIXED: figure.value}


def _count_left_out(servers: list[IndicatorMachine], targets: Targets) -> dict[str, Detail]:
    """Count the servers left out, by reason; empty without any."""
    if not servers:
        return {}
    excluded = sum(verdict(one, targets) is ServerVerdict.EXCLUDED for one in servers)
    return {"not_judged": len(servers) - excluded, "excluded": excluded}


def causes_of(machine: IndicatorMachine, targets: Targets) -> list[Cause]:
    """Return the causes of one machine, disjoint: different bands, or screens.

    Empty for a server that cannot be judged.
    """
    if machine.population is Population.SERVER:
        if not is_judged(machine, targets):
            return []
        use, is_comatose = machine.use(), verdict(machine, targets) is ServerVerdict.COMATOSE
        taken = use.on_active_millijoules + use.on_idle_millijoules if is_comatose else 0
        return [Cause("comatose_servers", tuple(Band), taken, use.on_milliseconds if taken else 0)]
    closed, screens_closed = _closed_bands(machine)
    idle, screens_open = _open_idle(machine, targets)
    screens = Cause(
        "screens",
        tuple(Band),
        screens_closed[0] + screens_open[0],
        0,
        screens_closed[1] + screens_open[1],
    )
    return [closed, idle, screens]


def lower_microwatts(machine: IndicatorMachine) -> int | None:
    """Return the power outside opening hours that was possible, µW: sleep for a laptop, else off.

    None for a virtual machine.
    """
    return machine.sleep_microwatts if machine.device_class is DeviceClass.LAPTOP else machine.off_microwatts


def not_avoidable_millijoules(machine: IndicatorMachine) -> int:
    """Return the on-idle energy outside opening hours that closed_bands leaves out, beside that of the lower
    state, in mJ.

    The result is the energy of update windows, or all on-idle energy where it is lower than the lower state's
    or the lower state is not known.
    """
    low, left = lower_microwatts(machine), 0
    for band in OUTSIDE:
        use = machine.use(band)
        lower = -(-(low or 0) * use.on_idle_milliseconds // MICROWATT_MILLISECONDS_PER_MILLIJOULE)
        left += abs(use.on_idle_millijoules - lower - _compute_saving(use, use.on_idle_milliseconds, low)[0])
    return left


def _closed_bands(machine: IndicatorMachine) -> tuple[Cause, tuple[int, int]]:
    """Return the cause, and (millijoules, display-milliseconds) of the screens in that time."""
    low = lower_microwatts(machine)
    energy = time = screen_energy = screen_time = 0
    for band in OUTSIDE:
        use = machine.use(band)
        saved, claimed = _compute_saving(use, use.on_idle_milliseconds, low)
        energy += saved
        time += claimed
        if claimed:
            lit = _lit_milliseconds(use, use.on_idle_milliseconds, 0, machine.power_plan.display_off_seconds)
            more = _screens(use, lit, saved, _energy_above_lower_state(use, use.on_idle_milliseconds, low))
            screen_energy += more[0]
            screen_time += more[1]
    return Cause("closed_bands", OUTSIDE, energy, time), (screen_energy, screen_time)


def _open_idle(machine: IndicatorMachine, targets: Targets) -> tuple[Cause, tuple[int, int]]:
    use = machine.use(Band.OPEN)
    beyond = use.beyond(targets.sleep_minutes)
    saved, claimed = _compute_saving(use, beyond, machine.sleep_microwatts)
    screens = (0, 0)
    if claimed:
        lit = _lit_milliseconds(use, beyond, targets.sleep_minutes, machine.power_plan.display_off_seconds)
        screens = _screens(use, lit, saved, _energy_above_lower_state(use, beyond, machine.sleep_microwatts))
    return Cause("open_idle", (Band.OPEN,), saved, claimed), screens


def _energy_above_lower_state(use: BandUse, time: int, low_microwatts: int | None) -> int:
    """Return on-idle energy of `time` above the lower state's, before update windows are subtracted, in mJ.

    `time` is a part of the band's on-idle time.
    """
    if low_microwatts is None or not time or not use.on_idle_milliseconds:
        return 0
    drawn = use.on_idle_millijoules * time // use.on_idle_milliseconds
    return max(0, drawn - -(-low_microwatts * time // MICROWATT_MILLISECONDS_PER_MILLIJOULE))


def _compute_saving(use: BandUse, time: int, low_microwatts: int | None) -> tuple[int, int]:
    """Return (millijoules, milliseconds counted)."""
    saved = max(0, _energy_above_lower_state(use, time, low_microwatts) - use.window_millijoules)
    return saved, time if saved else 0


def _lit_milliseconds(use: BandUse, time: int, beyond_minutes: int, display_off_seconds: int | None) -> int:
    """Return the idle time during which a screen can be on, in milliseconds.

    `time` is the idle time beyond `beyond_minutes` of its runs. The display timeout turns the screen off for
    the rest.
    """
    if not display_off_seconds:
        return time
    edges = [edge for edge in IDLE_RUN_EDGES_MINUTES if edge * 60 >= display_off_seconds]
    if not edges:
        return time
    return 0 if edges[0] <= beyond_minutes else max(0, time - use.beyond(edges[0]))


def _screens(use: BandUse, lit: int, saved: int, before: int) -> tuple[int, int]:
    """Return (millijoules, display-milliseconds), assuming that screens are on as often while idle as while
    active.

    Requires `saved` > 0: then `before` and the time on are > 0, too.
    """
    time = use.screens_milliseconds * lit * saved // (use.on_milliseconds * before)
    energy = use.screens_millijoules * lit * saved // (use.on_milliseconds * before)
    standby = -(-SCREEN_STANDBY_MICROWATTS * time // MICROWATT_MILLISECONDS_PER_MILLIJOULE)
    return max(0, energy - standby), time


def _figure(
    machines: list[IndicatorMachine], whole: Contributions, by_cause: dict[str, dict[int, int]]
) -> Figure:
    uses = [one.use() for one in machines]
    derived = sum(use.derived_millijoules for use in uses)
    total = derived + sum(use.screens_millijoules for use in uses)
    saved = sum(whole.values())
    u = sum(use.derived_uncertainty_millijoules for use in uses) / derived if derived else 0.0
    value = saved / MILLIJOULES_PER_KWH
    details: dict[str, Detail] = {
        f"{name}_kwh": sum(by.values()) / MILLIJOULES_PER_KWH for name, by in by_cause.items()
    }
    behind: dict[str, Contributions] = {f"{name}_kwh": by for name, by in by_cause.items()}
    active = contributions(
        (one, one.use(*OUTSIDE).on_active_millijoules) for one in machines if one.population in PCS
    )
    if active:
        details["on_active_outside_kwh"] = sum(active.values()) / MILLIJOULES_PER_KWH
        behind["on_active_outside_kwh"] = active
    if total:
        details["avoidable_share"] = saved / total
    return Figure(
        value if total else None,
        len(machines),
        value,
        total / MILLIJOULES_PER_KWH,
        "kWh",
        details,
        (value * math.exp(-Z95 * u), value * math.exp(Z95 * u)) if total else None,
        behind=(
            whole,
            contributions((one, one.use().derived_millijoules) for one in machines),
            contributions((one, one.use().on_millijoules) for one in machines),
        ),
        behind_details=behind,
    )
