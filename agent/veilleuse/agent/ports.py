# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Interfaces of the agent and their contracts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

from veilleuse.agent.model import Instant, LoadCounters, Point, Reading
from veilleuse.wire.vocabulary import Boundary


class ControlKey(StrEnum):
    """Keys of the spool's control table: all data that the two processes exchange."""

    EPOCH = "epoch"
    """16 hexadecimal digits; created with the spool."""
    OPEN_FOLD = "open_fold"
    """Resident: checkpoint of the records that still grow, JSON."""
    LAST_SIGN = "last_sign"
    """Resident: JSON {unix, boottime, monotonic: ms; boot: boot id; why: tick | shutdown | suspend}."""
    SOURCES = "sources"
    """Resident: JSON {sources: [{name, successes, failures, unavailable: word or null, reason, remedy}],
    cpu_milliseconds, rss_bytes}."""
    CALENDAR = "calendar"
    """Sender: canonical JSON of the collector's calendar; absent = the built-in default."""
    CALENDAR_SHA256 = "calendar_sha256"
    """Sender: SHA-256 of that calendar, hexadecimal."""
    CALENDAR_STATE = "calendar_state"
    """Sender: applied, confirmed (a batch was delivered since) or failed (the pulled one was unusable)."""
    CONFIGURATION = "configuration"
    """Sender: configuration that a contact confirmed, `RemoteConfig`; absent = the local file alone."""
    CONFIGURATION_CANDIDATE = "configuration_candidate"
    """Sender: configuration just pulled, `RemoteConfig`; the resident deletes it when it puts it on trial."""
    CONFIGURATION_TRIAL = "configuration_trial"
    """Resident: configuration in use that no contact has confirmed yet, `Trial`."""
    CONFIGURATION_FAILED = "configuration_failed"
    """Either: SHA-256 of the last one refused or given up, hexadecimal; cleared by another one."""
    COLLECTOR_VERSION = "collector_version"
    """Sender: version in the last Hello answer."""
    AGENT_ID = "agent_id"
    """Sender: identity under which the rows are numbered, hexadecimal; another one starts another stream."""
    POPULATION = "population"
    """Sender: population given at enrolment."""
    NEXT_SEND = "next_send"
    """Sender: Unix ms before which the resident starts no sender."""
    STANDING = "standing"
    """Sender: one line for `show` and `doctor`: ok, or the reason why nothing can be delivered."""
    FACTS_SHA256 = "facts_sha256"
    """Sender: SHA-256 of the facts of the last acknowledged Hello."""
    INSTANCE_ID = "instance_id"
    """Sender: nonce of the last Hello answer, hexadecimal."""
    FAILURES = "failures"
    """Sender: number of failed contacts in a row, for the back-off."""
    DROPS = "drops"
    """Sender: JSON {reason: records} covered by gaps since the epoch began."""
    EDGE = "edge"
    """Both:

    JSON [number, chain] of the last record that left the ring; the oldest kept record is checked with it.
    """
    FORMER = "former"
    """Sender: JSON {epoch: number} of former epochs: the last record delivered and no longer kept."""
    GAPS = "gaps"
    """Sender:

    JSON {epoch: {number: records}} of gaps over several records, in this epoch and in those of FORMER.
    """


class Clock(Protocol):
    """Clocks; settable in tests."""

    def now(self) -> Instant:
        """Read all three clocks together."""

    def boot_id(self) -> str:
        """Return an id that changes at each boot; it never leaves the machine."""

    def sleep(self, milliseconds: int) -> None:
        """Wait this long, or less when woken to stop."""


class ServiceManager(Protocol):
    """Notifications of the resident process to the service manager of the operating system."""

    def ready(self) -> None:
        """Report that measuring has begun."""

    def alive(self, status: str = "") -> None:
        """Report after every tick; `status` is one line for people."""

    def stopping(self) -> None:
        """Report that the process is ending."""

    def machine_is_going_down(self) -> bool:
        """Return True when the machine shuts down; False when unknown. Asked once, at the end."""


class Source(Protocol):
    """One way of measuring energy or supply.

    Life: construction with `SourceContext` (no I/O), `open` (again after PointsChanged), `read` at each tick,
    `close` at the end. A source raises only the errors named here. It reads and does not compute: the ticker
    takes differences.
    """

    name: str
    """`<os>_<what>`, e.g. `linux_rapl`."""
    # KINDS: ClassVar[tuple[PointKind, ...]] of the points that it may offer, where `doctor` shall say why
    # there are none.

    def open(self) -> tuple[Point, ...]:
        """Return the points that this source offers; none for one that only reads the supply.

        Raises SourceUnavailable(word, reason, remedy) when it has nothing to offer on this machine.
        """

    def read(self) -> tuple[Reading, ...]:
        """Return one reading per point that is readable now; an unreadable point is missing, never 0.

        Raises ReadFailed when nothing can be read. Raises PointsChanged when `open` would now return other
        points: the caller calls `open` again.
        """

    def close(self) -> None:
        """Release the resources of `open`; may be called twice."""


@runtime_checkable
class SeesMore(Protocol):
    """A `Source` that sees more counters than it offers, and gives the reasons."""

    def not_counted(self) -> tuple[tuple[str, str], ...]:
        """Return (name in the system, reason why it is not counted) of each such counter.

        Callable after `open`, also after one that raised; for `doctor` only.
        """


class LoadSource(Protocol):
    """Utilisation of the machine."""

    name: str

    def open(self) -> None:
        """Open the source. Raises SourceUnavailable."""

    def read(self) -> LoadCounters:
        """Read the counters. Raises ReadFailed."""


class MeterSpec(NamedTuple):
    """One meter of `meters.toml`: what a polled source is made with."""

    meter: str
    """Name of the meter, in the fact alphabet."""
    source: str
    """Name of the source that reads it, e.g. `nut_ups`."""
    address: str
    """host:port; empty for the BMC of this machine."""
    subject: str
    """`machine` when the meter sees this machine alone, else `meter:<name>`.

    The collector then knows the shares.
    """
    boundary: Boundary
    every_seconds: int
    """Seconds between two reads, 10 to 60.

    A counter is read at least every 20 s; a gauge holds for three intervals.
    """
    timeout_seconds: float
    """Longest duration of one read."""
    ceiling_watts: float
    """Power that it never exceeds; it distinguishes a wrap of its counter from a reset."""
    credentials_file: str
    """File of `name:secret`, or of the secret alone; empty = none is needed."""
    options: Mapping[str, str | int | bool]
    """Keys that only this source knows: ups, outlet, profile, tls_verify, …"""


class SourceContext(NamedTuple):
    """Environment of a source."""

    sysfs: str
    """Root of sysfs, `/sys` outside tests."""
    procfs: str
    """Root of procfs, `/proc` outside tests."""
    virtualisation: str
    """`none`, or the name of the hypervisor, with which a source explains why it has nothing."""
    fake_watts: float = 0.0
    """Power of the `fake` source."""
    meter: MeterSpec | None = None
    """Set for a source that reads one configured meter."""
    published: str = ""
    """File in which the polling process publishes (sources/snapshot.py)."""
    helper: str = ""
    """File in which the helper with the right to read RAPL publishes; absent where none runs."""
    salt: str = ""
    """File of the salt that never leaves this machine; absent before the first contact."""
    may_have_panel: bool = True
    """False for a form of machine that has no display of its own."""

    @property
    def devfs(self) -> str:
        """Root of the device files: beside sysfs, so that a captured tree has its own, or none."""
        return self.sysfs.rpartition("/")[0] + "/dev"


class ResidentSpool(Protocol):
    """Spool operations of the resident process. Each call is one IMMEDIATE transaction.

    Each raises SpoolBusy (keep the row, retry), SpoolFull (same) or SpoolDamaged.
    """

    def append(self, bodies: Sequence[str], control: dict[str, str | None]) -> None:
        """Append rows (JSON of Record or Gap) in order and set control keys, in one transaction.

        The value None deletes a key. In a full spool, a Gap{spool_cap} replaces the oldest unnumbered rows.
        """

    def control(self, key: str) -> str | None:
        """Return a control value, see ControlKey."""


class WireRecord(NamedTuple):
    """A record in its wire form."""

    seq: int
    wire: bytes
    chain: bytes
    """Chain at this record."""


class SenderSpool(Protocol):
    """Spool operations of the sending process."""

    def number_pending(self, limit: int) -> int:
        """Encode, number and chain unnumbered rows in one IMMEDIATE transaction; return the number of rows.

        The encoder is given at construction. Rows are numbered only while fewer than `limit` are
        unacknowledged. Most rows then stay unnumbered, and the spool can drop them at its bound without
        re-chaining.
        """

    def unacknowledged(self, after_seq: int, limit: int, max_bytes: int) -> tuple[WireRecord, ...]:
        """Return the records that follow `after_seq`: at most `limit` and `max_bytes`, but at least one."""

    def acknowledge(self, seq: int, now_unix_milliseconds: int) -> None:
        """Move the records up to `seq`, now durable on the collector, to the ring."""

    def chain_at(self, seq: int) -> bytes | None:
        """Return the agent's own chain at `seq`, or None when it is no longer kept."""

    def rewind(self, seq: int) -> bool:
        """Un-acknowledge the records after `seq`, where the collector stands; False when some are gone."""

    def replace_with_gap(self, seq: int, reason: str, *, damaged: bool = False) -> None:
        """Replace a record by a gap, quarantine the original, and re-chain the records after it.

        The gap is Gap{refused}. It is Gap{spool_damaged} with `damaged`: the bytes are not those that were
        numbered.
        """

    def new_epoch(self, lost_after: int | None = None, former: Mapping[bytes, int] | None = None) -> None:
        """Start a new epoch: all kept records are numbered from 1; the collector skips those it has.

        With `lost_after`, the collector has this epoch only up to there, before the oldest record kept: a
        Gap{ring_expired} comes first. `former` maps former epochs to the last number that the collector has.
        Records it lacks of them are added to that gap.
        """

    def former(self) -> dict[bytes, int]:
        """Return, per former epoch, the number of its last record delivered and no longer kept."""

    def epoch(self) -> bytes:
        """Return the present epoch, 8 random bytes."""

    def last_seq(self) -> int:
        """Return the highest number given in this epoch, 0 if none."""

    def acknowledged_seq(self) -> int:
        """Return the highest number acknowledged in this epoch, 0 if none."""

    def oldest_seq(self) -> int:
        """Return the lowest number still kept, ring included; `last_seq` + 1 if none."""

    def control(self, key: str) -> str | None:
        """Return a control value, or None."""

    def set_control(self, values: Mapping[str, str | None]) -> None:
        """Set control keys in one transaction; None deletes a key."""

    def exchange(self, expected: Mapping[str, str | None], values: Mapping[str, str | None]) -> bool:
        """Set control keys if the keys of `expected` have the expected values; return whether they had."""

    def count_quarantined(self) -> int:
        """Count the refused records whose originals are kept."""

    def count_waiting(self) -> tuple[int, int]:
        """Return (records not yet acknowledged, numbered or not; bytes of the spool file)."""


class Encoder(Protocol):
    """Encoding for the sender's half of the spool, implemented by `sending/encode.py`."""

    def encode(self, body: str) -> bytes:
        """Encode a spool row. Raises ValueError when it is not one."""

    def refused(self, wire: bytes) -> bytes:
        """Encode a Gap{refused} over the span of `wire`."""

    def lost(self, reason: str, records: int, spans: Sequence[bytes] = ()) -> bytes:
        """Encode a gap for `records` records over the times in `spans` (results of `spans`).

        Undated without any.
        """

    def spans(self, wire: bytes) -> bytes:
        """Return the time of a record for `lost`; empty when the record cannot be read."""

    def records(self, wire: bytes) -> int:
        """Return the number of records that it covers: one, or the count of a gap."""

    def is_nameless_gap(self, wire: bytes) -> bool:
        """Return True when a collector could not recognise this record if it came again in another epoch."""
