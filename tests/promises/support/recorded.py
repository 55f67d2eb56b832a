# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Records what installations rely on: names, and a data directory with the figures read from it.

`python -m tests.promises.support.recorded VERSION` writes both files of a release for tests of R15.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

from typer.main import get_command

from tests.promises.support.previous import RELEASES
from tests.support import clock
from tests.support.processes import ran
from veilleuse.agent import settings as agent
from veilleuse.agent.commands.main import COMMANDS, WITHOUT_SETTINGS
from veilleuse.collector import settings as collector
from veilleuse.collector.cli.main import app
from veilleuse.collector.cli.shared import EXIT_WARNINGS
from veilleuse.collector.exposition.catalogue import BY_NAME
from veilleuse.wire.settings_file import describe

SIDES: Final = {"agent": (agent, agent.AgentSettings), "collector": (collector, collector.CollectorSettings)}
FILLING: Final = (
    "init --simulated",
    "simulate --hosts 10 --days 7 --from {year}-12-27 --seed 7",
    "account create grafana --output token",
    "factors contract add --supplier Fournisseur --kwh 1000 --factor 0.02 --from {year}-01-01 --to {next}-01-01 --source facture",
    "close {year}",
)
READING: Final = (
    "report emissions --from {year}-12-27 --to {next}-01-01 --format json",
    "report emissions --group-by site,device_class --from {year}-12-27 --to {next}-01-01 --format json",
    "report indicators --from {year}-12-27 --to {next}-01-01 --format json",
    "hosts list --json",
    "verify {year} --json",
    "meters list --json",
    "inventory show --json",
    "factors contract list --json",
    "calibrate list --json",
    "token list --json",
    "published list --json",
    "close --list --json",
)


def names_now() -> dict[str, dict[str, list[str]]]:
    """Return the settings with their default and choices, metrics with labels, commands with options."""
    return {
        **{
            side: {
                one.dotted: [in_words(one.default), *(each for each in one.choices if each != one.default)]
                for one in describe(kind)
            }
            for side, (_, kind) in SIDES.items()
        },
        "metrics": {name: list(metric.labels) for name, metric in sorted(BY_NAME.items())},
        "commands": {line: sorted(options) for line, options in sorted(options_now().items())},
    }


def options_now() -> dict[str, set[str]]:
    """Return command → its options, without arguments, for both programs."""
    found = {f"veilleuse {name}": options for name, options in leaves(get_command(app), ())}
    for name in COMMANDS:
        parser = argparse.ArgumentParser(add_help=False)
        importlib.import_module(f"veilleuse.agent.commands.{name.replace('-', '_')}").add_arguments(parser)
        own = {option for action in parser._actions for option in action.option_strings}
        found[f"veilleuse-agent {name}"] = own | (set() if name in WITHOUT_SETTINGS else {"--config"})
    return {line: {option for option in options if option[0] == "-"} for line, options in found.items()}


def in_words(value: Any) -> str:
    """Write the value of a setting as in the environment."""
    return ",".join(value) if isinstance(value, tuple) else str(value)


def leaves(command: Any, words: tuple[str, ...]) -> list[tuple[str, set[str]]]:
    """Return the commands without subcommands below a command, with their options."""
    if hasattr(command, "list_commands"):
        names = command.list_commands(None)
        return [leaf for name in names for leaf in leaves(command.get_command(None, name), (*words, name))]
    options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    return [(" ".join(words), options)]


def fill(folder: Path, year: int) -> dict[str, Any]:
    """Make a data directory `collector` in an empty folder; returns what the program says of it."""
    environment = os.environ | {"VEILLEUSE__DATA_DIR": str(folder / "collector")}

    def said(line: str) -> str:
        program = [sys.executable, "-m", "veilleuse.collector", *shlex.split(line)]
        done = ran(program, cwd=folder, env=environment)
        if done.returncode not in (0, EXIT_WARNINGS):
            raise SystemExit(f"'{line}' failed: {done.stderr}")
        return done.stdout

    for line in FILLING:
        said(line.format(year=year, next=year + 1))
    lines = [line.format(year=year, next=year + 1) for line in READING]
    return {line: json.loads(said(line)) for line in lines}


def main() -> None:
    """Write veilleuse-VERSION-names.json and veilleuse-VERSION-data.tar.xz."""
    (version,) = sys.argv[1:]
    names = RELEASES / f"veilleuse-{version}-names.json"
    names.write_text(json.dumps(names_now(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = json.dumps(fill(folder, clock.today().year - 1), ensure_ascii=False)
        (folder / "figures.json").write_text(figures, encoding="utf-8")
        with tarfile.open(RELEASES / f"veilleuse-{version}-data.tar.xz", "w:xz") as archive:
            for part in ("collector", "figures.json"):
                archive.add(folder / part, part)


if __name__ == "__main__":
    main()
