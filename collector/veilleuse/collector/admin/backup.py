# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Makes and removes the copies of a backup, in the running collector.

The command packs the copies, because the service may write nowhere else (ProtectSystem=strict). Then it calls
`done`.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.errors import CollectorError

log = logging.getLogger(__name__)

BACKUP_NOTE: Final = "last_backup_unix_milliseconds"
"""Key in the table meta: time when the last backup was complete, sealed or not."""


def copy(context: AdminContext) -> dict[str, Any]:
    """Make the copies. `folder`: their folder; `version`: version of this collector."""
    folder = context.backups.copy()
    return {"folder": str(folder), "version": context.process.version}


def finish(context: AdminContext, *, made_unix_milliseconds: int | None) -> dict[str, Any]:
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
