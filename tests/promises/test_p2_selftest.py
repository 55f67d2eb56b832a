# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""P2: the file of `veilleuse-agent selftest`, which people send, names nobody and no machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.promises.support.leaking import leaks_in, lowered, spellings
from tests.promises.support.person import CANARIES, CONTROL_MODEL, somebodys_machine
from tests.support.processes import ran


@pytest.mark.promise("P2")
def test_a_selftest_has_no_name(tmp_path: Path):
    """On a machine where each name is a canary, neither file nor terminal shows one.

    The model of the processor is found, and the processor's energy: the machine was read.
    """
    names = tmp_path / "veilleuse"
    with somebodys_machine(tmp_path) as agent:
        config = tmp_path / "agent.toml"
        config.write_text(
            f'[paths]\nsysfs = "{tmp_path}/tree/sys"\nprocfs = "{tmp_path}/tree/proc"\n'
            f'state = "{names}"\n[measure]\ntick_seconds = 1\nunits = true\n'
        )
        result = tmp_path / "result.json"
        words = ["selftest", "--config", str(config), "--minutes", "0.1", "--output", str(result)]
        done = ran([str(agent), *words], check=True)
    text = result.read_text(encoding="utf-8")
    document = json.loads(text)
    assert document["machine"]["cpu_model"] == CONTROL_MODEL
    assert "rapl package-0 (component)" in {one["point"] for one in document["counters"]}
    places = [("the file", text), ("the terminal", done.stdout + done.stderr)]
    assert not leaks_in(lowered(places), spellings(CANARIES))
