# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R5: the collector's disk fails at times: fsync and fdatasync return EIO, a write returns ENOSPC."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.promises.results import in_words
from tests.promises.support.trial import Trial
from tests.support.peers import peer
from tests.support.stack import get
from tests.support.waiting import until

FSYNC = "enable_random name=posix/io/sync/*,probability=0.02,failinfo=5"
"""EIO, of the call that SQLite was built with. libfiu has no hook for pwrite64, which SQLite calls: strace
makes that fail."""
WRITES_BEFORE, EVERY = 300, 100


@pytest.mark.machine_date  # libfiu takes the place of libfaketime
@pytest.mark.promise("R5", "R18")
def test_fsyncs_and_writes_fail(tmp_path, figure):
    """With 2 % of fsyncs and 1 % of writes failing, no acknowledged record is lost, the collector goes on,
    and /metrics counts the errors by kind."""
    with Trial(tmp_path) as trial:
        strace = str(peer("strace"))
        files = [part for name in ("data.db", "data.db-wal") for part in ("-P", str(trial.stack.data / name))]
        inject = f"inject=pwrite64:error=ENOSPC:when={WRITES_BEFORE}+{EVERY}"
        injected = tmp_path / "injected"
        tracing = [strace, "-D", "-f", "--seccomp-bpf", "-qq", "-o", str(injected), *files]
        failing = [str(peer("fiu-run")), "-x", "-f", str(tmp_path / "fiu")]
        trial.enrol(30)
        trial.start([*tracing, "-e", "trace=pwrite64", "-e", inject, *failing])
        trial.load(150)
        trial.wait_for_ack()
        assert trial.collector is not None
        control = [str(peer("fiu-ctrl")), "-f", str(tmp_path / "fiu"), "-c", FSYNC]
        subprocess.run([*control, str(trial.collector.pid)], check=True)
        trial.stack.wait_for(trial.stack.answers, "the pages answer too", process=trial.collector)
        until(lambda: injected.read_text().count("ENOSPC") > 3, "hardly a write was refused")
        until(lambda: {"full", "failing"} <= store_errors(get(trial.stack.url + "metrics")).keys())
        errors = store_errors(get(trial.stack.url + "metrics"))
        running = trial.collector.poll() is None
        report = trial.end()
        refused_writes = injected.read_text().count("ENOSPC")
    figure(f"{report}, after {refused_writes} failed writes, errors in /metrics: {in_words(errors)}")
    assert running, trial.said()
    assert "Traceback" not in trial.said()
    assert refused_writes > 3
    assert errors.get("full", 0) > 0
    assert errors.get("failing", 0) > 0
    assert report.sound, report.details


def store_errors(metrics: str) -> dict[str, int]:
    """Return the store's errors by reason, from /metrics."""
    found = re.findall(r'^veilleuse_collector_store_errors_total\{reason="(\w+)"\} (\S+)$', metrics, re.M)
    return {reason: round(float(number)) for reason, number in found if float(number)}
