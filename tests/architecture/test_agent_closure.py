# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the modules that the resident process loads: each one costs memory on thousands of machines.

agent_modules.txt lists every module of ours and of psutil. Other modules are only forbidden (FORBIDDEN):
the structure of the standard library changes between Python 3.11 and 3.13.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ran

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("agent_modules.txt")
LISTED = ("veilleuse", "psutil")
FORBIDDEN = (
    "_hashlib", "asyncio", "argparse", "concurrent", "cryptography", "dataclasses", "email", "google", "grpc", "hashlib",
    "hmac", "http", "importlib.metadata", "inspect", "multiprocessing", "random", "secrets", "ssl", "tempfile",
    "urllib.request", "uuid",
)  # fmt: skip
"""The service reads its command line without argparse (agent/commands/main.py). dataclasses and inspect,
which dataclasses imports: docs/decisions/0010.
"""

PROGRAM = """
import sys
sys.path[:0] = {roots!r}
import veilleuse.agent.__main__
from veilleuse.agent.commands.main import parse
parsed, command = parse(["run"])
from veilleuse.agent.resident import process
from veilleuse.agent.platforms import load_module
load_module("facts")
from veilleuse.agent.service import systemd
from veilleuse.agent.sources import UTILISATION, BUILTIN, NOT_BY_DEFAULT
import importlib
for name, target in [("", UTILISATION), *BUILTIN.items()]:
    if name not in NOT_BY_DEFAULT:
        importlib.import_module(target.partition(":")[0])
print("\\n".join(sorted(sys.modules)))
"""


def interpreters() -> list[str]:
    """Return this interpreter, and Debian's own, which the packages run on, where it has psutil."""
    debian = shutil.which("python3", path="/usr/bin")
    found = [sys.executable]
    if debian is not None and Path(debian).resolve() != Path(sys.executable).resolve():
        done = subprocess.run([debian, "-c", "import psutil"], capture_output=True, check=False)
        found += [debian] if done.returncode == 0 else []
    return found


def closure(interpreter: str) -> list[str]:
    """Return the modules of a process that has imported all it needs, less those of a bare interpreter."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}

    def names(program: str) -> set[str]:
        done = ran([interpreter, "-c", program], env=clean, check=True)
        return set(done.stdout.split())

    roots = [str(ROOT / root) for root in ("agent", "proto")]
    return sorted(names(PROGRAM.format(roots=roots)) - names("import sys; print('\\n'.join(sys.modules))"))


@pytest.mark.parametrize("interpreter", interpreters())
def test_the_closure_is_the_committed_list(interpreter):
    """Our loaded modules are exactly those of agent_modules.txt; psutil loads none outside the list."""
    found = [name for name in closure(interpreter) if name.partition(".")[0] in LISTED]
    listed = [
        line for line in LIST.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    ours = [name for name in found if name.startswith("veilleuse")]
    wanted = [name for name in listed if name.startswith("veilleuse")]
    assert ours == wanted, (
        "add to tests/architecture/agent_modules.txt, in order, or delete from it: "
        f"{sorted(set(ours) ^ set(wanted))}"
    )
    foreign = {name for name in found if not name.startswith("veilleuse")}
    assert foreign <= set(listed), f"psutil loads more than before: {foreign - set(listed)}"


@pytest.mark.parametrize("interpreter", interpreters())
def test_nothing_heavy_comes_in(interpreter):
    """The resident loads no network, protobuf, hash, TLS or event-loop module, directly or indirectly."""
    found = closure(interpreter)
    heavy = [name for name in found if any(name == word or name.startswith(f"{word}.") for word in FORBIDDEN)]
    assert not heavy
