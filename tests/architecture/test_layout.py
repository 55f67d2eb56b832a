# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the layout of the repository: path roots, namespace, import contracts, locks without addresses."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, ROOTS, files, is_generated
from tests.support.processes import ran

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("root", ROOTS)
def test_a_path_root_is_not_a_package(root):
    """A root and its veilleuse/ hold no __init__.py: it would hide the two other roots (PEP 420)."""
    assert not (ROOT / root / "__init__.py").exists()
    assert not (ROOT / root / "veilleuse" / "__init__.py").exists()


def test_the_import_contracts_hold():
    """Agent and collector do not import each other; stages import the data, composition roots the stages."""
    linter = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as l; l()"]
    done = ran([*linter, "--no-logo", "--no-cache"], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stubs_need_no_more_than_we_promise():
    """Generated code, which refuses older runtimes, needs none newer than the floors of pyproject.toml."""
    floors = {
        match["name"]: _version(match["floor"])
        for match in map(
            re.compile(r"(?P<name>[a-z-]+)>=(?P<floor>[0-9.]+)").match,
            PROJECT["project"]["dependencies"],
        )
        if match
    }
    stubs = [file for file in files(".py", under=ROOT / "proto") if is_generated(file)]
    assert stubs
    for stub in stubs:
        text = stub.read_text(encoding="utf-8")
        grpc = re.search(r"GRPC_GENERATED_VERSION = '([0-9.]+)'", text)
        protobuf = re.search(r"# Protobuf Python Version: ([0-9.]+)", text)
        assert grpc or protobuf, f"no version found in {stub.name}"
        assert not grpc or _version(grpc[1]) <= floors["grpcio"], stub.name
        assert not protobuf or _version(protobuf[1]) <= floors["protobuf"], stub.name


def test_locks_are_hashed_and_address_free():
    """requirements/*.txt pin every version by hash and name no index, path or address."""
    assert {lock.stem for lock in LOCKS} == {"agent", "build", "collector", "dev", "release"}
    requirement = re.compile(
        r"[a-z0-9-]+==[0-9a-z.!+]+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|\s*#.*"
    )
    for lock in LOCKS:
        for line in lock.read_text(encoding="utf-8").splitlines():
            assert requirement.fullmatch(line), f"{lock.name}: {line}"
            assert "://" not in line


def test_the_agent_installs_no_library_of_the_collector():
    """A workstation never gets sqlite-utils, rich, typer or a web server."""
    names = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/agent.txt").read_text(), re.M)
    assert {"psutil", "grpcio", "protobuf", "cryptography"} <= set(names)
    assert not {"sqlite-utils", "rich", "typer", "starlette", "uvicorn", "jinja2"} & set(names)


def test_no_registry_is_named():
    """No file of ours holds the host of a package registry that this machine is set up with."""
    hosts = set(_registry_hosts())
    assert hosts
    named = [
        str(file.relative_to(ROOT)) for file in files() if any(host in file.read_bytes() for host in hosts)
    ]
    assert not named, f"a registry's host stands in {', '.join(named)}"


# Longer files, each with its reason (CONTRIBUTING.md: break the rule, say why).
LONGER: dict[str, str] = {}


def test_files_and_functions_fit_a_reader():
    """A file has at most 500 lines and a function at most 50; the aim is half of that."""
    long = []
    for file in files(".py"):
        name = str(file.relative_to(ROOT))
        if is_generated(file) or "fixtures" in file.parts or name in LONGER:
            continue
        text = file.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > 500:
            long.append(f"{name}: {lines} lines")
        if lines <= 50:
            continue
        for node in _statements(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > 50:
                    long.append(f"{name}:{node.lineno} {node.name}: {lines} lines")
    assert not long, "cut these up:\n" + "\n".join(long)


def test_any_exception_is_caught_at_the_boundaries_only():
    """docs/decisions/0011 lists every place that catches any exception."""
    decision = (ROOT / "docs/decisions/0011-where-any-exception-is-caught.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`((?:\w+/)+\w+\.py)`", decision.split("## What else")[0]))
    sources = [file for root in ROOTS for file in files(".py", under=ROOT / root) if not is_generated(file)]
    found = {f"{file.parent.name}/{file.name}" for file in sources if _catches_anything(file)}
    assert found == listed


def _catches_anything(file: Path) -> bool:
    """Return whether a file catches all exceptions; a handler that ends in a bare `raise` does not count."""
    text = file.read_text("utf-8")
    if not re.search(r"except\s*:|\b(Base)?Exception\b", text):
        return False
    handlers = [node for node in _statements(ast.parse(text)) if isinstance(node, ast.ExceptHandler)]
    return any(
        (kind := handler.type) is None
        or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException"))
        for handler in handlers
        if not (isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None)
    )


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements below a node, without expressions, which are most of a tree."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield child
            yield from _statements(child)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _registry_hosts() -> Iterator[bytes]:
    """Yield the hosts of PyPI, as pip knows them, and those configured here for pip, npm and apt."""
    from pip._internal.models.index import PyPI

    yield PyPI.netloc.encode()
    yield PyPI.file_storage_domain.encode()
    settings = [_output(sys.executable, "-m", "pip", "config", "list")]
    settings += [_output("npm", "config", "get", "registry")]
    apt = Path("/etc/apt")
    settings += [
        file.read_text(encoding="utf-8", errors="replace")
        for file in [*apt.glob("sources.list"), *apt.glob("sources.list.d/*")]
    ]
    for text in settings:
        for host in re.findall(r"https?://(?:[^/@\s'\"]*@)?([^/\s:'\",]+)", text):
            yield host.encode()


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout
