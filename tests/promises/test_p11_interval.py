# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""P11: no published energy is finer than 10 s, whatever file, environment and collector ask for.
A machine's own file may set a tick of one second: those readings stay in memory, and only sums of a period
leave the machine.
"""

from __future__ import annotations

import os
import select
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.trees import context, put, zone
from veilleuse.agent.commands import powermetrics_helper, rapl_helper
from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.model import Instant
from veilleuse.agent.remote_config import grain_of, read_status
from veilleuse.agent.resident.process import NoServiceManager
from veilleuse.agent.sending.remote_config import configuration_control
from veilleuse.agent.settings import read_settings
from veilleuse.agent.sources.snapshot import read_publication
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

FINEST = 10_000
NOW = round(datetime(2026, 3, 6, tzinfo=UTC).timestamp() * 1000)
PUBLISHED = 5

TICKS = st.sampled_from(["0", "0.1", "1", "2.5", "9.9", "10", "60", "61", "nan", "-1"])
PERIODS = st.sampled_from(["0", "1", "5", "9", "10", "12", "60", "300", "3600", "-10"])
LOCAL = st.fixed_dictionaries({}, optional={"tick_seconds": TICKS, "period_seconds": PERIODS})
REMOTE = st.fixed_dictionaries(
    {},
    optional={
        "tick_milliseconds": st.sampled_from([1, 9_999, 10_000, 20_000, 60_000]),
        "period_milliseconds": st.sampled_from([5_000, 9_000, 10_000, 60_000, 3_600_000]),
    },
).map(lambda values: pb.RemoteConfiguration(sha256=bytes(32), **values))
SEEN: Counter[str] = Counter()


@pytest.mark.promise("P11")
def test_no_period_and_no_tick_asked_from_afar_is_under_ten_seconds(tmp_path, figure):
    """A combination of file, environment and remote configuration is refused, or its period is 10 s or more.

    A tick under 10 s comes only from the machine's own file or environment.
    """
    _any_settings(tmp_path / "agent.toml")
    assert min(SEEN["used"], SEEN["refused"], SEEN["remote"]) > 50, SEEN
    figure(
        "0 periods below 10 s, and 0 ticks below 10 s other than the machine's own, in "
        f"{SEEN['all']:,} configurations from file, environment and collector ({SEEN['refused']:,} refused)"
    )


@settings(max_examples=300, deadline=None)
@given(in_file=LOCAL, in_environment=LOCAL, remote=REMOTE, population=st.sampled_from(list(Population)))
def _any_settings(
    file: Path,
    in_file: dict[str, str],
    in_environment: dict[str, str],
    remote: pb.RemoteConfiguration,
    population: Population,
) -> None:
    file.write_text("[measure]\n" + "".join(f"{name} = {text}\n" for name, text in in_file.items()))
    environment = {f"VEILLEUSE_AGENT__MEASURE__{name.upper()}": text for name, text in in_environment.items()}
    SEEN["all"] += 1
    changes = configuration_control(remote, lambda key: None, accept=True)
    control = {key: value for key, value in changes.items() if value is not None}
    standing = read_status(control.get, Instant(0, 1_000, 1_000), "boot", accept=True)
    SEEN["remote"] += standing.trial is not None
    try:
        own = read_settings(file, environment)
        grain = grain_of(own, population, standing.in_use.configuration, NOW)
    except ConfigurationError:
        SEEN["refused"] += 1
        return
    SEEN["used"] += 1
    assert grain.period_milliseconds >= FINEST
    assert grain.tick_milliseconds >= min(FINEST, own.measure.tick_seconds * 1000)


@pytest.mark.promise("P11")
def test_the_helper_reads_and_serves_every_ten_seconds(tmp_path, figure, monkeypatch):
    """The root process's own loop waits 10 s between two readings, though the environment asks for less."""
    folder = zone(tmp_path, "0", "package-0", 1_000_000)
    file, waits, told = tmp_path / "readings.json", [], []
    for name in ("TICK_SECONDS", "PERIOD_SECONDS"):
        monkeypatch.setenv(f"VEILLEUSE_AGENT__MEASURE__{name}", "1")

    def waited(
        readers: list[int], _w: Any, _x: Any, seconds: float
    ) -> tuple[list[int], list[int], list[int]]:
        waits.append(seconds)
        told.append(read_publication(str(file)).readings[0])
        put(tmp_path, folder.relative_to(tmp_path / "sys").as_posix() + "/energy_uj", 1_000_000 * len(waits))
        if len(waits) == PUBLISHED:
            os.kill(os.getpid(), signal.SIGTERM)
        return [], [], []

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(select, "select", waited)
    try:
        assert rapl_helper.run_helper(context(tmp_path), file, NoServiceManager()) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert waits == [FINEST / 1000] * PUBLISHED
    assert {one.every_milliseconds for one in told} == {FINEST} == {powermetrics_helper.INTERVAL_MILLISECONDS}
    figure(f"{len(told)} readings served by the RAPL helper, {waits[0]:g} s apart")
