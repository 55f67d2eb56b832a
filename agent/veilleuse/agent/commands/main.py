# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The command line: parses it, imports the one command that it names, and runs it."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Final

from veilleuse.agent.platforms import here
from veilleuse.agent.settings import AgentSettings, read_settings
from veilleuse.wire.process import finish, say

if TYPE_CHECKING:
    import argparse

COMMANDS: Final = {
    "run": "measure, and send from time to time (the service)",
    "send": "make one contact with the collector now",
    "poll": "read slow sources: BMC, GPU, UPS, PDU, plugs (the service starts it)",
    "once": "measure for a moment and show the record",
    "doctor": "say what this machine can measure, why not, and the remedy",
    "selftest": "measure this machine through known states, and write what each source read",
    "show": "show the data that leaves this machine, in plain text",
    "enrol": "enrol with a join file",
    "before-sleep": "have the running service write its sign of life: the machine is about to sleep",
    "rapl-helper": "read the processor's energy counters for the service (a root service of its own)",
    "powermetrics-helper": "read the processor's power on macOS for the service (a root job of its own)",
    "windows-service": "run as the service of Windows (the Service Control Manager starts it)",
    "windows-setup": "prepare the folders, the configuration and the service of Windows (the installer runs it)",
    "prepare-image": "remove all data of this machine before its disk becomes an image",
    "config": "print the default configuration, every key with its documentation",
    "version": "print the version",
}
"""Name → help; the module of the same name in `commands` is imported on demand."""
WITHOUT_SETTINGS: Final = frozenset({"config", "version", "windows-service", "windows-setup"})
PLAIN: Final = ("run", "rapl-helper", "windows-service")
"""Commands of a resident process: their plain form is parsed without argparse."""


def main(words: Sequence[str]) -> int:
    """Run one command.

    Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 done with warnings, 130 interrupted.
    """
    return finish("veilleuse-agent", partial(_run, words), _translate)


def _translate(text: str) -> str:
    from veilleuse.agent.commands.language import translate  # late: a resident process translates nothing

    return translate(text)


def _run(words: Sequence[str]) -> int:
    here.prepare_process()
    os.umask(0o077)  # files that a command writes below the state directory are readable by the agent only
    parsed, command = parse(words)
    starts = parsed.command == "run" and not getattr(parsed, "check", False)
    tell = partial(say, "veilleuse-agent", code=0) if starts else None
    without = parsed.command in WITHOUT_SETTINGS
    settings = AgentSettings() if without else read_settings(parsed.config, tell=tell)
    _log_to_stderr(settings.log.level)
    if settings.log.level != "debug":
        # else a refused handshake, or a proxy's refusal, is reported twice, once in gRPC's words
        os.putenv("GRPC_VERBOSITY", "NONE")
    return int(command.run(parsed, settings))


def parse(words: Sequence[str]) -> tuple[argparse.Namespace | SimpleNamespace, ModuleType]:
    """Return the parsed command line and the module of its command. Raises ConfigurationError."""
    if (plain := _plain_run(words)) is not None:
        module_name = f"veilleuse.agent.commands.{plain.command.replace('-', '_')}"
        return plain, importlib.import_module(module_name)
    from veilleuse.agent.commands.language import CommandParser
    from veilleuse.wire.version import VERSION

    name = next((word for word in words if word in COMMANDS), None)
    parser = CommandParser(
        prog="veilleuse-agent",
        description="Measures what this machine draws and does, and sends sums to its collector.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {VERSION}", help="print the version"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    module = ModuleType("none")
    for command, what in COMMANDS.items():
        one = commands.add_parser(command, help=what, description=what)
        if command not in WITHOUT_SETTINGS:
            one.add_argument(
                "--config",
                type=Path,
                metavar="FILE",
                help=f"configuration (default: {here.CONFIGURATION} if it exists)",
            )
        if command == name:
            module = importlib.import_module(f"veilleuse.agent.commands.{command.replace('-', '_')}")
            module.add_arguments(one)
    return parser.parse_args(words), module


def _plain_run(words: Sequence[str]) -> SimpleNamespace | None:
    """Parse the form that service units use; argparse would cost a resident process 0.8 MiB of its 20 MiB."""
    if (
        not words
        or words[0] not in PLAIN
        or not (len(words) == 1 or (len(words) == 3 and words[1] == "--config"))
    ):
        return None
    return SimpleNamespace(command=words[0], config=Path(words[2]) if len(words) == 3 else None)


class _OneLine(logging.Formatter):
    """Formats a record as its constant event text and its facts:

    `warning nothing delivered reason='…' failures=2`.
    """

    _KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        facts = [f"{key}={value!r}" for key, value in vars(record).items() if key not in self._KNOWN]
        line = " ".join([record.levelname.lower(), record.getMessage(), *facts])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
