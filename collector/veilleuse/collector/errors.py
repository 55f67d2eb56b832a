# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the collector's errors.

CollectorError             everything below; `exit_code` is the exit code of the command
├── DataDirectoryError     missing, unwritable, full, locked by another process, of another kind
│   ├── StoreDamaged       a damaged database; the message names the repair
│   │   └── StoreLost      a file that was removed, cut or written by others while it was in use
│   └── StoreTooNew        a schema newer than this program
├── StoreFull              no space left: the receiver answers retry-after
├── StoreFailing           the disk answered with an error: the receiver answers retry-after
├── QueueFull              the writer is behind: the receiver answers retry-after
├── RecordRefused          a record that can never be stored; `reason` is one word of docs/wire.md
├── MalformedRequest       a malformed request; `reason` is one word of docs/wire.md
├── AddressUnavailable     a port in use, or an address that is not this machine's
├── EnrolmentRefused       token or request refused; `reason` is one word for the counters
├── NotAuthorised          this certificate may not do this; `reason` is one word for the counters
├── BackupUnusable         a backup that cannot be read, is damaged, or does not belong here
├── UnknownZone            no electricity factor for the zone and year
├── QueryTooSlow           an HTTP query over its time limit
├── AdminError             the running collector answered no
│   └── OvertakenImport    another import of the inventory came first; nothing was imported
└── UsageError             exit code 2
ConfigurationError         from veilleuse.wire.settings_file; exit code 2
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from veilleuse.wire.settings_file import ConfigurationError as ConfigurationError


class CollectorError(Exception):
    """A CollectorError says in one line what failed, where, and what to do."""

    exit_code: ClassVar[int] = 1


class DataDirectoryError(CollectorError):
    """The data directory cannot be used."""


class StoreDamaged(DataDirectoryError):
    """A database file is damaged."""


class StoreLost(StoreDamaged):
    """A database file is not the file that was opened: nothing is acknowledged any more."""

    def __init__(
        self, path: Path, what: str, remedy: str, *, rescue: bool = False, index_only: bool = False
    ) -> None:
        """`rescue`: only this process can still read the content; it writes a copy before it ends.

        `index_only`: only the index of the WAL was changed. SQLite rebuilds the index from the WAL when the
        database is opened next.
        """
        end = f"; {remedy}" if remedy else ""
        super().__init__(f"{path} {what} while it was in use: nothing was acknowledged since{end}")
        self.database = path.with_name(path.name.removesuffix("-wal").removesuffix("-shm"))
        self.rescue = rescue
        self.index_only = index_only


class StoreTooNew(DataDirectoryError):
    """The schema is newer than this program."""


class StoreFull(CollectorError):
    """The disk is full or its reserve is reached; nothing of the group was stored."""


class StoreFailing(CollectorError):
    """The disk or the database answered with a temporary error; nothing of the group was stored."""


class QueueFull(CollectorError):
    """Too many calls are running, or this caller has reached its share; nothing was queued."""

    def __init__(self, message: str, reason: str = "queue_full") -> None:
        """`reason`: one word, a label of the counters."""
        super().__init__(message)
        self.reason = reason


class OlderInstance(QueueFull):
    """The caller shows an older state of this identity: it was restored, or is a clone.

    It waits until that is known.
    """

    def __init__(self, message: str, retry_after_milliseconds: int) -> None:
        """`retry_after_milliseconds`: wait before the next call."""
        super().__init__(message, "older_instance")
        self.retry_after_milliseconds = retry_after_milliseconds


class RecordRefused(CollectorError):
    """The record can never be stored."""

    def __init__(self, reason: str) -> None:
        """`reason`: one word, a label of the counters; the list is in docs/wire.md."""
        super().__init__(f"record refused: {reason}")
        self.reason = reason


class CallError(CollectorError):
    """A call that can never succeed as it is."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason`: one word, a label of the counters."""
        super().__init__(message)
        self.reason = reason


class MalformedRequest(CallError):
    """The request can never be accepted as it is."""


class AddressUnavailable(CollectorError):
    """The process cannot listen on an address."""


class EnrolmentRefused(CallError):
    """The enrolment is not allowed."""


class NotAuthorised(CallError):
    """This certificate may not make the call."""


class BackupUnusable(CollectorError):
    """The backup cannot be restored as it is; nothing was changed."""


class UnknownZone(CollectorError):
    """There is no factor; the world mean is never applied."""


class QueryTooSlow(CollectorError):
    """An HTTP query took longer than its limit; it was interrupted."""


class AdminError(CollectorError):
    """The running collector refused an administration command."""


class OvertakenImport(AdminError):
    """Another import of the inventory was written between the plan and the writing of this one."""


class UsageError(CollectorError):
    """The command was used wrongly."""

    exit_code: ClassVar[int] = 2
