# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Each bench starts, and the Makefile calls benches that exist."""

from __future__ import annotations

import re
import signal
import sys

import pytest

from tests.architecture.tree import ROOT
from tests.bench import __main__ as bench


@pytest.mark.parametrize("name", bench.names())
def test_a_bench_says_its_options(name, capsys, monkeypatch):
    """Its imports are found, as `make bench-…` starts it, and it prints its options."""
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        bench.main([name, "--help"])
    assert ended.value.code == 0
    assert "--help" in capsys.readouterr().out


def test_benches_of_the_makefile_exist():
    """Every `make bench-…` names a module that can be started."""
    called = re.findall(r"-m tests\.bench (\w+)", (ROOT / "Makefile").read_text("utf-8"))
    assert len(called) > 10
    assert set(called) <= set(bench.names())


def test_an_unknown_bench_is_named(capsys):
    """Without a name that is one, the names are listed."""
    assert bench.main(["nonsense"]) == 2
    assert "agent alerts attacks" in capsys.readouterr().err
