# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that each known system has all its modules, and that any other system is refused by name."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from veilleuse.agent.platforms import _MODULES, _SYSTEMS
from veilleuse.wire.vocabulary import SOURCES_OF_SYSTEM


@pytest.mark.parametrize("system", _SYSTEMS.values())
@pytest.mark.parametrize("concern", _MODULES)
def test_every_system_has_its_modules(system, concern):
    """The test finds a missing module, which otherwise only a machine of that system would find."""
    assert find_spec(f"veilleuse.agent.{_MODULES[concern][system]}")


def test_every_system_has_sources():
    """A system without sources would measure nothing, without an error."""
    assert SOURCES_OF_SYSTEM.keys() == _SYSTEMS.keys()


def test_an_unknown_system_is_refused():
    """An unknown system is refused; read as Linux it would give nothing."""
    program = "import sys; sys.platform = 'plan9'; import veilleuse.agent.platforms"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("veilleuse-agent does not run on plan9, only on linux, ")
    assert "Traceback" not in done.stderr
