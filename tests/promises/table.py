# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the promises: reliability (R), security (S), privacy (P). A promise without a test here says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Promise:
    """One row of docs/promises.md."""

    name: str
    """R1, S24, P15 …"""
    text: str
    figure: str
    """The promised limit, as a number."""
    simulated: str = ""
    """Simulated parts of its tests; empty when all parts are real."""
    not_run: str = ""
    """Reason why no test of it runs here; empty when one runs."""


PROMISES: Final = (
    Promise(
        "R1",
        "The collector is killed at random moments while agents send",
        "0 lost, 0 duplicated; first acknowledgement < 5 s after each restart; mutant builds are caught",
    ),
    Promise(
        "R2",
        "Power cuts under the collector",
        "50 cuts: 0 acknowledged lost, quick_check ok; NORMAL must fail",
    ),
    Promise(
        "R3",
        "The agent is killed at random moments",
        "at most one checkpoint and one tick lost a kill, as unknown; 0 duplicated, no number used twice",
        simulated="the power source",
    ),
    Promise("R4", "Replies lost after the commit, 20 %", "0 duplicated, 0 lost"),
    Promise(
        "R5",
        "I/O errors under the collector: EIO 1 %, ENOSPC 1 %",
        "0 acknowledged lost, no crash, visible in /metrics",
    ),
    Promise(
        "R6",
        "The collector's disk fills up",
        "refuses below its reserve, reads and revocation work, resumes < 10 s, 0 acknowledged lost",
    ),
    Promise(
        "R7",
        "The agent's spool is bounded",
        "≤ its bound (64 MiB by default), never the disk's reserve; a gap for what went; sampling goes on",
        simulated="the power source",
    ),
    Promise(
        "R8",
        "Offline for 30 days at one record a minute (43,200)",
        "all kept, drained < 5 min; live p99 < 2 intervals while 10,000 agents drain",
        simulated="thirty days of clock; the agents that drain are a load generator",
    ),
    Promise(
        "R9",
        "Clocks set by ±1 h, ±1 day, to 1970, by +10 years",
        "energy error < 0.1 %, no negative interval, nothing refused for ever, no busy loop",
        simulated="the clock and the counters, but for one run of the real service under libfaketime",
    ),
    Promise(
        "R10",
        "Suspended for 10 h",
        "0 J credited, the time is asleep, first record < 150 s after resume",
        simulated="the clocks and the power source",
    ),
    Promise(
        "R11",
        "Energy counters wrap, reset, stick, vanish",
        "error < 0.1 % on a wrap, 0 negative, missing is unknown and never 0 W",
        simulated="the tree of counters",
    ),
    Promise(
        "R12",
        "The collector is restored from a backup 72 h old",
        "0 lost, 0 duplicated, 0 suspended of 100",
        simulated="72 hours of clock (libfaketime); in the runs of steps, the collector",
    ),
    Promise(
        "R13",
        "An agent's spool goes back to a snapshot",
        "0 silently dropped",
        simulated="in the runs of steps, the collector",
    ),
    Promise(
        "R14",
        "1,000 damages of spool, state and databases",
        "the agent starts < 5 s each time; the collector stops with one clear line",
    ),
    Promise(
        "R15",
        "Agent N-1 and N with collector N-1 and N, changed while they run",
        "0 lost, 0 duplicated; migration of 1 GB < 60 s, an interrupted one resumes",
    ),
    Promise(
        "R16",
        "10,000 agents come back after 10 min",
        "peak ≤ 3 × mean of the first 120 s; no second peak > 2 × mean in 3 intervals",
        simulated="10,000 machines and their network; 1,000 channels are real",
    ),
    Promise(
        "R17",
        "Five times the load that the collector can carry",
        "goodput ≥ 90 % of capacity, p99 of admitted calls < 5 s, RSS < 512 MiB",
    ),
    Promise(
        "R18",
        "For each machine and day: produced = stored + declared gaps",
        "0 ms unexplained",
        simulated="in part: the machines and their clock; in the runs of steps, the collector",
    ),
    Promise("R19", "Soak: 500 agents", "RSS slope < 1 MiB/h, descriptors within 10, WAL < 64 MiB"),
    Promise(
        "R20",
        "Bad networks: 30 % loss, 256 kbit/s, 10 s freezes, MTU 576, no DNS",
        "0 lost, 0 duplicated, agent CPU < 1 %",
    ),
    Promise("R21", "Two copies of the service on one machine", "the second ends with a clear message"),
    Promise(
        "S1",
        "A stolen key writes for its own machine only",
        "100 % PERMISSION_DENIED for everything else, counted",
    ),
    Promise("S2", "A revoked agent on a live connection", "refused at its next call, 100 of 100; < 10 s"),
    Promise("S3", "An expired certificate on a live connection", "refused"),
    Promise(
        "S4",
        "Enrolment tokens",
        "used once: 1 winner of 100 at once; expired, foreign, revoked refused; 10 guesses/min read, a good token is let in after them",
    ),
    Promise("S5", "The answer to an enrolment is lost", "the same identity again within 10 min"),
    Promise(
        "S6",
        "50 clones of one enrolled image",
        "50 distinct ids < 2 min, 0 samples mixed, seen by the operator",
    ),
    Promise("S7", "Mutated messages (10^5 over the wire; 10^6)", "0 accepted wrongly, 0 crashes, RSS flat"),
    Promise(
        "S8", "Bombs: decompression, metadata, empty sub-messages", "100 hostile calls at once add < 64 MiB"
    ),
    Promise(
        "S9", "Slow-loris: 2,000 silent sockets", "closed ≤ 6.5 s, legitimate p99 < 1 s, descriptors back"
    ),
    Promise(
        "S10", "RST, PING and SETTINGS floods", "legitimate p99 < 3 × calm, which counts as 10 ms at least"
    ),
    Promise(
        "S11",
        "A hostile agent invents 10^5 names",
        "0 exported series more; the total within its computed bound",
    ),
    Promise(
        "S12",
        "Poisoned values",
        "what no machine can draw: 0 J reach a total, each refused with its reason; what one could, sent again and again: ≤ 4 × its ceiling a day",
    ),
    Promise(
        "S13",
        "Readers see what their role allows",
        "every route × role",
    ),
    Promise("S14", "No exported cell is a formula", "0 formula cells"),
    Promise("S15", "No hostile name opens a file elsewhere", "0 of 500"),
    Promise("S16", "No hostile name becomes markup", "0"),
    Promise("S17", "TLS 1.3 alone; no plain port off loopback", "sslscan: TLS 1.3 only"),
    Promise(
        "S18",
        "A remote configuration stays within the machine's own",
        "0 escapes; a bad one goes back ≤ 10 min",
        simulated="the collector and the clock",
    ),
    Promise("S19", "No secret where it does not belong", "0 canaries found"),
    Promise(
        "S20", "Files are their owner's alone", "keys 0600, directories 0700, nothing readable by others"
    ),
    Promise(
        "S21",
        "Exposure of the units",
        "≤ 1.1; the RAPL helper ≤ 0.7",
    ),
    Promise(
        "S22",
        "Nobody else reads energy_uj",
        "0 readable by others",
    ),
    Promise("S23", "Supply chain", "SBOM, equal wheels, 0 known holes", not_run="comes with the packages"),
    Promise(
        "S24",
        "The authority is rotated under 500 agents",
        "0 lost, 50 offline for the whole overlap among them",
        simulated="time and the network",
    ),
    Promise(
        "P1",
        "Only declared fields leave the machine",
        "0 fields of the contract without a line in privacy.md",
    ),
    Promise(
        "P2",
        "No personal string in wire, spool, databases, logs, exports, /metrics and API",
        "0 canaries; what may be told is found in each",
    ),
    Promise("P3", "The grain is never raised from afar", "0 escapes from the machine's ceiling"),
    Promise("P4", "k machines in each group that is told, none above 85 %", "0 groups of fewer than 10"),
    Promise("P5", "No difference of two answers is of fewer than k machines", "0, all pairs"),
    Promise("P6", "Moves and departures reveal no machine", "0 months that change after they are told"),
    Promise("P7", "What is too old goes, from free pages too", "0 canaries left"),
    Promise("P8", "Names are apart, and looking is noted", "0 names in data.db; 1 line an access"),
    Promise(
        "P9",
        "Rights of a person: export and forget, in a store of 1,000 machines with two months each",
        "all of it written; 0 canaries after forgetting; < 60 s each",
    ),
    Promise(
        "P10",
        "A pause on the machine is a declared gap",
        "0 alarms on a machine",
        not_run="`veilleuse-agent object` is not built; what is held back is a declared gap, which R18 counts",
    ),
    Promise(
        "P11",
        "Power is no side channel: rights of RAPL; nothing served is finer than 10 s. A machine's own file may tick at 1 s: sums alone leave it",
        "the group of the agent alone reads it; 0 periods, and 0 ticks asked from afar, under 10 s; the helper every 10 s",
    ),
    Promise(
        "P12",
        "Notices, DPIA model and register entry, from one dictionary",
        "dictionary = documents",
        not_run="the documents are not written; P1 holds the dictionary",
    ),
    Promise("P13", "No series of one workstation or classroom PC", "0 labels of a machine"),
    Promise(
        "P14",
        "Hours cannot be read from a workstation's data",
        "equal sums: identical stores; 0 moments found",
    ),
    Promise(
        "P15",
        "What one role reads together over months: API, /metrics, page; a closed year beside them is measured, not promised",
        "no combination is of fewer than 10 machines",
    ),
)
BY_NAME: Final = {promise.name: promise for promise in PROMISES}
