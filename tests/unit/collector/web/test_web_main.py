# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of `python -m veilleuse.collector.web`: refusals, an idle process, and its end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.filled import Filled
from tests.support.ports import free_ports
from tests.support.stack import get
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.web.__main__ import main
from veilleuse.collector.web.server import TICK_SECONDS


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the environment in which the tests run."""
    import os

    for name in [name for name in os.environ if name.startswith("VEILLEUSE")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--set", "http.adress=127.0.0.1:0"), 2, "http.address"),
        (("--set", "http.address=0.0.0.0:8640"), 2, "http.metrics_token_file"),
        (("--set", "http.address=nonsense"), 2, "host:port"),
        (("--set", "nonsense"), 2, "KEY=VALUE"),
        (("--config", "/nowhere/collector.toml"), 2, "/nowhere/collector.toml"),
        (("--set", "data_dir=/nowhere", "--set", "http.address=127.0.0.1:0"), 1, "veilleuse init"),
    ],
)
def test_refusals(words, code, said, capsys):
    """The refusal is one line."""
    assert main(words) == code
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert line.startswith("veilleuse web: ")


SLOW_TICKS = """
import selectors, sys
from veilleuse.collector.web import __main__, server
from veilleuse.collector.web.pages import preparation
server.TICK_SECONDS = preparation.CHECK_SECONDS = 600.0
select = selectors.DefaultSelector.select
def told(self, timeout=None):
    print(timeout, flush=True)
    return select(self, timeout)
selectors.DefaultSelector.select = told
sys.exit(__main__.main(sys.argv[1:]))
"""


def test_it_sleeps_when_nobody_asks_and_ends_when_told(tmp_path: Path):
    """Uvicorn's loop wakes ten times a second; ours at its ticks only, and a signal does not wait for one."""
    assert TICK_SECONDS == 1.0
    with Filled(tmp_path / "data") as store:
        (port,) = free_ports(1)
        settings = ("--set", f"data_dir={store.directory}", "--set", f"http.address=127.0.0.1:{port}")
        naps = tmp_path / "naps"
        with naps.open("wb") as out:
            web = subprocess.Popen([sys.executable, "-c", SLOW_TICKS, *settings], stdout=out)
        try:
            _until_it_answers(f"http://127.0.0.1:{port}/healthz")
            until(lambda: re.search(r"^5\d\d\.\d+\n\Z", naps.read_text(), re.M), "it never sleeps long")
            web.send_signal(signal.SIGTERM)
            assert web.wait(PATIENCE_SECONDS) == 0, "it waited for a tick"
        finally:
            web.kill()
            web.wait()


def _until_it_answers(url: str) -> None:
    def answers() -> bool:
        try:
            return bool(get(url))
        except OSError:
            return False

    until(answers)
