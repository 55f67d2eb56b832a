# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of the agent and their contracts in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

from veilleuse.agent.model import Instant, LoadCounters, Point, Reading
from veilleuse.wire.vocabulary import Boundary


class ControlKey(StrEnum):
    """Keys of the spool's control table: all that the two processes tell each other."""

    EPOCH = "epoch"
    """16 hexadecimal digits; made with the spool."""
    OPEN_FOLD = "open_fold"
    """Resident: the checkpoint of the records still growing, JSON."""
    LAST_SIGN = "last_sign"
    """Resident: JSON {unix, boottime, monotonic: ms; boot: boot id; why: tick | shutdown | suspend}."""
    SOURCES = "sources"
    """Resident: JSON {sources: [{name, successes, failures, unavailable: word or null, reason, remedy}],
    cpu_milliseconds, rss_bytes}."""
    CALENDAR = "calendar"
    """Sender: canonical JSON of the collector's calendar; absent = the built-in default."""
    CALENDAR_SHA256 = "calendar_sha256"
    """Sender: its SHA-256, hexadecimal."""
    CALENDAR_STATE = "calendar_state"
    """Sender: applied, confirmed (a batch was delivered since) or failed (the one pulled could not be used)."""
    CONFIGURATION = "configuration"
    """Sender: the collector's configuration that a contact has confirmed, trial.Remote; absent = the local file alone."""
    CONFIGURATION_CANDIDATE = "configuration_candidate"
    """Sender: one just pulled, trial.Remote; the resident takes it away when it puts it on trial."""
    CONFIGURATION_TRIAL = "configuration_trial"
    """Resident: the one in use that no contact has confirmed yet, trial.Trial."""
    CONFIGURATION_FAILED = "configuration_failed"
    """Either: SHA-256 of the last one that was refused or given up, hexadecimal; cleared by another one."""
    COLLECTOR_VERSION = "collector_version"
    """Sender: as the last Hello answer said."""
    AGENT_ID = "agent_id"
    """Sender: the identity the rows are numbered under, hexadecimal; another one begins another stream."""
    POPULATION = "population"
    """Sender: where the enrolment placed the machine."""
    NEXT_SEND = "next_send"
    """Sender: Unix ms before which the resident starts no sender."""
    STANDING = "standing"
    """Sender: one line for `show` and `doctor`: ok, or why nothing can be delivered."""
    FACTS_SHA256 = "facts_sha256"
    """Sender: SHA-256 of the facts of the last acknowledged Hello."""
    INSTANCE_ID = "instance_id"
    """Sender: nonce of the last Hello answer, hexadecimal."""
    FAILURES = "failures"
    """Sender: contacts failed in a row, for the back-off."""
    DROPS = "drops"
    """Sender: JSON {reason: records} that gaps stand for since the epoch began."""
    EDGE = "edge"
    """Both: JSON [number, chain] of the last record that left the ring: what the oldest one kept is checked with."""
    FORMER = "former"
    """Sender: JSON {epoch: number} of epochs left: the last record of each that was delivered and is not kept any more."""
    GAPS = "gaps"
    """Sender: JSON {epoch: {number: records}} of the gaps that stand for more than one record, in this epoch and those of FORMER."""


class Clock(Protocol):
    """The clocks; settable in tests."""

    def now(self) -> Instant:
        """All three clocks, read together."""

    def boot_id(self) -> str:
        """Changes with every boot; never leaves the machine."""

    def sleep(self, milliseconds: int) -> None:
        """Wait that long, or less when woken to stop."""


class ServiceManager(Protocol):
    """What the resident tells the operating system's service manager."""

    def ready(self) -> None:
        """Measuring has begun."""

    def alive(self, status: str = "") -> None:
        """Said after every tick; `status` is one line for people."""

    def stopping(self) -> None:
        """The end has begun."""

    def machine_is_going_down(self) -> bool:
        """Whether this stop is the machine's own; False when unknown. Asked once, at the end."""


class Source(Protocol):
    """One way of measuring energy or supply.

    Life: constructed with `SourceContext` (no I/O), `open` (again after PointsChanged), then `read` every tick, `close` at the end. A source never raises
    anything but the errors named here; it reads, it does not compute: differences are the ticker's.
    """

    name: str
    """`<os>_<what>`, e.g. `linux_rapl`."""
    # KINDS: ClassVar[tuple[PointKind, ...]] of the points that it may offer, where `doctor` shall say why there are none.

    def open(self) -> tuple[Point, ...]:
        """The points this source offers here; empty for one that only tells the supply.

        Raises SourceUnavailable(word, reason, remedy) when it has nothing to offer on this machine.
        """

    def read(self) -> tuple[Reading, ...]:
        """One reading per point that can be read now; a point that cannot be is missing, never 0.

        Raises ReadFailed when nothing can be read; PointsChanged when `open` would offer other points now: it is called again.
        """

    def close(self) -> None:
        """Give back what `open` took; may be called twice."""


@runtime_checkable
class SeesMore(Protocol):
    """A `Source` that sees more counters than it offers, and says why."""

    def not_counted(self) -> tuple[tuple[str, str], ...]:
        """(what the system calls it, why it is not counted) of each. After `open`, also one that raised; for `doctor` alone."""


class LoadSource(Protocol):
    """Utilisation of the machine."""

    name: str

    def open(self) -> None:
        """Raises SourceUnavailable."""

    def read(self) -> LoadCounters:
        """Raises ReadFailed."""


class MeterSpec(NamedTuple):
    """One meter of `meters.toml`: what a polled source is made with."""

    meter: str
    """Its name, in the fact alphabet."""
    source: str
    """Name of the source that reads it, e.g. `nut_ups`."""
    address: str
    """host:port; for the BMC of this very machine empty."""
    subject: str
    """`machine` when it sees this machine alone, else `meter:<name>`: the collector knows whose it is, and in what shares."""
    boundary: Boundary
    every_seconds: int
    """Between two reads, 10 to 60: a counter is read every 20 s at most, a gauge holds for three intervals."""
    timeout_seconds: float
    """Longest one read may take."""
    ceiling_watts: float
    """Power it never shows: tells a wrap of its counter from a reset."""
    credentials_file: str
    """File of `name:secret`, or of the secret alone; empty = none is needed."""
    options: Mapping[str, str | int | bool]
    """What only this source knows: ups, outlet, profile, tls_verify, …"""


class SourceContext(NamedTuple):
    """What a source may know of the outside."""

    sysfs: str
    """Root of sysfs, `/sys` outside tests."""
    procfs: str
    """Root of procfs, `/proc` outside tests."""
    virtualisation: str
    """`none`, or the hypervisor's name: lets a source say why it has nothing."""
    fake_watts: float = 0.0
    """Power of the `fake` source."""
    meter: MeterSpec | None = None
    """For a source that reads one configured meter."""
    published: str = ""
    """File that the polling process publishes in (sources/snapshot.py)."""
    helper: str = ""
    """File that the helper with the rights to read RAPL publishes in; absent where none runs."""
    salt: str = ""
    """File of the salt that never leaves this machine; not there before the first contact."""

    @property
    def devfs(self) -> str:
        """Root of the device files: beside sysfs, so that a captured tree has its own, or none."""
        return self.sysfs.rpartition("/")[0] + "/dev"


class ResidentSpool(Protocol):
    """What the measuring process may do with the spool. Every call is its own IMMEDIATE transaction.

    All raise SpoolBusy (keep the row, retry), SpoolFull (same) or SpoolDamaged.
    """

    def append(self, bodies: Sequence[str], control: dict[str, str | None]) -> None:
        """Append rows (JSON of Record or Gap) in order and set control keys (None deletes), in one transaction.

        When the spool is at its bound the oldest unnumbered rows go and a Gap{spool_cap} takes their place.
        """

    def control(self, key: str) -> str | None:
        """A control value, see `spool/database.py` for the keys."""

    def pending(self) -> int:
        """Rows not yet acknowledged."""


class WireRecord(NamedTuple):
    """A record as it stands on the wire."""

    seq: int
    wire: bytes
    chain: bytes
    """Chain at this record."""


class SenderSpool(Protocol):
    """What the sending process may do with the spool."""

    def number_pending(self, limit: int) -> int:
        """Encode, number and chain up to `limit` unnumbered rows in one IMMEDIATE transaction; how many were.

        The encoder is given at construction. Rows are numbered only while fewer than `limit` are unacknowledged, so that the
        bound of the spool can drop unnumbered rows without re-chaining.
        """

    def unacknowledged(self, after_seq: int, limit: int, max_bytes: int) -> tuple[WireRecord, ...]:
        """A contiguous run after `after_seq`, at most `limit` records and `max_bytes` (at least one record)."""

    def acknowledge(self, seq: int, now_unix_milliseconds: int) -> None:
        """Everything up to `seq` is durable on the collector: it moves to the ring."""

    def chain_at(self, seq: int) -> bytes | None:
        """The agent's own chain at `seq`, None when not kept any more."""

    def rewind(self, seq: int) -> bool:
        """The collector went back to `seq`: un-acknowledge what the ring still has after it; False when it lacks some."""

    def replace_with_gap(self, seq: int, reason: str, *, damaged: bool = False) -> None:
        """Put Gap{refused} at its own number, the original in quarantine, and re-chain what follows.

        `damaged`: Gap{spool_damaged}, because its bytes are not what was numbered.
        """

    def new_epoch(self, lost_after: int | None = None, former: Mapping[bytes, int] | None = None) -> None:
        """Start a new epoch: everything that is kept, ring included, is numbered again from 1; the collector knows what it has.

        With `lost_after` the collector stands there, before the oldest that is kept: a Gap{ring_expired} comes first.
        `former`: where it stands in epochs left before; what it lacks of them is in that gap too.
        """

    def former(self) -> dict[bytes, int]:
        """Epochs left → number of the last record in it that was delivered and is not kept any more."""

    def epoch(self) -> bytes:
        """8 random bytes, made when the spool was created."""

    def last_seq(self) -> int:
        """Highest number given in this epoch, 0 when none."""

    def acknowledged_seq(self) -> int:
        """Highest number acknowledged in this epoch, 0 when none."""

    def oldest_seq(self) -> int:
        """Lowest number still kept, ring included; `last_seq` + 1 when none is."""

    def control(self, key: str) -> str | None:
        """A control value."""

    def set_control(self, values: Mapping[str, str | None]) -> None:
        """Set control keys (None deletes) in one transaction."""

    def exchange(self, expected: Mapping[str, str | None], values: Mapping[str, str | None]) -> bool:
        """Set control keys if those of `expected` stand as told, in one transaction; whether they did."""

    def quarantined(self) -> int:
        """Originals of refused records that are kept."""

    def waiting(self) -> tuple[int, int]:
        """(records not yet acknowledged, numbered or not; bytes of the spool's file)."""


class Encoder(Protocol):
    """What the sender's half of the spool asks of `sending/encode.py`."""

    def encode(self, body: str) -> bytes:
        """The wire bytes of a spool row. Raises ValueError when it is not one."""

    def refused(self, wire: bytes) -> bytes:
        """Gap{refused} over the span of `wire`."""

    def lost(self, reason: str, records: int, spans: Sequence[bytes] = ()) -> bytes:
        """A gap for so many records, over what `spans` (of `spans`) say; without any its time is not known."""

    def spans(self, wire: bytes) -> bytes:
        """What `lost` asks to know when a record was; empty when the record cannot be read."""

    def records(self, wire: bytes) -> int:
        """How many records it stands for: one, unless it is a gap that says more."""

    def is_nameless_gap(self, wire: bytes) -> bool:
        """Whether a collector could not tell that it has this record already, were it to come in another epoch."""
