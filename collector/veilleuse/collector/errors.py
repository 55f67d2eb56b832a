# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The collector's errors.

CollectorError             everything below; `exit_code` is what the command ends with
├── DataDirectoryError     missing, unwritable, full, locked by another process, of another kind
│   ├── StoreDamaged       a database that is not one any more; names the repair
│   │   └── StoreLost      a file that was taken away, cut or written by others while it was in use
│   └── StoreTooNew        a schema newer than this program
├── StoreFull              no room left: the receiver answers retry-after
├── StoreFailing           the disk answered with an error: the receiver answers retry-after
├── QueueFull              the writer is behind: likewise
├── RecordRefused          a record that can never be stored; `reason` is one word of docs/wire.md
├── MalformedRequest       a request that is not one; likewise
├── AddressUnavailable     a port in use, or an address that is not this machine's
├── EnrolmentRefused       token or request refused; `reason` is one word for the counters
├── NotAuthorised          this certificate may not do this; `reason` likewise
├── BackupUnusable         a backup that cannot be read, is damaged, or does not belong here
├── UnknownZone            no electricity factor for the zone and year
├── QueryTooSlow           a question over HTTP that takes longer than one may
├── AdminError             the running collector answered no
│   └── OvertakenImport    another import of the inventory came first; nothing was imported
└── UsageError             exit code 2
ConfigurationError         from veilleuse.wire.settings_file; exit code 2
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from veilleuse.wire.settings_file import ConfigurationError

__all__ = [
    "AddressUnavailable",
    "AdminError",
    "BackupUnusable",
    "CollectorError",
    "ConfigurationError",
    "DataDirectoryError",
    "EnrolmentRefused",
    "MalformedRequest",
    "NotAuthorised",
    "OvertakenImport",
    "QueryTooSlow",
    "QueueFull",
    "RecordRefused",
    "StoreDamaged",
    "StoreFailing",
    "StoreFull",
    "StoreLost",
    "StoreTooNew",
    "UnknownZone",
    "UsageError",
]


class CollectorError(Exception):
    """Says what, where and what to do, in one line."""

    exit_code: ClassVar[int] = 1


class DataDirectoryError(CollectorError):
    """The data directory cannot be used."""


class StoreDamaged(DataDirectoryError):
    """A database file is damaged."""


class StoreLost(StoreDamaged):
    """A file of a database is not what it was when it was opened: nothing is acknowledged any more."""

    def __init__(
        self, path: Path, what: str, remedy: str, *, rescue: bool = False, index_only: bool = False
    ) -> None:
        """`rescue`: only this process still sees the content; it is written to a new file before the process ends. `index_only`: the
        index of the WAL was written, which is made anew from the WAL by whoever opens the database next."""
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
    """The disk or the database answered with an error that may pass; nothing of the group was stored."""


class QueueFull(CollectorError):
    """More is under way than may be at once, or this caller has had its share; nothing was queued."""

    def __init__(self, message: str, reason: str = "queue_full") -> None:
        """`reason`: one word, a label of the counters."""
        super().__init__(message)
        self.reason = reason


class OlderInstance(QueueFull):
    """The caller shows an older state of this identity: it was set back, or is a copy. It waits until that is known."""

    def __init__(self, message: str, retry_after_milliseconds: int) -> None:
        """`retry_after_milliseconds`: when it may ask again."""
        super().__init__(message, "older_instance")
        self.retry_after_milliseconds = retry_after_milliseconds


class RecordRefused(CollectorError):
    """A record that can never be stored."""

    def __init__(self, reason: str) -> None:
        """`reason`: one word, a label of the counters; the list is in docs/wire.md."""
        super().__init__(f"record refused: {reason}")
        self.reason = reason


class MalformedRequest(CollectorError):
    """A request that could never be accepted as it is."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason`: one word, a label of the counters."""
        super().__init__(message)
        self.reason = reason


class AddressUnavailable(CollectorError):
    """An address cannot be listened on."""


class EnrolmentRefused(CollectorError):
    """An enrolment that may not be."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason`: one word, a label of the counters."""
        super().__init__(message)
        self.reason = reason


class NotAuthorised(CollectorError):
    """A call this certificate may not make."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason`: one word, a label of the counters."""
        super().__init__(message)
        self.reason = reason


class BackupUnusable(CollectorError):
    """A backup that cannot be restored as it is; nothing was touched."""


class UnknownZone(CollectorError):
    """There is no factor; the world mean is never applied."""


class QueryTooSlow(CollectorError):
    """A question over HTTP that takes longer than one may; it was ended."""


class AdminError(CollectorError):
    """The running collector refused an administration command."""


class OvertakenImport(AdminError):
    """Another import of the inventory came between this one's plan and its writing."""


class UsageError(CollectorError):
    """Wrong use of a command."""

    exit_code: ClassVar[int] = 2
