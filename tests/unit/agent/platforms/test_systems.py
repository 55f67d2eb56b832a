# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that each known system has all its modules, and that any other system is refused by name."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from veilleuse.agent import platforms
from veilleuse.agent.platforms import _MODULES, _SYSTEMS
from veilleuse.wire.vocabulary import SOURCES_OF_SYSTEM


@pytest.mark.parametrize("system", _SYSTEMS.values())
@pytest.mark.parametrize("concern", _MODULES)
def test_every_system_has_its_modules(system, concern):
    """The test finds a missing module, which otherwise only a machine of that system would find."""
    module = _MODULES[concern].get(system)
    assert module, f"add {system} to {concern!r} of _MODULES in platforms/__init__.py"
    assert find_spec(f"veilleuse.agent.{module}"), f"write {module}, which _MODULES names for {system}"


AGENT = Path(platforms.__file__).parents[1]
MARKS = {"system": "SERVICE_MANAGER", "facts": "parts_here", "hardware": "asset_numbers"}
"""Concern → a name that each of its modules defines, and no other module."""


def defined(file: Path) -> set[str]:
    """Return the names of functions and annotated constants of a module."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return {part.name for part in body if isinstance(part, ast.FunctionDef)} | {
        ast.unparse(part.target) for part in body if isinstance(part, ast.AnnAssign)
    }


@pytest.mark.parametrize("concern", _MODULES)
def test_every_module_of_a_system_is_in_the_table(concern):
    """A module that no line of _MODULES names would never be loaded. Callers of load_module have none."""
    written = {
        ".".join(file.relative_to(AGENT).with_suffix("").parts)
        for folder in ("host", "platforms")
        for file in (AGENT / folder).rglob("*.py")
        if MARKS[concern] in defined(file) and "load_module(" not in file.read_text(encoding="utf-8")
    }
    named = set(_MODULES[concern].values())
    assert named <= written, f"define {MARKS[concern]} in {named - written}"
    assert written <= named, f"add to _SYSTEMS and _MODULES in platforms/__init__.py: {written - named}"


def calls() -> dict[str, list[tuple[str, ast.Call]]]:
    """Return the calls `load_module(concern).name(...)` in the agent: concern → (name, call)."""
    found: dict[str, list[tuple[str, ast.Call]]] = {}
    for file in AGENT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    ast.Attribute(ast.Call(ast.Name("load_module"), [ast.Constant(str() as concern)]), name)
                ):
                    found.setdefault(concern, []).append((name, node))
    return found


@pytest.mark.parametrize("concern", [concern for concern in _MODULES if concern != "system"])
@pytest.mark.parametrize("system", _SYSTEMS.values())
def test_every_system_has_the_functions_that_are_called(system, concern):
    """A missing function of a system's module would be found only on a machine of that system."""
    if sys.platform == "win32" and system != "windows":
        pytest.skip("fcntl is not there")
    module = import_module(f"veilleuse.agent.{_MODULES[concern][system]}")
    called = calls()[concern]
    for name, call in called:
        assert hasattr(module, name), f"define {name} in {module.__name__}"
        try:
            inspect.signature(getattr(module, name)).bind(
                *call.args, **{str(one.arg): one.value for one in call.keywords}
            )
        except TypeError as error:
            pytest.fail(f"{module.__name__}.{name} must take {ast.unparse(call)}: {error}")


def test_every_service_manager_belongs_to_a_system():
    """A service manager that no SERVICE_MANAGER names would never be notified."""
    files = {file for file in (AGENT / "service").glob("*.py") if file.stem != "__init__"}
    systems = [
        AGENT.joinpath(*module.split(".")).with_suffix(".py") for module in _MODULES["system"].values()
    ]
    texts = "".join(file.read_text(encoding="utf-8") for file in systems)
    unused = [file.name for file in files if f'"veilleuse.agent.service.{file.stem}:' not in texts]
    assert not unused, f"name it in SERVICE_MANAGER of the system's module in platforms/: {unused}"


def members() -> dict[str, list[str] | None]:
    """Return the members of the protocol System: name → parameters, None if it is no function."""
    tree = ast.parse(Path(platforms.__file__).read_text(encoding="utf-8"))
    (found,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "System")
    wanted: dict[str, list[str] | None] = {}
    for node in found.body:
        if isinstance(node, ast.FunctionDef):
            wanted[node.name] = [argument.arg for argument in node.args.args[1:]]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            wanted[node.target.id] = None
    return wanted


@pytest.mark.parametrize("module", _MODULES["system"].values())
def test_every_system_has_all_of_the_seam(module):
    """Each module has all members with the protocol's parameters, and loads on any system."""
    if sys.platform == "win32" and "windows" not in module:
        pytest.skip("fcntl is not there")
    one = import_module(f"veilleuse.agent.{module}")
    wanted = members()
    assert len(wanted) > 20
    for name, parameters in wanted.items():
        assert hasattr(one, name), f"add {name} of platforms.System to {module}"
        if parameters is not None:
            taken = list(inspect.signature(getattr(one, name)).parameters.values())
            assert [each.name for each in taken[: len(parameters)]] == parameters, (
                f"{module}.{name}: parameters"
            )
            assert all(each.default is not each.empty for each in taken[len(parameters) :]), (
                f"{module}.{name}: further parameters need a default"
            )


def test_every_system_has_sources():
    """A system without sources would measure nothing, without an error."""
    differing = SOURCES_OF_SYSTEM.keys() ^ _SYSTEMS.keys()
    assert not differing, (
        "SOURCES_OF_SYSTEM (wire/vocabulary.py) and _SYSTEMS (platforms/__init__.py) must have the same systems: "
        f"{differing}"
    )


def test_an_unknown_system_is_refused():
    """An unknown system is refused; read as Linux it would give nothing."""
    program = "import sys; sys.platform = 'plan9'; import veilleuse.agent.platforms"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("veilleuse-agent does not run on plan9, only on linux, ")
    assert "Traceback" not in done.stderr


def test_a_version_in_the_name_of_the_system_is_left_out():
    """Before Python 3.14, sys.platform of some systems ends with their version: freebsd14."""
    program = (
        "import sys; sys.platform += '14'; from veilleuse.agent import platforms, sources; "
        "print(platforms.SYSTEM, *sources.BUILTIN)"
    )
    if sys.platform == "win32":
        program = program.replace("+= '14'", "= 'win32'")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(SOURCES_OF_SYSTEM[platforms.PLATFORM]) <= set(done.stdout.split()), done.stdout
