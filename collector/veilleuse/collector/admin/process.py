# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Operations on the running collector itself: ping, health, derivation, storage of months, backup copies."""

from __future__ import annotations

import logging
import os
import time
from typing import Any, Final

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.backup.notes import BACKUP_NOTE
from veilleuse.collector.enrolment.issuing import unix_milliseconds
from veilleuse.collector.errors import AdminError, CollectorError
from veilleuse.collector.months.worker import ended_by

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 60.0


def ping(context: AdminContext) -> dict[str, Any]:
    """Tell which process answers."""
    process = context.process
    return {
        "pid": os.getpid(),
        "version": process.version,
        "started_unix_milliseconds": process.started_unix_milliseconds,
        "listening_unix_milliseconds": process.listening_since(),
        "address": process.addresses.telemetry,
        "enrolment_address": process.addresses.enrolment,
    }


def read_health(context: AdminContext) -> dict[str, Any]:
    """Return Health.snapshot(), `ping`, `certificates`, `own_cpu_milliseconds` and `register`.

    `certificates`: name (root, intermediate, server) → end in Unix milliseconds. `own_cpu_milliseconds`: CPU
    time of the collector's processes since its start. `register`: `path`, and `trouble`, the reason why it
    cannot be written; only this process knows, because systemd decides what it may write.
    """
    authority, register = context.issuing.authority, context.issuing.register
    ends = {
        "root": authority.root.not_valid_after_utc,
        "intermediate": authority.intermediate.not_valid_after_utc,
        "server": authority.server_identity().not_after,
    }
    expiry = {name: unix_milliseconds(end) for name, end in ends.items()}
    return {
        **ping(context),
        **context.process.health.snapshot(),
        "certificates": expiry,
        "own_cpu_milliseconds": context.process.own.cpu_milliseconds(),
        "register": {"path": str(register.path), "trouble": register.find_trouble()},
    }


def derive_all(context: AdminContext) -> dict[str, Any]:
    """Derive all periods again, in the background, so that a corrected model also corrects the past."""
    periods = context.issuing.commit(context.store.derive.mark_all_dirty)
    context.derive.wake()
    return {"periods": periods}


def keep_months(context: AdminContext) -> dict[str, Any]:
    """Store the complete months, in the background. `before`: day by which these months ended."""
    context.rolls.wake()
    return {"before": ended_by(context.issuing.now().date()).isoformat()}


def flush(context: AdminContext, *, wait_seconds: float = FLUSH_SECONDS) -> dict[str, Any]:
    """Derive until no period waits. Raises AdminError after `wait_seconds`."""
    end = time.monotonic() + wait_seconds
    periods = 0
    while done := context.issuing.commit(context.derive.run_slice):
        periods += done
        if time.monotonic() > end:
            raise AdminError(
                f"periods still wait to be derived after {wait_seconds:g} s: see 'veilleuse doctor'"
            )
    return {"periods": periods}


def copy_backup(context: AdminContext) -> dict[str, Any]:
    """Make the copies of a backup. `folder`: their folder; `version`: version of this collector.

    The command packs them, because the service may write nowhere else (ProtectSystem=strict). Then it calls
    `finish_backup`.
    """
    folder = context.backups.copy()
    return {"folder": str(folder), "version": context.process.version}


def finish_backup(context: AdminContext, *, made_unix_milliseconds: int | None) -> dict[str, Any]:
    """Remove the copies, and note the time of the backup; None: no backup was made."""
    if made_unix_milliseconds is not None:
        try:
            note = str(int(made_unix_milliseconds))
            context.issuing.commit(lambda: context.issuing.registry.put_meta(BACKUP_NOTE, note))
        except CollectorError:
            context.backups.discard()
            raise
        log.info("backup made")
    context.backups.discard()
    return {"noted": made_unix_milliseconds is not None}
