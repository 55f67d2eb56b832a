# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the table of commands and runs a command line.

To add a command, write `cli/<noun>.py` and add one line to COMMANDS.
The file holds `app = typer.Typer(**APP)` with either one `@app.command()` (`veilleuse init …`) or several and
an `@app.callback()` (`veilleuse token create …`). Where one noun has several commands (`veilleuse backup`,
`veilleuse restore`), the file holds a function for each, and its line names the function: `….backup:restore`.

A module is imported only when its command runs, so that `veilleuse version` never loads a web framework.
Options that all commands share (`--config`, `--json`), the settings and JSON output come from
veilleuse.collector.cli.shared.

Raise a CollectorError (`exit_code` 1, or 2 for UsageError) or a ConfigurationError: it is printed in one
line. End with `raise typer.Exit(EXIT_WARNINGS)` for "done with warnings".
"""

from __future__ import annotations

import difflib
import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from veilleuse.collector.cli.language import translate, translate_help
from veilleuse.collector.cli.shared import APP, ConfigOption, JsonOption, print_result
from veilleuse.collector.settings import read_settings
from veilleuse.wire.interrupt import EXIT_INTERRUPTED
from veilleuse.wire.limits import PROTOCOL_MINOR_MAXIMUM, PROTOCOL_MINOR_MINIMUM
from veilleuse.wire.process import finish, say

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "init": ("veilleuse.collector.cli.init", "make a data directory with its certificate authority"),
    "serve": ("veilleuse.collector.cli.main:serve", "run the collector"),
    "token": ("veilleuse.collector.cli.token", "create, list and revoke enrolment tokens"),
    "hosts": ("veilleuse.collector.cli.hosts", "list and show machines; suspend, revoke, activate them"),
    "configuration": (
        "veilleuse.collector.cli.configuration",
        "give machines longer intervals, remotely",
    ),
    "calendar": ("veilleuse.collector.cli.calendar", "import, show and export the calendar of a site"),
    "account": (
        "veilleuse.collector.cli.account",
        "manage accounts that read figures over HTTP",
    ),
    "journal": ("veilleuse.collector.cli.journal", "show who read what, and why: the access journals"),
    "published": (
        "veilleuse.collector.cli.published",
        "list published periods, or take one back",
    ),
    "top": ("veilleuse.collector.cli.top", "watch the collector live"),
    "report": ("veilleuse.collector.cli.report", "write emissions and indicators to a file"),
    "backfill": ("veilleuse.collector.cli.backfill", "write released months for a time-series database"),
    "close": ("veilleuse.collector.cli.close:close", "close a year: freeze, sign and keep its figures"),
    "verify": ("veilleuse.collector.cli.close:verify", "check the signature and figures of a closed year"),
    "convert": ("veilleuse.collector.cli.convert", "convert kWh into kilograms of CO2e"),
    "factors": ("veilleuse.collector.cli.factors", "list, import and restate emission factors"),
    "perimeters": (
        "veilleuse.collector.cli.perimeters",
        "show and declare the perimeters of a year",
    ),
    "simulate": ("veilleuse.collector.cli.simulate", "fill a directory with a simulated fleet"),
    "check-method": ("veilleuse.collector.cli.check_method", "compute the method's worked answers"),
    "intensity": (
        "veilleuse.collector.cli.intensity",
        "fetch or import the grid's intensity over time",
    ),
    "derive": ("veilleuse.collector.cli.derive", "derive energy again with the present models"),
    "calibrate": (
        "veilleuse.collector.cli.calibrate",
        "fit the wall power of machines, per hardware model",
    ),
    "plugs": (
        "veilleuse.collector.cli.plugs",
        "study with plugs: compare modelled with metered energy",
    ),
    "meters": ("veilleuse.collector.cli.meters", "declare shared meters; show the balance of a room"),
    "action": ("veilleuse.collector.cli.action", "enter actions, so that their savings are measured"),
    "reen": ("veilleuse.collector.cli.reen", "import objectives and measures of the REEN sheet"),
    "inventory": (
        "veilleuse.collector.cli.inventory",
        "import the inventory, match it with machines, show it",
    ),
    "ca": ("veilleuse.collector.cli.ca", "show the certificate authority; replace its root"),
    "backup": ("veilleuse.collector.cli.backup:backup", "copy all data, keys and certificates into one file"),
    "restore": ("veilleuse.collector.cli.backup:restore", "restore a backup"),
    "query": ("veilleuse.collector.cli.query", "read the database with SQL; changes nothing"),
    "doctor": ("veilleuse.collector.cli.doctor", "check the collector, and say what to do"),
    "completion": ("veilleuse.collector.cli.completion", "print a script that completes commands in a shell"),
    "version": ("veilleuse.collector.cli.main:show_version", "print the version"),
}
"""Name → (module, with its function where it holds several commands; one line of help)."""

RETIRED: Final[Mapping[str, str]] = {
    "factors boavizta": "no figure used it; query BoaviztAPI itself for metals, primary energy and water",
}
"""Command removed in 0.3 → why, and what to do."""

# ClickException, from whichever module typer imports it.
_CLICK_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[2]
_CLICK_USAGE: Final[type[Exception]] = typer.BadParameter.__mro__[1]
_PLAIN_WORDS: Final = (
    (r"\. Did you mean", ": did you mean"),
    (r"Value error, ", ""),
    (r"Input should be a valid integer\b.*", "write a whole number"),
    (r"Input should be a valid number\b.*", "write a number"),
    (r"Input should be ", "it must be "),
)
"""Texts of the option parser → plain words."""


class _Commands(TyperGroup):
    """A group that imports a command's module when the command runs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command and its arguments; an unknown command fails with the nearest name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"no such command '{args[0]}'" + (f": did you mean '{near[0]}'?" if near else ""))
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command; None when there is none with that name."""
        if cmd_name not in COMMANDS:
            return None
        module, help_line = COMMANDS[cmd_name]
        command = get_command(_typer(*module.partition(":")[::2]))
        command.name, command.short_help = cmd_name, help_line
        translate_help(command)
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands from the table: `--help` imports no module."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


app = typer.Typer(cls=_Commands, no_args_is_help=True, **APP)


def _version(asked: bool) -> None:
    if asked:
        from veilleuse.collector.logs import product_version  # late, like the modules of commands

        print(f"veilleuse {product_version()}")
        raise typer.Exit


@app.callback()
def veilleuse(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Collect measurements of agents, and compute energy, emissions and sobriety indicators from them."""


def serve(config: ConfigOption = None) -> None:
    """Run the collector until SIGTERM or Ctrl-C."""
    settings = read_settings(config, tell=partial(say, "veilleuse", code=0))
    from veilleuse.collector import app as service

    raise typer.Exit(service.serve(settings))


def show_version(as_json: JsonOption = False) -> None:
    """Print the version of the program. With --json: also of the protocol, Python, SQLite and gRPC."""
    import platform
    from importlib.metadata import version

    from veilleuse.collector.logs import product_version
    from veilleuse.collector.sqlite_library import sqlite3

    own = product_version()
    facts = {
        "version": own,
        "protocol": f"v1.{PROTOCOL_MINOR_MINIMUM}-{PROTOCOL_MINOR_MAXIMUM}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "grpcio": version("grpcio"),
    }
    print_result(facts, f"veilleuse {own}", as_json)


def run(arguments: Sequence[str]) -> int:
    """Run a command line, given without the program's name; returns the exit code.

    Every error is one line on standard error.
    """
    return finish("veilleuse", partial(_run, list(arguments)), translate)


def _run(arguments: list[str]) -> int:
    # `serve` configures its own log.
    logging.basicConfig(level=logging.ERROR, format="veilleuse: %(message)s")
    for name, why in RETIRED.items():
        if arguments[: name.count(" ") + 1] == name.split():
            return say("veilleuse", translate(f"'veilleuse {name}' was removed in 0.3: {why}"), 2)
    root = get_command(app)
    translate_help(root)
    try:
        code = root.main(arguments, prog_name="veilleuse", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort:
        return EXIT_INTERRUPTED
    except _CLICK_ERROR as error:
        return _usage(error)


def _typer(name: str, function: str) -> typer.Typer:
    module = importlib.import_module(name)
    if not function:
        found: typer.Typer = module.app
        return found
    plain = typer.Typer(**APP)
    plain.command()(getattr(module, function))
    return plain


def _usage(error: Exception) -> int:
    context: Any = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error)
        return 2
    message = " ".join(str(getattr(error, "format_message", lambda: error)()).split()).rstrip(".")
    for pattern, plain in _PLAIN_WORDS:
        message = re.sub(pattern, plain, message)
    where = f"; see '{context.command_path} --help'" if context is not None else ""
    told = translate(message[:1].lower() + message[1:] + where)
    return say("veilleuse", told, 2 if isinstance(error, _CLICK_USAGE) else 1)
