# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the promises: reliability (R), security (S), privacy (P), and that packages work (`install`).

A promise without a test here says why.
"""

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
    tests_of: tuple[str, ...] = ("agent", "collector", "proto")
    """What its tests run, as paths of the repository: a commit that changes none of them ages no result."""


PROMISES: Final = (
    Promise(
        "R1",
        "The collector is killed at random moments while agents send",
        "0 acknowledged records lost, 0 duplicated; first acknowledgement < 5 s after each restart; mutants are detected",
    ),
    Promise(
        "R2",
        "Power cuts under the collector",
        "50 cuts: 0 acknowledged records lost, SQLite's quick_check is ok; the mutant with synchronous=NORMAL must lose records",
    ),
    Promise(
        "R3",
        "The agent is killed at random moments",
        "at most one checkpoint and one tick lost per kill, reported as `unknown`; 0 records duplicated, no record number used twice",
        simulated="the source of energy readings",
    ),
    Promise(
        "R4",
        "Answers are lost after the commit, 20 %",
        "0 records duplicated, 0 lost",
    ),
    Promise(
        "R5",
        "Errors of the disk under the collector: 2 % of synchronisations (EIO), 1 % of writes (ENOSPC)",
        "0 acknowledged records lost, no crash, errors counted in /metrics",
    ),
    Promise(
        "R6",
        "The collector's disk becomes full",
        "records refused below the reserve, reading and revoking work, storing resumes in < 10 s, 0 acknowledged records lost",
    ),
    Promise(
        "R7",
        "The agent's spool reaches its bound",
        "size ≤ the bound (64 MiB by default), the disk's reserve never used; a gap declares what was dropped; measuring continues",
        simulated="the source of energy readings",
    ),
    Promise(
        "R8",
        "An agent is offline for 30 days, at one record a minute (43,200)",
        "all records kept, delivered in < 5 min; p99 of live records < 2 intervals while 10,000 agents deliver old ones",
        simulated="the clock of the 30 days; the 10,000 agents are a load generator",
    ),
    Promise(
        "R9",
        "Clocks are set by ±1 h, ±1 day, to 1970, by +10 years",
        "energy error < 0.1 %, no negative interval, nothing refused for ever, no busy loop",
        simulated="the clock and the counters, except in one run of the real service under libfaketime",
    ),
    Promise(
        "R10",
        "The machine is suspended for 10 h",
        "0 J counted, the time is `asleep`, first record < 150 s after the resume",
        simulated="the clocks and the source of energy readings",
        tests_of=("agent", "proto"),
    ),
    Promise(
        "R11",
        "Energy counters wrap, reset, stick or vanish",
        "error < 0.1 % after a wrap, 0 negative values, a missing value is unknown and never 0 W",
        simulated="the files of the counters",
        tests_of=("agent", "proto"),
    ),
    Promise(
        "R12",
        "The collector is restored from a backup 72 h old",
        "0 records lost, 0 duplicated, 0 of 100 or more agents suspended",
        simulated="72 hours of clock (libfaketime); in the random sequences, the collector",
    ),
    Promise(
        "R13",
        "An agent's spool is restored to a snapshot",
        "0 records dropped without a declared gap",
        simulated="in the random sequences, the collector",
    ),
    Promise(
        "R14",
        "Spool, state and databases are damaged, 1,000 times",
        "the agent starts in < 5 s each time; the collector serves, or stops with one clear line",
    ),
    Promise(
        "R15",
        "Agent N-1 and N work with collector N-1 and N, and are upgraded while they run",
        "0 records lost, 0 duplicated; migration of 1 GB < 60 s, an interrupted one resumes",
    ),
    Promise(
        "R16",
        "10,000 agents return after an outage of 10 min",
        "peak ≤ 3 × the mean of the first 120 s; no second peak > 2 × the mean in 3 intervals",
        simulated="10,000 machines and their network; 1,000 connections are real",
    ),
    Promise(
        "R17",
        "The load is five times the collector's capacity",
        "stored pushes ≥ 90 % of the capacity, p99 of admitted calls < 5 s, resident memory < 512 MiB",
    ),
    Promise(
        "R18",
        "For each machine and day: produced = stored + declared gaps",
        "0 ms unexplained",
        simulated="in part: the machines and their clock; in the random sequences, the collector",
    ),
    Promise(
        "R19",
        "Long operation with 500 agents",
        "resident memory grows < 1 MiB/h, open descriptors stay within 10, write-ahead log < 64 MiB",
    ),
    Promise(
        "R20",
        "Bad networks: 30 % loss, 256 kbit/s, interruptions of 10 s, MTU 576, no DNS",
        "0 records lost, 0 duplicated, agent CPU < 1 %",
    ),
    Promise(
        "R21",
        "Two instances of the service start on one machine",
        "the second ends with a clear message",
        tests_of=("agent", "proto"),
    ),
    Promise(
        "S1",
        "A stolen key writes for its own machine only",
        "100 % of other attempts refused with PERMISSION_DENIED, and counted",
    ),
    Promise(
        "S2",
        "A revoked agent on a live connection",
        "refused at its next call, 100 of 100, in < 10 s",
    ),
    Promise(
        "S3",
        "An expired certificate on a live connection",
        "refused",
    ),
    Promise(
        "S4",
        "Enrolment tokens",
        "a one-time token enrols 1 of 100 machines at once; expired, foreign and revoked tokens are refused; 10 guesses/min are read, a valid token is accepted after them",
    ),
    Promise(
        "S5",
        "The answer to an enrolment is lost",
        "the same identity is given again within 10 min",
    ),
    Promise(
        "S6",
        "50 clones of one enrolled image",
        "50 distinct ids in < 2 min, 0 samples mixed, the operator sees the clones",
    ),
    Promise(
        "S7",
        "1,000,000 mutated messages over the wire",
        "0 accepted wrongly, 0 crashes, resident memory constant",
    ),
    Promise(
        "S8",
        "Messages that are small on the wire and large in memory: compressed, metadata, empty sub-messages",
        "100 hostile calls at once add < 64 MiB",
    ),
    Promise(
        "S9",
        "2,000 silent connections (slow-loris)",
        "closed in ≤ 6.5 s, p99 of legitimate calls < 1 s, descriptors released",
    ),
    Promise(
        "S10",
        "Floods of RST, PING and SETTINGS frames",
        "p99 of legitimate calls < 3 × the calm p99, which counts as 10 ms at least",
    ),
    Promise(
        "S11",
        "A hostile agent invents 10^5 names",
        "0 additional exported series; all series within the computed bound",
    ),
    Promise(
        "S12",
        "False energy values",
        "above the power of any machine: 0 J reach a total, each value refused with its reason; possible values, sent repeatedly: ≤ 4 × the machine's ceiling a day",
    ),
    Promise(
        "S13",
        "Readers see what their role allows",
        "every route × every role",
    ),
    Promise(
        "S14",
        "No exported cell is a formula",
        "0 formula cells",
    ),
    Promise(
        "S15",
        "No hostile name opens a file outside its folder",
        "0 of 500 names",
    ),
    Promise(
        "S16",
        "No hostile name becomes markup",
        "0 names",
    ),
    Promise(
        "S17",
        "TLS 1.3 only; no plain-text port off loopback",
        "sslscan finds TLS 1.3 only",
    ),
    Promise(
        "S18",
        "A remote configuration stays within the limits of the machine's own file",
        "0 configurations beyond them; a bad one is reverted in ≤ 10 min",
        simulated="the collector and the clock",
    ),
    Promise(
        "S19",
        "No secret in logs, process lists, environments or core files",
        "0 canaries found",
    ),
    Promise(
        "S20",
        "Only the owner can read files",
        "keys 0600, directories 0700, nothing readable by others",
    ),
    Promise(
        "S21",
        "Exposure of the units (`systemd-analyze security`)",
        "≤ 1.1; the RAPL helper ≤ 0.7",
        tests_of=("deploy",),
    ),
    Promise(
        "S22",
        "No other account reads energy_uj",
        "0 files readable by others",
        tests_of=("deploy",),
    ),
    Promise(
        "S23",
        "Supply chain",
        "0 differences between lock, installation and SBOM; two builds give one wheel; SQLite ≥ 3.51.3; a made-up vulnerability fails the audit (the real one needs a copy of the OSV database)",
        tests_of=("deploy", "requirements", "pyproject.toml"),
    ),
    Promise(
        "S24",
        "The root certificate is replaced under 500 agents",
        "0 agents lost, 50 of them offline for the whole overlap",
        simulated="time and the network",
    ),
    Promise(
        "P1",
        "Only declared fields leave the machine",
        "0 fields of the contract without a row in privacy.md",
    ),
    Promise(
        "P2",
        "No personal string in messages, spool, databases, logs, exports, /metrics and API",
        "0 canaries found; the permitted strings are found in each",
    ),
    Promise(
        "P3",
        "The collector cannot make a machine report more finely",
        "0 configurations beyond the machine's ceiling",
    ),
    Promise(
        "P4",
        "Each published group has at least k machines, none of which has more than 85 %",
        "0 groups of fewer than 10 machines",
    ),
    Promise(
        "P5",
        "No difference of two answers is of fewer than k machines",
        "0 differences, over all pairs",
    ),
    Promise(
        "P6",
        "Machines that move or leave reveal nothing",
        "0 published months that change",
    ),
    Promise(
        "P7",
        "Expired data are deleted, also from free pages",
        "0 canaries left",
    ),
    Promise(
        "P8",
        "Names are in a separate file, and each access is logged",
        "0 names in data.db; 1 journal entry per access",
    ),
    Promise(
        "P9",
        "A person's rights: export and deletion of a machine, in a store of 1,000 machines with two months each",
        "all data exported; 0 canaries after the deletion; < 60 s each",
    ),
    Promise(
        "P10",
        "A pause on the machine is a declared gap",
        "0 alarms about a machine",
        not_run="`veilleuse-agent object` is not built; data that are not sent are a declared gap, which R18 counts",
    ),
    Promise(
        "P11",
        "Power is no side channel: access rights on RAPL; nothing below 10 s is sent. A machine's own file may tick at 1 s, but only sums leave it",
        "RAPL readable by the agent's group only; 0 periods, and 0 ticks requested remotely, below 10 s; the helper reads every 10 s",
    ),
    Promise(
        "P12",
        "Notices, DPIA model and register entry come from one dictionary",
        "dictionary = documents",
        not_run="the documents are not written; P1 tests the dictionary",
    ),
    Promise(
        "P13",
        "No series of a single workstation or classroom PC",
        "0 labels of a machine",
    ),
    Promise(
        "P14",
        "Hours cannot be read from a workstation's data",
        "equal sums give identical stores; 0 times of day found",
    ),
    Promise(
        "P15",
        "A role combines answers of the API, /metrics and the pages over months. A closed year beside them is measured, not guaranteed",
        "0 combinations of fewer than 10 machines",
    ),
    Promise(
        "P16",
        "One figure behind every outlet: the year closed, the year to date and a month, by perimeter, entity and class",
        "0 figures differ",
        simulated="the machines; the collector's clock (libfaketime)",
    ),
    Promise(
        "install",
        "Packages on machines with a running systemd: install, enrol, deliver, upgrade under load, kill, reboot, remove, purge",
        "0 records lost, 0 duplicated, 0 refused; a purge leaves nothing",
        simulated="the machines, which are containers with a systemd of their own",
        tests_of=("agent", "collector", "proto", "deploy", "requirements"),
    ),
)
BY_NAME: Final = {promise.name: promise for promise in PROMISES}
