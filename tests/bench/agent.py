# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`make bench-agent`: memory and processor time of the agent's two processes, beside Debian's node_exporter.

All are measured in the same run on this machine. The resident runs for `SECONDS` (60) seconds as for each
population: tick 10 s, its own periods and checkpoints, the environment of its unit. node_exporter is scraped
every 15 s, as Prometheus does here by default. The sender makes whole contacts with a collector over mTLS.
Nothing is asserted; figures per day are extrapolated and marked as such.

The server's resident has one plug to poll, a fake one of the tests, so that its cost of reading polled values
is included. The polling process runs only where there is something to poll, so it is reported separately and
is not in the budget. Measurement begins after the first contact, whose cost is reported separately.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.polled import device_of
from tests.support import clock
from tests.support.ports import free_ports
from tests.support.stack import Stack, get, program

ROOT = Path(__file__).resolve().parents[2]
DAY_SECONDS = 86_400
SCRAPE_SECONDS = 15
SETTLE_SECONDS = 15
CONTACTS = 7
CONTACTS_PER_DAY = {"workstation": 1, "classroom": 24, "server": 96}
# docs/guarantees.md §4.
BUDGET_RSS_MIB = 20.0
BUDGET_CPU_SECONDS = {"workstation": 15.0, "classroom": 15.0, "server": 30.0}


class Child:
    """A process that another process started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        """Return None while the process runs."""
        return None if Path(f"/proc/{self.pid}/stat").exists() else -1


@dataclass
class Sender:
    """What one contact costs."""

    cpu_seconds: float = 0.0
    """Median, start to exit."""
    rss_max_mib: float = 0.0
    wire_bytes: int = 0
    """Bytes that the loopback interface counts: messages, HTTP/2, TLS with both certificates, TCP, IP."""
    message_bytes: int = 0
    """The messages alone, both ways, as the collector counts them."""


@dataclass
class Watched:
    """A process and its measured memory and processor time."""

    name: str
    process: subprocess.Popen[bytes] | Child
    start_cpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    cpu_seconds_per_day: float = 0.0
    """Processor time, extrapolated to a day."""
    rss_mib: float = 0.0
    rss_max_mib: float = 0.0

    def begin(self) -> None:
        """Start counting: the processor time of the process's start is kept separately."""
        self.start_cpu_seconds = cpu_seconds(self.process.pid)

    def sample(self) -> None:
        """Read memory, and processor time since `begin`."""
        self.rss_mib = memory_mib(self.process.pid, "VmRSS")
        self.rss_max_mib = memory_mib(self.process.pid, "VmHWM")
        self.cpu_seconds = cpu_seconds(self.process.pid) - self.start_cpu_seconds


def main() -> int:
    """Measure and print; return 0. Raises SystemExit if a process cannot be started or ends by itself."""
    parser = argparse.ArgumentParser(description="What the agent costs, beside node_exporter.")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SECONDS") or 60))
    seconds = parser.parse_args().seconds
    compile_all()
    exporter = shutil.which("prometheus-node-exporter")
    found = []
    sender = Sender()
    for population in CONTACTS_PER_DAY:
        watched, contact = measure(population, seconds, exporter)
        found.append((population, watched))
        sender = contact or sender
    report(found, sender, seconds, exporter)
    return 0


def measure(population: str, seconds: float, exporter: str | None) -> tuple[list[Watched], Sender | None]:
    """Measure the resident of a population; for a server also polling, node_exporter and the sender."""
    of_server = population == "server"
    with (
        tempfile.TemporaryDirectory(prefix="veilleuse-bench-") as folder,
        Stack(Path(folder)) as stack,
        device_of("shelly_plug")(Path(folder)) as plug,
    ):
        stack.start_collector()
        stack.enrol(population)
        assert plug.context.meter is not None
        meters = meters_file(Path(folder), plug.context.meter.address) if of_server else {}
        resident = stack.start("veilleuse-agent", "run", **unit_environment(), **meters)
        watched = [Watched(f"resident, {population}", resident)]
        if of_server:
            watched.append(Watched("polling (apart)", polling_process(stack, resident)))
        address = f"127.0.0.1:{free_ports(1)[0]}"
        scraped = None
        if exporter and of_server:
            watched.append(Watched("node_exporter", start_exporter(stack, exporter, address)))
            scraped = f"http://{address}/metrics"
        measured = watch(watched, seconds, scraped)
        for each in watched:
            if each.process.poll() is not None:
                raise SystemExit(
                    f"bench-agent: the {each.name} ended by itself:\n{stack.log('veilleuse-agent')[-2000:]}"
                )
            each.cpu_seconds_per_day = each.cpu_seconds / measured * DAY_SECONDS
        stack.stop(resident)
        return watched, measure_sender(stack) if of_server else None


def meters_file(folder: Path, address: str) -> dict[str, str]:
    """Write a file of one plug; return the setting that names the file."""
    file = folder / "meters.toml"
    file.write_text(f'[[meter]]\nname = "desk"\nsource = "shelly_plug"\naddress = "{address}"\n', "utf-8")
    return {"VEILLEUSE_AGENT__PATHS__METERS": str(file)}


def polling_process(stack: Stack, resident: subprocess.Popen[bytes]) -> Child:
    """Return the resident's polling process, once it has published. Raises SystemExit if there is none."""
    stack.wait_for((stack.state / "published.json").exists, "the plug is polled", process=resident)
    children = Path(f"/proc/{resident.pid}/task/{resident.pid}/children").read_text(encoding="ascii").split()
    for pid in children:
        if b"\0poll\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return Child(int(pid))
    raise SystemExit("bench-agent: the resident has no polling process")


def unit_environment() -> dict[str, str]:
    """Return the environment that the service's unit sets."""
    unit = (ROOT / "deploy/systemd/veilleuse-agent.service").read_text(encoding="utf-8")
    prefix = "Environment="
    lines = [line.removeprefix(prefix) for line in unit.splitlines() if line.startswith(prefix)]
    return dict(line.split("=", 1) for line in lines)


def compile_all() -> None:
    """Compile all bytecode, because an installation has it."""
    for root in ("agent", "proto", "collector"):
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(ROOT / root)], check=True)


def start_exporter(stack: Stack, exporter: str, address: str) -> subprocess.Popen[bytes]:
    """Start Debian's node_exporter with its default settings."""
    process = subprocess.Popen(
        [exporter, f"--web.listen-address={address}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    stack.processes.append(process)
    return process


def watch(watched: list[Watched], seconds: float, url: str | None) -> float:
    """Let the processes run while node_exporter is scraped; return the measured seconds."""
    time.sleep(SETTLE_SECONDS)
    if url:
        get(url)  # the first scrape allocates
    for each in watched:
        each.begin()
    started = time.monotonic()
    scraped = started
    while time.monotonic() - started < seconds:
        time.sleep(0.25)
        if url and time.monotonic() - scraped >= SCRAPE_SECONDS:
            scraped += SCRAPE_SECONDS
            get(url)
        if any(each.process.poll() is not None for each in watched):
            break
    for each in watched:
        if each.process.poll() is None:
            each.sample()
    return time.monotonic() - started


def measure_sender(stack: Stack) -> Sender:
    """Measure contacts that push three records."""
    used, rss = [], 0.0
    messages, wire = message_bytes(stack), loopback_bytes()
    for number in range(CONTACTS):
        fill(stack, number)
        with (stack.folder / "veilleuse-agent.log").open("ab") as log:
            process = subprocess.Popen(
                [program("veilleuse-agent"), "send"], env=stack.environment, stdout=log, stderr=log
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(
                f"bench-agent: `veilleuse-agent send` failed:\n{stack.log('veilleuse-agent')[-2000:]}"
            )
        used.append(usage.ru_utime + usage.ru_stime)
        rss = max(rss, usage.ru_maxrss / 1024)
    wire = loopback_bytes() - wire
    time.sleep(1.1)  # requests within a second share one snapshot
    messages = message_bytes(stack) - messages
    return Sender(statistics.median(used), rss, wire // CONTACTS, messages // CONTACTS)


def loopback_bytes() -> int:
    """Return the bytes that the loopback interface carried: those of other programs too."""
    return int(Path("/sys/class/net/lo/statistics/rx_bytes").read_text("ascii"))


def message_bytes(stack: Stack) -> int:
    """Return the bytes of messages that the collector counted."""
    lines = get(stack.url + "metrics").splitlines()
    return sum(
        int(float(line.split()[-1])) for line in lines if line.startswith("veilleuse_own_wire_bytes_total{")
    )


def fill(stack: Stack, number: int) -> None:
    """Put three five-minute records into the spool, as a server has after 15 minutes."""
    from tests.support.records import clock_record, spool_of

    hour = 3_600_000
    start = clock.unix_milliseconds() // hour * hour - 24 * hour + number * 900_000
    spool = spool_of(stack.state)
    try:
        spool.append([clock_record(start + step * 300_000, 300_000).to_json() for step in range(3)], {})
    finally:
        spool.close()


def report(
    found: list[tuple[str, list[Watched]]], sender: Sender, seconds: float, exporter: str | None
) -> None:
    """Print the table and the comparison with the budgets."""
    print(f"machine   {platform.platform()}, {os.cpu_count()} CPUs, {cpu_model()}")
    print(
        f"python    {platform.python_version()} of {sys.base_prefix}, bytecode present{'' if sys.base_prefix == '/usr' else ' (NOT Debian’s python3)'}"
    )
    print(f"versions  {first_line('veilleuse-agent', 'version')}; {exporter_version(exporter)}")
    print(f"measured  {seconds:.1f} s of each population, then {CONTACTS} contacts\n")
    print(f"{'process':<24}{'RSS MiB':>9}{'peak MiB':>10}{'CPU s':>9}{'CPU s/day (extrapolated)':>26}")
    for _, watched in found:
        for each in watched:
            print(
                f"{each.name:<24}{each.rss_mib:>9.1f}{each.rss_max_mib:>10.1f}{each.cpu_seconds:>9.3f}{each.cpu_seconds_per_day:>26.1f}"
            )
    per_contact = sender.cpu_seconds
    print(
        f"{'sender':<24}{'-':>9}{sender.rss_max_mib:>10.1f}{per_contact:>9.3f}{'per contact, see below':>26}\n"
    )
    print(
        f"a contact: {sender.message_bytes} bytes of messages, {sender.wire_bytes} on the loopback interface"
    )
    residents = {population: watched[0] for population, watched in found}
    print(f"resident at start: {max(one.start_cpu_seconds for one in residents.values()):.2f} CPU s, once")
    most = max(one.rss_mib for one in residents.values())
    print(verdict("resident RSS", most, BUDGET_RSS_MIB, "MiB"))
    for population, contacts in CONTACTS_PER_DAY.items():
        total = residents[population].cpu_seconds_per_day + contacts * per_contact
        print(
            verdict(
                f"both processes, {population}, {contacts} contacts",
                total,
                BUDGET_CPU_SECONDS[population],
                "CPU s/day",
            )
        )
    if exporter is None:
        print("node_exporter is not installed: apt-get install prometheus-node-exporter")


def verdict(what: str, value: float, budget: float, unit: str) -> str:
    """Return one line that compares a value with its budget."""
    word = "within" if value <= budget else "OVER"
    return f"{what}: {value:.2f} {unit}, {word} the budget of {budget:g} (docs/guarantees.md §4)"


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds of all threads of a process, without its children.

    They come from the scheduler, in nanoseconds. In a run of a minute, a clock tick of 10 ms would be
    14 CPU-seconds a day.
    """
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def memory_mib(pid: int, field: str) -> float:
    """Return VmRSS or VmHWM in MiB; NaN if the field is missing."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def first_line(command: str, *words: str) -> str:
    """Return the first line of a command's output."""
    done = subprocess.run([program(command), *words], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def exporter_version(exporter: str | None) -> str:
    """Return the version of node_exporter, such as `node_exporter 1.9.0`."""
    if exporter is None:
        return "no node_exporter"
    done = subprocess.run([exporter, "--version"], capture_output=True, text=True, check=False)
    return " ".join((done.stdout or done.stderr).replace(",", "").split()[:3])
