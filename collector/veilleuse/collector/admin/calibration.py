# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Puts calibrations into force and withdraws them.

Every change is in the log and in the access journal, and its machines are derived again. The command computes
the fit in its own process beside the collector, because it reads days of records.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Final

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.calibration import Hardware, KeptFit, StoredFit, from_facts

log = logging.getLogger(__name__)

BATTERY: Final = "battery"
"""Reference of a fit that ranks below a fit with a meter."""


def put(
    context: AdminContext, *, fit: dict[str, Any], who: str, why: str = "", replace: bool = False
) -> dict[str, Any]:
    """Put a fit into force for every machine of its model, past periods included.

    The same fit again changes nothing. A fit on battery replaces a metered one only with `replace`.
    """
    if not isinstance(fit, dict):
        raise UsageError("fit is not a JSON object")
    kept = from_facts(fit)

    def job() -> tuple[int, bool, bool]:
        before = context.store.calibrations.in_force(kept.hardware, kept.fit.quantity)
        if before is not None and before.kept == kept:
            return before.calibration_id, True, before.marking
        _may_replace(before, kept, replace=replace)
        now = context.issuing.now_unix_milliseconds()
        made = context.store.calibrations.put(kept, now)
        context.note(who, f"calibration {made} of {kept.hardware}: {kept.fit.quantity}", why)
        return made, False, True

    calibration_id, already, marking = context.issuing.commit(job)
    hosts, periods = _derive_again(context, calibration_id, kept.hardware, marking=marking)
    log.info(
        "calibration put into force",
        extra={"calibration_id": calibration_id, "already": already, "hosts": hosts, "periods": periods},
    )
    return {"calibration_id": calibration_id, "already": already, "hosts": hosts, "periods": periods}


def withdraw(context: AdminContext, *, calibration_id: int, who: str, why: str = "") -> dict[str, Any]:
    """End a calibration: its machines are derived again, with the prior of their class."""
    if type(calibration_id) is not int:
        raise UsageError("calibration_id is not a whole number")

    def job() -> Hardware:
        now = context.issuing.now_unix_milliseconds()
        kept = context.store.calibrations.withdraw(calibration_id, now).kept
        what = f"calibration {calibration_id} of {kept.hardware} withdrawn: {kept.fit.quantity}"
        context.note(who, what, why)
        return kept.hardware

    hardware = context.issuing.commit(job)
    hosts, periods = _derive_again(context, calibration_id, hardware, marking=True)
    log.info(
        "calibration withdrawn", extra={"calibration_id": calibration_id, "hosts": hosts, "periods": periods}
    )
    return {"calibration_id": calibration_id, "hosts": hosts, "periods": periods}


def _may_replace(before: StoredFit | None, kept: KeptFit, *, replace: bool) -> None:
    """Raise AdminError when a weaker reference would replace a better one."""
    if before is None or replace or kept.provenance.reference != BATTERY:
        return
    if before.kept.provenance.reference != BATTERY:
        raise AdminError(
            f"calibration {before.calibration_id} of {kept.hardware} uses a meter, this one battery hours: "
            "give --replace to use battery hours"
        )


def _derive_again(
    context: AdminContext, calibration_id: int, hardware: Hardware, *, marking: bool
) -> tuple[int, int]:
    """Mark all periods of the model's machines dirty; returns (machines of the model, periods marked).

    Each machine is one job of the writer, so that no agent waits for all of them. After a crash the
    calibration is still `marking`: the same command starts the marking again.
    """
    registry, calibrations, commit = (
        context.issuing.registry,
        context.store.calibrations,
        context.issuing.commit,
    )
    hosts = [host.host_id for host in commit(registry.hosts) if Hardware.of(host.facts) == hardware]
    periods = 0
    if marking:
        for host_id in hosts:
            periods += commit(partial(calibrations.mark_dirty, host_id))
        commit(partial(calibrations.end_marking, calibration_id))
        context.derive.wake()
    return len(hosts), periods
