# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`python -m veilleuse.collector.web` with what it cannot use: one clear line, the right exit code."""

from __future__ import annotations

import pytest

from veilleuse.collector.web.__main__ import main


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests does not count."""
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
    """What, where and what to do, in one line."""
    assert main(words) == code
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert line.startswith("veilleuse web: ")
