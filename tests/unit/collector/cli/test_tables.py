# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tables are aligned on a terminal; a pipe gets tab-separated lines that never change."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len

from veilleuse.collector.cli.shared import print_table

ROWS = [
    {"host": "0123456789ab", "entity": "Métropole > Collèges > Collège des Terreaux", "kWh": "1 234,5", "note": ""},
    {"host": "ba9876543210", "entity": "日本語の長い名前", "kWh": "7", "note": "a\x1b[31mb\nc"},
    {"host": "cccccccccccc", "entity": "Voirie", "kWh": "–", "note": "[bold]x[/]"},
]  # fmt: skip


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, rows: list[dict[str, str]] = ROWS) -> list[str]:  # fmt: skip
    """Return the lines that a terminal of this width gets."""
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    print_table(rows, empty="")
    return re.sub("\x1b\\[[01]m", "", out.getvalue()).splitlines()  # the head is bold


def test_columns_are_aligned_by_what_a_terminal_shows(monkeypatch):
    """Numbers end at one column, texts begin at one, also below characters of double width."""
    head, *lines = on_a_terminal(monkeypatch, 100)
    begin = cell_len(head[: head.index("entity")])
    end = cell_len(head[: head.index("kWh")]) + 3
    for line, row in zip(lines, ROWS, strict=True):
        assert line.startswith(row["host"])
        before, _, after = line.partition(row["entity"])
        assert cell_len(before) == begin
        number = after.lstrip()
        assert cell_len(line) - cell_len(number) + cell_len(row["kWh"]) == end
        assert number.startswith(row["kWh"])


def test_data_moves_no_cursor_and_is_no_markup(monkeypatch):
    """Control characters are spaces, and brackets are shown as they are."""
    shown = "\n".join(on_a_terminal(monkeypatch, 100))
    assert "\x1b" not in shown
    assert "a [31mb c" in shown
    assert "[bold]x[/]" in shown


@pytest.mark.parametrize("columns", [40, 60])
def test_long_cells_are_folded_on_a_narrow_terminal(monkeypatch, columns):
    """No line is wider than the terminal, no character is lost, and the first column stays whole."""
    lines = on_a_terminal(monkeypatch, columns)
    assert all(cell_len(line) <= columns for line in lines)
    assert [line.split()[0] for line in lines if line[0] not in " h"] == [row["host"] for row in ROWS]
    entity = "".join(line[14:].split("  ")[0].strip() for line in lines if line.strip())
    assert "Terreaux" in entity.replace(" ", "")


def test_headings_are_french_on_a_french_terminal_only(monkeypatch, capsys):
    """A pipe gets the same lines in every locale: programs read them."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    print_table(ROWS[2:], empty="")
    assert capsys.readouterr().out == "host\tentity\tkWh\tnote\ncccccccccccc\tVoirie\t–\t[bold]x[/]\n"
    assert on_a_terminal(monkeypatch, 100)[0].split() == ["machine", "entité", "kWh", "note"]


def test_words_in_cells_are_french_on_a_french_terminal_only(monkeypatch, capsys):
    """Our words are translated, by column where they have two meanings; data and words of options are not."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    rows = [
        {"state": "revoked", "status": "revoked", "until": "never", "class": "laptop", "type": "closed", "entity": "closed"}
    ]  # fmt: skip
    print_table(rows, empty="")
    assert capsys.readouterr().out.splitlines()[1].split("\t") == list(rows[0].values())
    shown = on_a_terminal(monkeypatch, 100, rows)[1].split()
    assert shown == ["révoqué", "revoked", "jamais", "laptop", "fermé", "closed"]


def test_a_heading_wider_than_its_cells_stays_whole(monkeypatch):
    """The heading of the first column is not folded where other columns are."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    assert on_a_terminal(monkeypatch, 30, [{"meter": "M1", "note": "a" * 40}])[0].split() == [
        "compteur",
        "note",
    ]


def test_names_of_others_are_not_translated(monkeypatch):
    """A column of SQL keeps its name."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    print_table([{"host_id": "1"}], empty="", verbatim=True)
    assert "host_id" in out.getvalue()


def test_no_character_is_lost_beside_a_wide_first_column(monkeypatch):
    """A folded cell is whole: rich cut it where the first column took the room."""
    lines = on_a_terminal(monkeypatch, 20, [{"host": "0123456789ab", "note": "abcdefghij"}])
    assert "".join(line[14:].strip() for line in lines[1:]) == "abcdefghij"
