# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse factors …`: import, history, withdrawal, contracts and mapping, with a running collector and
without."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.closed_years import Command, lead_commands_to, told
from tests.support.machines import served, settings_in
from tests.support.sources import opened
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.clock import today
from veilleuse.collector.documents.text import words
from veilleuse.collector.factors.book import factor_book
from veilleuse.collector.factors.versions import factor_document
from veilleuse.collector.model.accounts import Account, Role
from veilleuse.collector.reports.fleet_year import factor_chooser
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.collector.web.__main__ import build_api
from veilleuse.collector.web.access import MetricsAuth
from veilleuse.collector.web.api.query import ApiQuery
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.collector.web.metrics import snapshot
from veilleuse.collector.web.metrics.samples import fleet_exposition
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.collector.web.pages.method import factor_lines

FILE = Path(__file__).parents[3] / "fixtures" / "base_carbone" / "base_carbone.csv"
ADMIN = Account(1, "admin", Role.ADMIN, (), b"", 0, 2**62)


def written(tmp_path: Path, *changes: tuple[str, str]) -> str:
    """Write the fixture with texts replaced, and return its path."""
    text = FILE.read_bytes().decode("latin-1")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "changed.csv"
    path.write_bytes(text.encode("latin-1"))
    return str(path)


def test_a_dry_run_then_the_import_then_again(lyon: CollectorSettings, veilleuse: Command):
    """The dry run lists the changes and the import makes them; the same file again logs nothing."""
    code, out, _ = veilleuse("factors", "import", str(FILE), "--dry-run")
    assert code == 0
    assert "new        ADEME-FR-20R-2022-MOY    0.5515 kgCO2e/kWh" in out
    assert "7 factors in the file; would change: 7" in out
    assert told(veilleuse, "factors", "history") == []
    found = told(veilleuse, "factors", "import", str(FILE), "--why", "spring")
    assert {one["factor_id"]: one["kind"] for one in found["changed"]} == {
        "ADEME-FR-2021-MOY": "confirmed",
        "ADEME-FR-2022-MOY": "confirmed",
        "ADEME-FR-2023-MOY": "confirmed",
        "ADEME-FR-2024-MOY": "restated",  # the file gives its components and uncertainty
        "ADEME-FR-20R-2022-MOY": "new",
        "ADEME-GP-2022-MOY": "new",
        "ADEME-RE-2022-MOY": "new",
    }
    assert found["left"]["electricity of other countries"] == 1
    code, out, _ = veilleuse("factors", "import", str(FILE))
    assert (code, "changed: 0" in out) == (0, True)
    logged = told(veilleuse, "factors", "history", "ADEME-FR-2022-MOY")
    assert [one["version"] for one in logged] == [0, 2]
    assert logged[1]["file_sha256"] == hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert (logged[1]["why"], logged[1]["file_name"], logged[1]["supersedes"]) == ("spring", FILE.name, None)
    assert logged[0]["until_unix_milliseconds"] == logged[1]["from_unix_milliseconds"]


def test_a_refused_row_refuses_the_file(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """The refusal names the row and imports nothing; with the row left out the rest is imported."""
    file = written(tmp_path, (";0,0580;", ";58,0;"))
    code, out, err = veilleuse("factors", "import", file)
    assert code == 1
    assert "element 990023: 58.0 kgCO2e/kWh is no factor of a grid" in out
    assert "1 row of changed.csv refused: nothing was imported" in err
    assert told(veilleuse, "factors", "history") == []
    assert veilleuse("factors", "import", file, "--leave-out", "990023")[0] == 0


def test_a_restatement_and_what_was_known_before(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """convert and show use the new value, or the old one with an earlier --on; both stay in the log."""
    assert veilleuse("factors", "import", str(FILE))[0] == 0
    file = written(tmp_path, (";0,052;", ";0,0521;"))
    (changed,) = told(veilleuse, "factors", "import", file)["changed"]
    assert (changed["kind"], changed["before_total_kgco2e_per_kwh"], changed["before_version"]) == (
        "restated",
        "0.052",
        2,
    )
    ask = ("convert", "10000", "--zone", "FR", "--year", "2022")
    assert told(veilleuse, *ask)["kgco2e_total"] == 521
    assert told(veilleuse, *ask, "--on", "2020-01-01")["kgco2e_total"] == 520
    shown = told(veilleuse, "factors", "show", "ADEME-FR-2022-MOY")
    assert (shown["factor_kgco2e_per_kwh"], shown["version"], shown["official"]) == (0.0521, 8, True)
    assert shown["split_residual_kgco2e_per_kwh"] == pytest.approx(0.00006)
    code, out, _ = veilleuse("factors", "history", "ADEME-FR-2022-MOY")
    assert code == 0
    assert [line.split("\t")[1] for line in out.splitlines()] == ["kgCO2e/kWh", "0.052", "0.052", "0.0521"]


def test_a_withdrawal_brings_the_one_before_back(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """The earlier import, then the shipped factor return; a withdrawal needs a reason and deletes nothing."""
    assert veilleuse("factors", "import", str(FILE))[0] == 0
    assert veilleuse("factors", "import", written(tmp_path, (";0,052;", ";0,0521;")))[0] == 0
    name = "ADEME-FR-2022-MOY"
    assert veilleuse("factors", "withdraw", name)[0] == 2
    for rules, version in (("0.052", 9), ("0.052", 0)):
        found = told(veilleuse, "factors", "withdraw", name, "--why", "wrong file")
        assert float(found["in_force"]["total_kgco2e_per_kwh"]) == float(rules)
        assert told(veilleuse, "factors", "show", name)["version"] == version
    code, _, err = veilleuse("factors", "withdraw", name, "--why", "again")
    assert (code, "no imported factor" in err) == (1, True)
    assert len(told(veilleuse, "factors", "history", name)) == 5


def corsica_of_last_year(tmp_path: Path) -> str:
    """Write the fixture with Corsica's value as last year's, which may still be used provisionally."""
    text = FILE.read_bytes().decode("latin-1")
    lines = [line for line in text.split("\n") if ";990041;" in line]
    return written(tmp_path, *((line, line.replace("2022", str(today().year - 1))) for line in lines))


def test_through_the_running_collector(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """After an import over admin.sock, a site in Corsica can be made and the imported factors are used."""
    with served(lyon) as collector:
        operations = collector.collector.operations
        context = operations.context
        before = context.issuing.commit(lambda: context.known_factors.choose("FR", 2024))
        assert before.factor.version == 0
        assert veilleuse("factors", "import", corsica_of_last_year(tmp_path))[0] == 0
        made = operations.perform("site_put", {"site": "Bastia", "zone": "Corse"})
        assert made["zone"] == "FR-20R"
        # A calendar's --create used only the shipped factors.
        calendar = {"text": '[open]\nmonday = ["08:00-18:00"]\n', "name": "corte.toml", "who": "root"}
        asked = {"site": "Corte", "zone": "FR-20R", "create": True, **calendar}
        assert operations.perform("calendar_import", asked)["created"]
        chosen = context.issuing.commit(lambda: context.known_factors.choose("FR", 2024))
        assert chosen.factor.version == 4
        assert told(veilleuse, "factors", "list", "--zone", "FR-20R")[0]["version"] == 5


def test_one_book_is_in_force_everywhere(
    lyon: CollectorSettings, veilleuse: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """After an import in a running collector /metrics and the pages still had 0.0520, reports 0.0521."""
    monkeypatch.setattr(snapshot, "KEEP_SECONDS", -1.0)  # each look reads
    file = written(tmp_path, (";0,052;", ";0,0521;"))
    clock = datetime(2022, 6, 1, tzinfo=UTC).timestamp
    with served(lyon), closing(SqliteReader(lyon.data_dir)) as reader, ExitStack() as cleanup:
        outlook = SnapshotCache(reader, lyon, clock)
        desk, _ = build_api(
            lyon,
            MetricsAuth("127.0.0.1", 1, None),
            "0",
            cleanup.enter_context(open_reader(lyon.data_dir)),
            partial(open_reader, lyon.data_dir),
        )

        def grams() -> set[float]:
            """Return gCO2e per kWh in 2022 by each outlet."""
            look = outlook.take_snapshot()
            families = {family.name: family for family in fleet_exposition(look, "0", 10).collect()}
            (sample,) = families["veilleuse_factor_gco2e_per_kwh"].samples
            ((text, _),) = factor_lines(look, words("en"))
            asked = ApiQuery(ResourceKind.FACTORS, 1, 10, "json", zone="FR", year=2022)
            (row,) = (
                one for one in desk.desk._figures.document(asked, ADMIN).tables["rows"] if one["official"]
            )
            with opened(lyon.data_dir, lyon.reporting) as sources:
                reported = factor_chooser(sources)("FR", 2022).factor.total_kgco2e_per_kwh
            return {
                sample.value,
                float(text.split()[0]),
                float(str(row["factor_kgco2e_per_kwh"])) * 1000,
                told(veilleuse, "convert", "1000", "--year", "2022")["kgco2e_total"],
                float(reported * 1000),
            }

        assert grams() == {52.0}
        assert veilleuse("factors", "import", file)[0] == 0
        assert grams() == {52.1}


def test_a_value_that_cannot_be_found_again_is_flagged_until_it_is_imported(
    lyon: CollectorSettings, veilleuse: Command
):
    """ADEME's shipped 2023 has no number and no day of reading, so convert, show and the page of the
    method mark it. Its file adds both."""

    def flagged() -> set[bool]:
        text = veilleuse("convert", "1", "--year", "2023")[1]
        with closing(SqliteReader(lyon.data_dir)) as reader:
            look = SnapshotCache(reader, lyon, datetime(2023, 6, 1, tzinfo=UTC).timestamp).take_snapshot()
        ((_, note),) = factor_lines(look, words("en"))
        return {
            "not sourced" in text,
            note.startswith("Not sourced"),
            not told(veilleuse, "convert", "1", "--year", "2023")["factor_sourced"],
            not told(veilleuse, "factors", "show", "ADEME-FR-2023-MOY")["factor_sourced"],
        }

    assert flagged() == {True}
    owid = told(veilleuse, "convert", "1", "--zone", "DE", "--year", "2024")
    assert (owid["factor_published"], owid["factor_accessed"]) == ("2025-05", "2026-11-28")
    assert owid["factor_sourced"] is True
    assert veilleuse("factors", "import", str(FILE))[0] == 0
    assert flagged() == {False}


def test_without_the_import_there_is_no_site_in_corsica(lyon: CollectorSettings, veilleuse: Command):
    """The error asks to import factors, before records wait for a factor."""
    with open_collector(lyon) as collector, pytest.raises(Exception, match="factors import"):
        collector.operations.perform("site_put", {"site": "Bastia", "zone": "Corse"})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"factors": []}, "from 1 to"),
        ({"factors": [{}]}, "no factor"),
        ({"file_sha256": "x"}, "SHA-256"),
        ({"who": "a\nb"}, "control characters"),
        ({"factors": 3}, "wrong arguments"),
    ],
)
def test_the_socket_believes_nothing(lyon: CollectorSettings, arguments: dict[str, Any], why: str):
    """Wrong arguments are refused, and nothing is stored."""
    asked: dict[str, Any] = {"factors": [], "file_name": "f", "file_sha256": "ab" * 32, "who": "m"}
    with open_collector(lyon) as collector:
        asked["factors"] = [factor_document(factor_book().named("ADEME-FR-2022-MOY"))]
        with pytest.raises(Exception, match=why):
            collector.operations.perform("factors_import", asked | arguments)
        assert collector.writer.submit(collector.store.factors.versions).result(PATIENCE_SECONDS) == ()


def test_a_file_that_cannot_be_read(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """A missing file or an empty licence gives exit code 2."""
    for path in (tmp_path / "nowhere.csv", tmp_path):
        code, _, err = veilleuse("factors", "import", str(path))
        assert (code, "cannot read" in err) == (2, True)
    code, _, err = veilleuse("factors", "import", str(FILE), "--licence", "")
    assert (code, "licence" in err) == (2, True)


ADD = (
    *(
        "factors",
        "contract",
        "add",
        "--supplier",
        "Énergie d'ici",
        "--kwh",
        "1 200 000,5",
        "--factor",
        "0,0123",
    ),
    *(
        "--from",
        "2026-01-01",
        "--to",
        "2027-01-01",
        "--source",
        "contract 2025-17",
        "--guarantees",
        "1200 GO",
    ),
)


def test_contracts(lyon: CollectorSettings, veilleuse: Command):
    """A contract with French numbers is listed; a second one is refused, until a withdrawal with a reason."""
    assert veilleuse("factors", "contract", "list")[2].startswith("no contract is entered")
    assert told(veilleuse, *ADD) == {"contract_id": 1}
    assert "this contract was entered already, as 1" in veilleuse(*ADD)[2]
    (one,) = told(veilleuse, "factors", "contract", "list")
    assert (one["kwh"], one["factor_kgco2e_per_kwh"], one["basis"]) == (1_200_000.5, 0.0123, "market")
    assert (one["uncertainty_percent"], one["uncertainty_inherited"]) == (10, True)
    assert "1200000.5" in veilleuse("factors", "contract", "list")[1]  # not 1.2e+06
    assert veilleuse("factors", "contract", "withdraw", "1", "--why", "typing error")[0] == 0
    assert veilleuse("factors", "contract", "withdraw", "1", "--why", "again")[0] == 1
    assert told(veilleuse, *ADD, "--uncertainty", "5") == {"contract_id": 2}
    first, second = told(veilleuse, "factors", "contract", "list")
    assert (first["withdrawn"], first["withdrawn_why"], second["withdrawn"]) == (True, "typing error", False)
    assert "withdrawn" in veilleuse("factors", "contract", "list")[1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("--kwh", "0"), "more than 0"),
        (("--kwh", "-5"), "more than 0"),
        (("--kwh", "many"), "--kwh: 'many' is not a number"),
        (("--factor", "12"), "use 0 to 3"),
        (("--factor", "-0,1"), "use 0 to 3"),
        (("--to", "2026-01-01"), "not after its first day"),
        (("--from", "1 January"), "not a date"),
        (("--source", " "), "a supplier and a source"),
        (("--kwh", "1,200"), "thousands or a fraction"),
        (("--kwh", "1.200"), "thousands or a fraction"),
        (("--entity", "E" * 513), "at most 512"),
        (("--site", "Lion"), "no site 'Lion'"),
        (("--uncertainty", "0"), "uncertainty"),
    ],
)
def test_what_is_no_contract(lyon: CollectorSettings, veilleuse: Command, change: tuple[str, str], why: str):
    """Exit code 2, and nothing is entered."""
    code, _, err = veilleuse(*ADD, *change)
    assert (code, why in err) == (2, True), err
    assert told(veilleuse, "factors", "contract", "list") == []


def test_the_mapping_is_confirmed_once(lyon: CollectorSettings, veilleuse: Command):
    """The default mapping is shown, and refused while the colleges' contracts are missing.
    Once confirmed it has its reason; a second confirmation changes nothing."""
    shown = told(veilleuse, "factors", "mapping", "show")
    assert (shown["confirmed"], shown["to_be_entered"]) == (False, ["eple"])
    assert "not confirmed yet" in veilleuse("factors", "mapping", "show")[1]
    code, _, err = veilleuse("factors", "mapping", "confirm")
    assert (code, "--eple authority or --eple college" in err) == (2, True)
    code, _, err = veilleuse("factors", "mapping", "confirm", "--eple", "college")
    assert (code, "scope 3" in err) == (2, True)
    confirmed = ("factors", "mapping", "confirm", "--eple", "authority", "--item", "hosted=4.5/3.1")
    assert veilleuse(*confirmed, "--why", "comité du 3 mars")[0] == 0
    shown = told(veilleuse, "factors", "mapping", "show")
    lines = {one["power_context"]: one for one in shown["contexts"]}
    assert (shown["confirmed"], shown["why"], shown["to_be_entered"]) == (True, "comité du 3 mars", [])
    assert lines["home"]["origin"] == "remembered, not verified"
    assert "--item home=3.3/3.7" in veilleuse("factors", "mapping", "confirm")[1]
    assert lines["eple"]["upstream_and_losses"] == {"beges_item": "4.1", "ghg_category": "3.3"}
    assert (lines["hosted"]["beges_item"], lines["hosted"]["origin"]) == ("4.5", "entered")
    assert veilleuse(*confirmed)[0] == 0  # the same again is not a new confirmation
    assert told(veilleuse, "factors", "mapping", "show")["why"] == "comité du 3 mars"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--item", "hosted"), "write it like"),
        (("--item", "moon=4.5/3.1"), "write it like"),
        (("--item", "hosted=9.9.9/3.1"), "is not an item"),
        (("--item", "own_site=4.5/3.1"), "cannot be entered"),
        (("--eple", "nobody"), "authority or college"),
        (("--item", "eple=4.1/3.3"), "--eple college too"),
    ],
)
def test_what_is_no_mapping(lyon: CollectorSettings, veilleuse: Command, words: tuple[str, str], why: str):
    """The refusal has exit code 2."""
    code, _, err = veilleuse("factors", "mapping", "confirm", *words)
    assert (code, why in err) == (2, True), err


def test_without_a_data_directory(veilleuse: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Shipped factors and the default mapping are shown, and no directory is made."""
    lead_commands_to(settings_in(tmp_path), monkeypatch)
    assert told(veilleuse, "factors", "show", "ADEME-FR-2022-MOY")["version"] == 0
    assert told(veilleuse, "factors", "history") == []
    assert not told(veilleuse, "factors", "mapping", "show")["confirmed"]
    assert not (tmp_path / "data").exists()
    code, _, err = veilleuse("factors", "list", "--on", "yesterday")
    assert (code, "is not a date" in err) == (2, True)
