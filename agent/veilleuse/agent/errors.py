# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Errors of the agent.

AgentError                 all below; `exit_code` is the exit code of the command
├── SourceUnavailable      not on this machine: reason and remedy; the source is dropped, logged once
├── ReadFailed             this tick only: counted, a gap, retried on the next
├── PointsChanged          the source offers other points now: opened again at once, and read
├── SpoolError             the spool cannot be written or read
│   ├── SpoolBusy          the other process holds the spool: keep the row, retry on the next tick
│   ├── SpoolFull          no room left on the device, or the disk reserve is reached
│   └── SpoolDamaged       no longer a database: set aside, new epoch
├── AlreadyRunning         another process of this kind holds the lock
├── NotEnrolled            no identity yet: `veilleuse-agent enrol`
├── IdentityError          wrong fingerprint, refused or expired token: exit code 1
│   ├── CertificateNotValid  expired for the collector: renewed with the old key
│   ├── IdentityConflict   another machine was served under this identity
│   ├── CopyFound          this machine is a clone: it starts again under its own identity
│   └── NotAdmitted        an enrolment was refused; asked again after 15 min at the earliest
├── RequestRefused         the collector can never accept this request
└── CollectorAway          the collector was not reachable, or asked to wait; retried
    └── AddressAway        this address was not reached: the next one is tried
        └── ConnectionClosed  closed after the handshake, as after a client certificate that TLS refused
ConfigurationError         from veilleuse.wire.settings_file; exit code 2
"""

from __future__ import annotations

from typing import ClassVar

from veilleuse.wire.settings_file import ConfigurationError as ConfigurationError


class AgentError(Exception):
    """Reports the fault, its place and the remedy in one line."""

    exit_code: ClassVar[int] = 1


class SourceUnavailable(AgentError):
    """This machine does not offer the source."""

    def __init__(self, word: str, reason: str, remedy: str = "") -> None:
        """`word`: no_device, no_permission, virtual_machine, missing_library.

        Sent as SourceHealth.unavailable.
        """
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.word = word
        self.reason = reason
        self.remedy = remedy


class ReadFailed(AgentError):
    """The source gave no reading this time."""


class PointsChanged(AgentError):
    """The points that `open` returned are no longer valid."""


class SpoolError(AgentError):
    """The spool cannot be used."""


class SpoolBusy(SpoolError):
    """The other process holds the spool."""


class SpoolFull(SpoolError):
    """There is no room for another row."""


class SpoolDamaged(SpoolError):
    """The file of the spool is not a readable database."""


class AlreadyRunning(AgentError):
    """A second process of the same kind."""


class NotEnrolled(AgentError):
    """There is no identity in the state directory."""


class IdentityError(AgentError):
    """The identity, or an enrolment, was refused."""

    def __init__(self, message: str, reason: str = "") -> None:
        """`reason`: the collector's word, docs/wire.md.

        Empty when the collector is not the one who refused.
        """
        super().__init__(message)
        self.reason = reason


class CertificateNotValid(IdentityError):
    """The collector says UNAUTHENTICATED, or TLS says expired, whatever the clock of this machine says."""


class IdentityConflict(IdentityError):
    """The collector serves or served another machine under this identity.

    A clone, or this one set back in time.
    """


class CopyFound(IdentityError):
    """This state directory was made on another machine, or is in use on another one too."""


class NotAdmitted(IdentityError):
    """The collector gives no identity to this token, or to this clone."""


class RequestRefused(AgentError):
    """INVALID_ARGUMENT: sending the same bytes again is useless."""


class CollectorAway(AgentError):
    """Try later; `retry_after_milliseconds` is the wait that the collector asked for, 0 without an answer."""

    def __init__(self, message: str, retry_after_milliseconds: int = 0) -> None:
        super().__init__(message)
        self.retry_after_milliseconds = retry_after_milliseconds


class AddressAway(CollectorAway):
    """There is no connection to a collector at this address. A refusal, or a wait, would be an answer."""


class ConnectionClosed(AddressAway):
    """A refused certificate as a TLS 1.3 client sees it; a collector that stops looks the same."""
