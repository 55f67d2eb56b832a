# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse perimeters …`: which part of the fleet a device belongs to, and who declared it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from veilleuse.collector.cli.main import run
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import DEFAULT_PERIMETERS, GroupKey
from veilleuse.wire.vocabulary import Population

FILE = """
[[perimeter]]
name = "Médiathèques"
entity = "Métropole > Culture"
population = "workstation"
[[perimeter]]
name = "Postes"
population = "workstation"
"""

pytestmark = pytest.mark.usefixtures("lyon")


def declare(folder: Path, text: str, year: int, *words: str) -> int:
    """Declare the perimeters of a file, and return the exit code."""
    file = folder / "perimeters.toml"
    file.write_text(text)
    return run(("perimeters", "declare", str(file), "--year", str(year), *words))


def rules(capsys: pytest.CaptureFixture[str], year: int) -> list[dict[str, str]]:
    """Return the rules that `show` prints for a year."""
    capsys.readouterr()
    assert run(("perimeters", "show", "--year", str(year), "--json")) == 0
    return list(json.loads(capsys.readouterr().out)["rules"])


@pytest.mark.parametrize(
    ("population", "context", "device_class", "perimeter"),
    [
        (Population.WORKSTATION, PowerContext.OWN_SITE, "laptop", "agents_posts"),
        (Population.WORKSTATION, PowerContext.EPLE, "sff", "colleges"),
        (Population.CLASSROOM, PowerContext.OWN_SITE, "sff", "colleges"),
        (Population.SERVER, PowerContext.OWN_SITE, "server", "data_centre"),
        (Population.SERVER, PowerContext.HOSTED, "server", "hosted"),
        (None, PowerContext.OWN_SITE, "switch", "other"),
    ],
)
def test_the_default_perimeter_of_a_device(population, context, device_class, perimeter):
    """A desk in a college is the colleges'; a hosted server is not the data centre's."""
    key = GroupKey(
        population=population, entity="Métropole", device_class=device_class, power_context=context
    )
    assert DEFAULT_PERIMETERS.of(key) == perimeter


def test_a_year_keeps_its_perimeters(tmp_path, capsys):
    """A declaration holds for its year and those after it, and never for one before it."""
    assert declare(tmp_path, FILE, 2026, "--why", "comité du 3 mars") == 0
    assert "Médiathèques, Postes, other" in capsys.readouterr().out
    assert declare(tmp_path, FILE.replace("Culture", "Sports"), 2028) == 0
    assert rules(capsys, 2025) == DEFAULT_PERIMETERS.document()
    assert rules(capsys, 2026)[0] == {
        "perimeter": "Médiathèques",
        "entity": "Métropole > Culture",
        "population": "workstation",
    }
    assert rules(capsys, 2027) == rules(capsys, 2026)
    assert rules(capsys, 2028)[0]["entity"] == "Métropole > Sports"
    assert declare(tmp_path, FILE.replace("Médiathèques", "Culture"), 2026) == 0, "corrected before the close"
    assert rules(capsys, 2027)[0]["perimeter"] == "Culture"
    assert rules(capsys, 2028)[0]["perimeter"] == "Médiathèques"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "declares no perimeter"),
        ("perimeter = 3", r"write \[\[perimeter\]\]"),
        ('[[perimeter]]\nname = "a"', "at least one of entity, population, power_context, device_class"),
        ('[[perimeter]]\npopulation = "server"', "it needs a 'name'"),
        ('[[perimeter]]\nname = "a"\npopulation = "servers"', "did you mean 'server'"),
        ('[[perimeter]]\nname = "a"\nentities = "b"', "did you mean 'entity'"),
        ('[[perimeter]]\nname = "a"\npower_context = "home"', "unknown 'home'"),
        ("".join(f'[[perimeter]]\nname = "{n}"\npopulation = "server"\n' for n in range(13)), "at most 12"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, capsys, text, why):
    """The error names the file, the rule and the remedy; nothing is declared."""
    assert declare(tmp_path, text, 2026) == 2
    assert re.search(f"perimeters.toml.*{why}", capsys.readouterr().err)
    assert rules(capsys, 2026) == DEFAULT_PERIMETERS.document()


def test_a_year_out_of_range_is_refused(tmp_path, capsys):
    """A year that no report can ask for is refused."""
    assert declare(tmp_path, FILE, 20260) == 2
    assert "--year 20260: use one from 2000" in capsys.readouterr().err
