# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests the French of the commands: help of every command, errors, tables."""

from __future__ import annotations

import ast
import inspect
import io
import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from veilleuse.collector import errors
from veilleuse.collector.cli import language
from veilleuse.collector.cli.language import _WORD, FILES, translations
from veilleuse.collector.cli.main import COMMANDS, app, run
from veilleuse.collector.cli.shared import confirm, print_text
from veilleuse.wire.translations import Translations, read_french

LOCALE = Path(language.__file__).parent / "locale"
OF_THE_PARSER = ("parser", "placeholders")


@pytest.fixture
def french(monkeypatch):
    """Give this process a French locale."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")


def commands() -> Iterator[tuple[str, Any]]:
    """Yield (words of the command line, command) of every command, groups too."""
    root: Any = get_command(app)
    yield "", root
    for name in COMMANDS:
        yield from _below(name, root.get_command(None, name))


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield words, command
    for name, one in getattr(command, "commands", {}).items():
        yield from _below(f"{words} {name}", one)


def texts(command: Any) -> Iterator[str]:
    """Yield every text of a command's help, as the catalogue names it."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield " ".join(paragraph.split())
    yield command.short_help or ""
    for parameter in command.params:
        yield parameter.help or ""
        yield from _WORD.findall(parameter.metavar or "")


def test_every_help_text_has_its_french():
    """Paragraphs of commands, lines of options, placeholders: each is in the catalogue."""
    missing = [
        f"{words}: {text}"
        for words, command in commands()
        for text in texts(command)
        if text and translations().find(text) is None
    ]
    assert not missing, "\n".join(missing)
    assert sum(1 for _ in commands()) > 100


def test_help_of_every_command_is_french(french, capsys):
    """Headings, usage, types and defaults of every `--help`: no English word of the parser is left."""
    for words, _ in commands():
        assert run([*words.split(), "--help"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"Utilisation\u00a0: veilleuse{' ' * bool(words)}{words} "), shown
        assert "afficher cette aide" in shown
        english = r"\b(Usage|Commands|Show this|default:|required|COMMAND|FILE)\b|<(str|int|float)"
        assert not re.search(english, shown), f"{words}: {shown}"


def test_help_stays_english_elsewhere(capsys):
    """The catalogue is for French locales only."""
    assert run(["hosts", "list", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: veilleuse hosts list [OPTIONS]")
    assert "List machines." in shown


def test_no_help_of_the_catalogue_is_left_over():
    """Every line of help.toml belongs to a text of a command; others are of the parser."""
    tables = tomllib.loads((LOCALE / "help.toml").read_text(encoding="utf-8"))
    known = {text for _, command in commands() for text in texts(command)}
    left = (
        {text for name, table in tables.items() if name not in OF_THE_PARSER for text in table}
        - known
        - {help_line for _, help_line in COMMANDS.values()}
    )
    assert left == set()


FOR_AGENTS = ("enrolment", "ingest", "validate", "web", "app/gateway")
"""Folders whose errors go to agents or over HTTP."""
TOLD = {name for name, found in vars(errors).items() if isinstance(found, type)} - {
    "EnrolmentRefused",
    "MalformedRequest",
    "NotAuthorised",
    "OlderInstance",
    "QueueFull",
    "RecordRefused",
    "StoreFailing",
}
"""Errors that a command prints."""
LINES = 0.85
"""Least part of the printed lines that is: the parts of the others are in variables."""
FIELD = "⟦…⟧"
SHARE = 0.9
"""Least part of the errors of other folders that is in French."""


def templates(folder: Path) -> Iterator[str]:
    """Yield the message of each error that the files below raise, with FIELD for each of its fields."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func)
                text = template(node.exc.args[0]) if name in TOLD and node.exc.args else ""
                if re.search("[a-z]{2}", text):  # others only join two texts
                    yield text


def template(node: ast.expr) -> str:
    """Return the text of a string in code; empty for something else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [one.value if isinstance(one, ast.Constant) else FIELD for one in node.values]
        return "".join(map(str, parts))
    return ""


def test_errors_have_their_french():
    """Those that the commands raise themselves all have; of all that a command may print, most."""
    cli = Path(language.__file__).parent
    known = Translations(read_french("veilleuse.collector.cli", *FILES) | {FIELD: FIELD})
    missing = [text for text in templates(cli) if known.find(text) is None]
    assert not missing, "\n".join(missing)
    collector = cli.parent
    others = [
        text
        for folder in sorted(collector.iterdir())
        if folder.is_dir() and folder.name not in ("cli", *FOR_AGENTS)
        for text in templates(folder)
    ]
    left = [text for text in others if known.find(text) is None]
    assert 1 - len(left) / len(others) >= SHARE, "\n".join(left)


PRINTED = {"print_text": (0,), "print_note": (0,), "print_result": (1,), "confirm": (0,), "Finding": (2, 3)}
"""Function that prints a text, or a result of doctor → places of texts among its arguments."""


def variants(node: ast.expr) -> list[str]:
    """Return the texts of an expression with its alternatives, and FIELD for each other field."""
    if isinstance(node, ast.IfExp):
        return variants(node.body) + variants(node.orelse)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [before + after for before in variants(node.left) for after in variants(node.right)]
    if isinstance(node, ast.FormattedValue):
        return variants(node.value)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "plural":
        return [f"{node.args[1].value}{ending}" for ending in ("", "s")]  # type: ignore[attr-defined]
    if isinstance(node, ast.JoinedStr):
        return ["".join(parts) for parts in itertools.product(*map(variants, node.values))]
    return [node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else FIELD]


def printed(cli: Path) -> Iterator[str]:
    """Yield each line that the commands print, and the reasons of a year that cannot be closed."""
    reasons = [cli.parent / f"closed_years/{name}.py" for name in ("preconditions", "sign_off_conditions")]
    for file in [*sorted(cli.rglob("*.py")), *reasons]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            texts: list[ast.expr] = []
            if isinstance(node, ast.Call):
                places = PRINTED.get(ast.unparse(node.func), ())
                texts = [node.args[place] for place in places if place < len(node.args)]
            elif isinstance(node, ast.Yield) and node.value is not None and file in reasons:
                texts = [node.value]
            for line in (line for one in texts for text in variants(one) for line in text.split("\n")):
                if re.search("[a-z]{2}", line):
                    yield line.strip()


def test_printed_lines_have_their_french():
    """Results, notes, questions, findings of doctor: most lines, in all their alternatives."""
    known = Translations(read_french("veilleuse.collector.cli", *FILES) | {FIELD: FIELD})
    lines = sorted(set(printed(Path(language.__file__).parent)))
    left = [line for line in lines if known.find(line) is None]
    assert len(lines) > 200
    assert 1 - len(left) / len(lines) >= LINES, "\n".join(left)


class Terminal(io.StringIO):
    """Standard output or input that says it is a terminal."""

    def isatty(self) -> bool:
        return True


SEEN = [
    (
        "12 rows: 3 added, 1 changed, 8 unchanged, 0 absent, 0 refused (dry run: nothing was changed)",
        "12 lignes : 3 ajoutées, 1 modifiées, 8 inchangées, 0 absentes, 0 refusées (essai : rien n'a été modifié)",
    ),
    ("1 machine matched, 2 doubts: 'veilleuse inventory review list'", "1 machine rapprochée, 2 doutes : « veilleuse inventory review list »"),
    ("  machines use it from 2026-12-01 on: 1 closure, known until 2028-12-31", "  les machines s'en servent à partir du 2026-12-01 : 1 fermeture, connues jusqu'au 2028-12-31"),
    ("2025: 71,696.5 kWh, 3,305 kgCO2e", "2025 : 71\u202f696,5 kWh, 3\u202f305 kgCO2e"),
    ("would be 2025-r1 closed_provisional; nothing was written", "ce serait 2025-r1, close provisoirement ; rien n'a été écrit"),
    ("note: 2025 is open", "note : 2025 est ouverte"),
    ("open: 2 rows of the inventory are in doubt: look at 'veilleuse inventory review list' and decide", "à faire : 2 lignes de l'inventaire sont douteuses : voir « veilleuse inventory review list » et décider"),
    ("  active     the machine's own file: 14 own file, 1 waiting", "  active     le fichier de la machine : 14 selon leur fichier, 1 en attente"),
    ("inv.csv, line 2, site: 'x' is none of the words for it: use a, b", "inv.csv, ligne 2, site : « x » n'est aucun des mots prévus : choisir parmi a, b"),
    ("meters.csv, line 3: something new", "meters.csv, line 3: something new"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "told"), SEEN)
def test_lines_as_they_are_seen(line, told, french, monkeypatch):
    """Whole lines on a French terminal, numbers with French signs; in a pipe the same line is English."""
    for shown, expected in ((io.StringIO(), line), (Terminal(), told)):
        monkeypatch.setattr("sys.stdout", shown)
        print_text(line)
        assert shown.getvalue().replace("\u00a0", " ") == f"{expected}\n"


@pytest.mark.parametrize(
    ("answer", "yes"), [("o", True), ("oui", True), ("Y", True), ("n", False), ("", False)]
)
def test_a_question_in_french(answer, yes, french, monkeypatch, capsys):
    """It is asked on standard error, and answered in either language; anything else is a no."""
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    asked = (
        "Forget host 0123 (server of DSI at tour, active, last contact never), with all its records. Go on?"
    )
    assert confirm(asked) is yes
    assert capsys.readouterr().err.replace("\u00a0", " ") == (
        "Oublier la machine 0123 (server de DSI à tour, active, dernier contact : jamais), "
        "avec tous ses relevés. Continuer ? [o/N]: "
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hosts", "shw"], "pas de commande « shw » : peut-être « show » ; voir « veilleuse hosts --help »"),
        (["hosts", "show"], "il manque l'argument « MACHINE » ; voir « veilleuse hosts show --help »"),
        (
            ["top", "--interval", "x"],
            "valeur refusée pour « --interval » : écrire un nombre ; voir « veilleuse top --help »",
        ),
        (
            ["derive", "--jsn"],
            "pas d'option --jsn (options proches : --json) ; voir « veilleuse derive --help »",
        ),
        (
            ["query"],
            "donner une instruction SQL, ou --tables : p. ex. veilleuse query 'SELECT count(*) FROM hosts'",
        ),
        (["convert", "12x"], "« 12x » n'est pas un nombre : l'écrire comme 12500, 12.5 ou 12,5"),
        (
            ["convert", "12", "--config", "/nowhere"],
            "pas de fichier de configuration /nowhere : le créer, ou omettre --config",
        ),
        (
            ["factors", "boavizta"],
            "« veilleuse factors boavizta » n'existe plus depuis 0.3 : aucun chiffre ne s'en servait ; interroger BoaviztAPI pour les métaux, l'énergie primaire et l'eau",
        ),
    ],
)
def test_errors_as_they_are_seen(words, told, french, capsys):
    """One line in French on standard error, with the exit code of wrong usage."""
    assert run(words) == 2
    assert capsys.readouterr().err.replace("\u00a0", " ") == f"veilleuse: {told}\n"


HALVES = [
    "'grpc.workers' in /x must be a whole number, not a number of 70 bits",
    (
        "http.account_header needs http.proxy_secret_file: without a secret of the reverse proxy anybody who reaches "
        "http.address could name an account"
    ),
    (
        "http.proxy_secret_file needs http.metrics_token_file: what a reverse proxy passes on may come from this machine, "
        "and would be open without a token"
    ),
    "http.address 0.0.0.0:8640 is not on loopback: set http.metrics_token_file, or use 127.0.0.1",
    "intensity.ca_file cannot be used: ca_file /x: No such file or directory; name a file of certificates in PEM",
    "cannot read http.metrics_token_file /x: No such file or directory; make one with 'openssl rand -hex 32'",
    "'http.account_header' in /x is 'a b': it must be letters, digits and single hyphens, e.g. X-Veilleuse-Account",
    "the indicative ledger uses the series zz, which has no value (series with values: none)",
    "its process was ended by SIGKILL during 'releasing', with 12 MiB of memory",
]


@pytest.mark.parametrize("text", HALVES)
def test_an_error_of_the_settings_is_french_as_a_whole(text):
    """No part of it stays English."""
    told = language.translations()(text)
    assert not re.search(r"\b(the|not|of|is|needs|must|make|with|name a|none|and|MiB|such)\b", told), told


def headings() -> Iterator[str]:
    """Yield the keys of the rows that the commands print as tables, as a terminal shows them."""
    for file in sorted(Path(language.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for row in (one for part in _parts_with_rows(node) for one in ast.walk(part)):
                if isinstance(row, ast.Dict):
                    keys = [one.value for one in row.keys if isinstance(one, ast.Constant)]
                    yield from (str(key).replace("_", " ") for key in keys if key)


def _parts_with_rows(node: ast.AST) -> list[Any]:
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "rows":
        return [node]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print_table", "print_result"):
        return node.args[ast.unparse(node.func) == "print_result" :]  # the first one is for --json
    is_row = isinstance(node, ast.FunctionDef) and "dict[str, str]" in ast.unparse(node.returns or node)
    return [node] if is_row else []


def test_headings_of_tables_have_their_french():
    """Each heading of a table is in the catalogue."""
    found = set(headings())
    assert {"host", "last contact", "supplier"} <= found
    assert {name for name in found if translations().find(name) is None} == set()
