# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The agent's errors.

AgentError                 everything below; `exit_code` is what the command ends with
├── SourceUnavailable      not on this machine: reason and remedy; the source is dropped, logged once
├── ReadFailed             this tick only: counted, a gap, retried on the next
├── PointsChanged          the source offers other points now: opened again at once, and read
├── SpoolError             the spool cannot be written or read
│   ├── SpoolBusy          the other process holds it: keep the row, retry on the next tick
│   ├── SpoolFull          no room left on the device, or the disk reserve is reached
│   └── SpoolDamaged       not a database any more: set aside, new epoch
├── AlreadyRunning         another copy of this process holds the lock
├── NotEnrolled            no identity yet: `veilleuse-agent enrol`
├── IdentityError          wrong fingerprint, refused or expired token: exit code 1
│   ├── CertificateNotValid  it has expired in the collector's eyes: renewed with the old key
│   ├── IdentityConflict   another machine was served under this identity
│   ├── CopyFound          this machine is a copy: it begins again under an identity of its own
│   └── NotAdmitted        an enrolment was refused; asked again after 15 min at the earliest
├── RequestRefused         the collector can never accept this very request
└── CollectorAway          could not reach the collector or it asked to wait; retried
    └── ConnectionClosed   closed right after the handshake, as after a client certificate that TLS refused
ConfigurationError         from veilleuse.wire.settings_file; exit code 2
"""

from __future__ import annotations

from typing import ClassVar

from veilleuse.wire.settings_file import ConfigurationError

__all__ = [
    "AgentError",
    "AlreadyRunning",
    "CertificateNotValid",
    "CollectorAway",
    "ConfigurationError",
    "ConnectionClosed",
    "CopyFound",
    "IdentityConflict",
    "IdentityError",
    "NotAdmitted",
    "NotEnrolled",
    "PointsChanged",
    "ReadFailed",
    "RequestRefused",
    "SourceUnavailable",
    "SpoolBusy",
    "SpoolDamaged",
    "SpoolError",
    "SpoolFull",
]


class AgentError(Exception):
    """Says what, where and what to do, in one line."""

    exit_code: ClassVar[int] = 1


class SourceUnavailable(AgentError):
    """This machine does not offer the source."""

    def __init__(self, word: str, reason: str, remedy: str = "") -> None:
        """`word`: no_device, no_permission, virtual_machine, missing_library; sent as SourceHealth.unavailable."""
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.word = word
        self.reason = reason
        self.remedy = remedy


class ReadFailed(AgentError):
    """The source gave nothing this time."""


class PointsChanged(AgentError):
    """What the source said at `open` does not hold any more."""


class SpoolError(AgentError):
    """The spool cannot be used."""


class SpoolBusy(SpoolError):
    """The other process holds the spool."""


class SpoolFull(SpoolError):
    """There is no room for another row."""


class SpoolDamaged(SpoolError):
    """The spool's file is not readable as one."""


class AlreadyRunning(AgentError):
    """A second copy of the same process."""


class NotEnrolled(AgentError):
    """There is no identity in the state directory."""


class IdentityError(AgentError):
    """The identity, or the way to one, was refused."""

    def __init__(self, message: str, reason: str = "") -> None:
        """`reason`: the collector's word for it, docs/wire.md; empty when it is not the collector who refuses."""
        super().__init__(message)
        self.reason = reason


class CertificateNotValid(IdentityError):
    """The collector says UNAUTHENTICATED, or TLS says expired, whatever our own clock says."""


class IdentityConflict(IdentityError):
    """The collector serves, or has served, another holder of this identity: a copy, or this one set back in time."""


class CopyFound(IdentityError):
    """This state directory was made on another machine, or lives on another one too."""


class NotAdmitted(IdentityError):
    """The collector will not give an identity to this token, or to this copy."""


class RequestRefused(AgentError):
    """INVALID_ARGUMENT: sending the same bytes again is of no use."""


class CollectorAway(AgentError):
    """Not now; `retry_after_milliseconds` is what the collector asked for, 0 when it could not answer."""

    def __init__(self, message: str, retry_after_milliseconds: int = 0) -> None:
        super().__init__(message)
        self.retry_after_milliseconds = retry_after_milliseconds


class ConnectionClosed(CollectorAway):
    """All that a TLS 1.3 client sees of a refused certificate; a collector that stops looks the same."""
