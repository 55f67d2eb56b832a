# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse inventory …`: whole imports, separate names, matched machines and decided doubts."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import clock
from tests.support.closed_years import command, lead_commands_to
from tests.support.fakes.glpi import APP_TOKEN, USER_TOKEN, computer, fake_glpi
from tests.support.machines import make, served, settings_in
from tests.support.pushes import NOW, enrol
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.app.data_directory import open_collector, read_fleet_key
from veilleuse.collector.app.schedule import run_daily_tasks
from veilleuse.collector.cli.main import run
from veilleuse.collector.errors import OvertakenImport
from veilleuse.collector.model.inventory import Asset, Entity, InventoryChange, PowerContext
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.inventory import SqliteInventoryReader
from veilleuse.wire.pseudonym import pseudonym
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

Command = Callable[..., tuple[int, str, str]]
LIST = """\
"Nom";"Entité";"Statut";"Fabricant";"Numéro de série";"Type";"Modèle";"Lieu";"Numéro d'inventaire";"ID";"Usager"
"SRV-CANARI";"Métropole > DSI";"En service";"Dell Inc.";"SERIALCANARI1";"Serveur";"PowerEdge R650";"Lyon > Salle A";"INVCANARI1";"1";"dupont"
"PC-CANARI";"Métropole > Collèges";"En service";"Dell Inc.";"SERIALCANARI2";"Mini Tower";"OptiPlex 7090";"Lyon > Salle B";"INVCANARI2";"2";"martin"
"""
CANARIES = ("CANARI", "dupont", "martin", "Salle")


class Place:
    """Holds a data directory with one machine of each population, and reads the results of commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: CollectorSettings = settings_in(folder)
        make(self.settings, "Lyon")
        with open_collector(self.settings) as collector:
            registry = collector.store.registry
            made = collector.writer.submit(
                lambda: [enrol(registry, one, "Lyon") for one in Population]
            ).result(PATIENCE_SECONDS)
            hosts = {host.host_id: host for host in registry.hosts()}
            self.hosts = {hosts[host_id].population: hosts[host_id] for host_id in made}

    def gives_serial(self, population: Population, serial: str) -> None:
        """Store a machine's pseudonym of a serial number, as at enrolment, and the class server."""
        key = bytes.fromhex(read_fleet_key(self.settings.data_dir))
        host = self.hosts[population]
        facts = pb.Facts(device_class=pb.DEVICE_CLASS_SERVER).SerializeToString()

        def job() -> None:
            registry.put_pseudonyms(host.agent_id, pseudonym(key, serial), b"")
            registry.record_hello(host.host_id, facts_wire=facts, health_wire=None, now_unix_milliseconds=NOW)

        with open_collector(self.settings) as collector:
            registry = collector.store.registry
            collector.writer.submit(job).result(PATIENCE_SECONDS)

    def file(self, text: str, name: str = "parc.csv") -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def assets(self) -> tuple[Asset, ...]:
        with closing(SqliteInventoryReader(self.settings.data_dir)) as reader:
            return reader.assets()

    def agent(self, population: Population) -> str:
        return self.hosts[population].agent_id.hex()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Make the place, and set its settings in the environment."""
    made = Place(tmp_path)
    lead_commands_to(made.settings, monkeypatch)
    return made


@pytest.fixture
def veilleuse(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function: `veilleuse("show")` → (exit code, output, errors)."""
    return command(capsys, "inventory")


def asked(veilleuse: Command, *words: str, code: int = 0) -> Any:
    """Return the answer of a command with --json."""
    got, out, err = veilleuse(*words, "--json")
    assert got == code, out + err
    return json.loads(out)


def test_dry_run_import_and_again(place: Place, veilleuse: Command):
    """The dry run reports and writes nothing; the import writes; a second one changes nothing.
    Unread columns are reported."""
    file = place.file(LIST)
    dry = asked(veilleuse, "import", file, "--dry-run")
    assert (dry["added"], dry["written"], place.assets()) == (2, False, ())
    made = asked(veilleuse, "import", file)
    assert (made["added"], made["refused"], made["unknown"]) == (2, 0, {"column": {"Usager": 1}})
    server, desk = place.assets()
    assert (server.device_class, server.population, server.model) == (
        "server",
        Population.SERVER,
        "PowerEdge R650",
    )
    assert (desk.population, desk.power_context) == (Population.WORKSTATION, PowerContext.OWN_SITE)
    assert (desk.placements[0].entity, desk.placements[0].site) == ("Métropole > Collèges", "Lyon")
    again = asked(veilleuse, "import", file)
    assert (again["added"], again["changed"], again["unchanged"], again["written"]) == (0, 0, 2, False)


def test_through_the_running_collector(place: Place, veilleuse: Command, monkeypatch: pytest.MonkeyPatch):
    """An import over admin.sock is sent in pieces where one line would be too long."""
    monkeypatch.setattr("veilleuse.collector.ipc.PIECE_BYTES", 4_096)
    rows = "".join(
        f'"PC{n}";"A";"";"";"SN{n:05}{"X" * 90}";"Tower";"M{n}";"";"";"{n}";""\n' for n in range(3, 1_000)
    )
    with served(place.settings):
        made = asked(veilleuse, "import", place.file(LIST + rows))
        assert made["added"] == 999
        assert asked(veilleuse, "review", "list")["assets"] == 999
    assert len(place.assets()) == 999


@pytest.mark.promise("P8")
def test_names_stay_in_identity_db(place: Place, veilleuse: Command, figure: Callable[[str], None]):
    """P8: data.db has no name, serial, inventory number, room or user; identity.db no serial and no user."""
    asked(veilleuse, "import", place.file(LIST))
    data = b"".join(path.read_bytes() for path in place.settings.data_dir.glob("data.db*"))
    identity = b"".join(path.read_bytes() for path in place.settings.data_dir.glob("identity.db*"))
    found = [word for word in CANARIES if word.encode() in data]
    figure(f"{len(found)} of {len(CANARIES)} names, numbers and serials of an inventory found in data.db")
    assert found == []
    assert b"INVCANARI1" in identity
    for word in (b"SERIALCANARI", b"dupont", b"martin"):
        assert word not in identity


def test_refused_rows_are_told_and_the_rest_comes_in(place: Place, veilleuse: Command):
    """A refusal names file, line, column and remedy; exit code 3 means done with warnings."""
    bad = (
        LIST
        + '"X";"A";"";"";"S3";"Tower";"M";"";"";"3";""\n"Y\u202e";"A";"";"";"S4";"Tower";"M";"";"";"4";""\n"Z";"A"\n'
    )
    code, out, _ = veilleuse("import", place.file(bad))
    assert code == 3
    assert "parc.csv, line 5, Nom: a hidden character (U+202E: right-to-left override): take it out" in out
    assert "parc.csv, line 6: 2 cells, and the heading has 11" in out
    assert "5 rows: 3 added, 0 changed, 0 unchanged, 0 absent, 2 refused" in out
    assert len(place.assets()) == 3


def test_absent_ones(place: Place, veilleuse: Command):
    """Absent assets are listed with names, retired on request, and back in service with the next list."""
    asked(veilleuse, "import", place.file(LIST))
    shorter = place.file("\n".join(LIST.splitlines()[:2]) + "\n", "short.csv")
    code, out, _ = veilleuse("import", shorter)
    assert (code, "#2 PC-CANARI INVCANARI2" in out, "1 absent" in out) == (0, True, True)
    assert [one.out_of_service_on for one in place.assets()] == [None, None]
    assert place.assets()[1].absent_since is not None
    assert asked(veilleuse, "import", shorter, "--retire-absent")["retired"] == 1
    assert place.assets()[1].out_of_service_on is not None
    asked(veilleuse, "import", place.file(LIST))
    assert [(one.out_of_service_on, one.absent_since) for one in place.assets()] == [(None, None)] * 2


def test_names_of_a_dry_run_are_in_the_journal(place: Place, veilleuse: Command):
    """P8: an import of an empty list shows the names of absent assets, so each one is in the journal."""
    asked(veilleuse, "import", place.file(LIST))
    empty = place.file(LIST.splitlines()[0] + "\n")
    for option, code in (("--dry-run", 0), ("--entity=A", 0), ("--entity=A", 0), ("--retire-absent", 3)):
        found = asked(veilleuse, "import", empty, "--why", "a look", option, code=code)
        assert [one["name"] for one in found["absent_assets"]] == ["SRV-CANARI", "PC-CANARI"]
        assert found["retire_refused"] == (option == "--retire-absent")
    assert "2 absent ones stay in service" in veilleuse("import", empty, "--retire-absent")[1]
    with closing(sqlite3.connect(place.settings.data_dir / "identity.db")) as database:
        journal = [what for what, why in database.execute("SELECT what, why FROM journal") if why == "a look"]
    assert journal == [
        "names of 2 absent assets",
        "import of the inventory: 2 assets",
        *["names of 2 absent assets"] * 2,
    ]


def test_a_lease_that_ends_later_is_in_service(place: Place, veilleuse: Command):
    """An asset is in service until the last day of its lease."""
    day = (clock.today() + timedelta(days=300)).isoformat()
    asked(
        veilleuse,
        "import",
        place.file(f"key;device_class;entity;out_of_service_on\nK;tower;A;{day}\nL;tower;A;2020-01-02\n"),
    )
    assert [one["in_service"] for one in asked(veilleuse, "show")["groups"]] == [1]


def test_machines_are_matched_by_their_serial(
    place: Place, veilleuse: Command, capsys: pytest.CaptureFixture[str]
):
    """Agent and importer make the same pseudonym (docs/wire.md §6); forgotten machines are not matched."""
    place.gives_serial(Population.SERVER, "SERIALCANARI1")
    made = asked(veilleuse, "import", place.file(LIST))
    assert made["matching"] == {"matched": 1, "links_changed": 1, "doubts": 0, "assets": 2}
    assert place.assets()[0].host_id == place.hosts[Population.SERVER].host_id
    assert run(["hosts", "forget", place.agent(Population.SERVER), "--why", "test", "--yes"]) == 0
    capsys.readouterr()
    assert place.assets()[0].host_id is None
    assert asked(veilleuse, "review", "list")["matched"] == 0


def test_the_doubtful_is_reviewed(place: Place, veilleuse: Command):
    """Two assets of one machine are listed with exit code 3 until decided, and stay decided.
    A machine without pseudonyms can be matched by hand."""
    place.gives_serial(Population.SERVER, "SERIALCANARI1")
    asked(veilleuse, "import", place.file(LIST.replace("SERIALCANARI2", "SERIALCANARI1")))
    listed = asked(veilleuse, "review", "list", code=3)
    assert [(one["kind"], one["asset"]["name"]) for one in listed["review"]] == [
        ("several_assets", "SRV-CANARI"),
        ("several_assets", "PC-CANARI"),
    ]
    server, desk = place.agent(Population.SERVER), place.agent(Population.WORKSTATION)
    assert veilleuse("review", "match", "INVCANARI1", server)[0] == 0
    assert veilleuse("review", "match", "PC-CANARI", desk)[0] == 0
    assert [one.host_id for one in place.assets()] == [
        place.hosts[Population.SERVER].host_id,
        place.hosts[Population.WORKSTATION].host_id,
    ]
    assert veilleuse("review", "ignore", "#2")[0] == 0
    assert asked(veilleuse, "review", "list")["doubts"] == 0
    assert (
        asked(veilleuse, "import", place.file(LIST.replace("SERIALCANARI2", "SERIALCANARI1")))["matching"][
            "matched"
        ]
        == 2
    )


def test_a_duplicate_counts_no_more(place: Place, veilleuse: Command):
    """A duplicate is not counted, not even after the next import."""
    asked(veilleuse, "import", place.file(LIST))
    assert veilleuse("review", "duplicate", "2")[0] == 0
    assert [one.asset_id for one in place.assets()] == [1]
    asked(veilleuse, "import", place.file(LIST))
    assert [one.asset_id for one in place.assets()] == [1]


def test_doubts_of_one_kind_are_accepted_together(place: Place, veilleuse: Command):
    """Doubts about the class can be accepted together; more serious ones need a decision each."""
    place.gives_serial(Population.SERVER, "SERIALCANARI1")
    text = LIST.replace('"Serveur"', '"Portable"')
    asked(veilleuse, "import", place.file(text))
    assert asked(veilleuse, "review", "list", code=3)["review"][0]["kind"] == "class_disagrees"
    assert veilleuse("review", "match", "--all", "several_hosts")[0] == 2
    assert veilleuse("review", "match", "--all", "nonsense")[0] == 2
    assert asked(veilleuse, "review", "match", "--all", "class_disagrees")["decided"] == 1
    assert place.assets()[0].host_id is not None


def test_show_and_the_journal(place: Place, veilleuse: Command):
    """Counts show no name; a look at one asset is in the access journal."""
    asked(veilleuse, "import", place.file(LIST))
    groups = asked(veilleuse, "show")["groups"]
    assert [(one["entity"], one["device_class"], one["assets"]) for one in groups] == [
        ("Métropole > Collèges", "tower", 1),
        ("Métropole > DSI", "server", 1),
    ]
    one = asked(veilleuse, "show", "Computer:2", "--why", "a question of the school")
    assert (one["name"], one["has_serial"], one["row"]["Modèle"]) == ("PC-CANARI", True, "OptiPlex 7090")
    assert "SERIALCANARI2" not in json.dumps(one)
    with closing(sqlite3.connect(place.settings.data_dir / "identity.db")) as database:
        journal = database.execute("SELECT what, why FROM journal ORDER BY journal_id").fetchall()
    assert journal[-1] == ("asset 2", "a question of the school")
    assert journal[0] == ("import of the inventory: 2 assets", "veilleuse inventory import parc.csv")
    assert veilleuse("show", "nobody")[0] == 1


@pytest.mark.parametrize("name", ['=HYPERLINK("x")', "＝1+1", "＋1", "－1", "＠SUM(A1)", "@SUM(A1)"])
def test_export_and_back(place: Place, veilleuse: Command, name: str):
    """Names need a reason, and no cell is a formula, in East Asia either.
    An export with names can be imported again and changes nothing."""
    asked(veilleuse, "import", place.file(LIST.replace("PC-CANARI", name.replace('"', '""'))))
    code, out, _ = veilleuse("export")
    assert code == 0
    assert "CANARI" not in out
    assert veilleuse("export", "--names")[0] == 1
    target = place.folder / "out.csv"
    assert veilleuse("export", "--names", "--why", "audit", "-o", str(target))[0] == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert veilleuse("export", "-o", str(target))[0] == 1
    rows = list(csv.DictReader(io.StringIO(target.read_text(encoding="utf-8"))))
    assert rows[1]["name"] == f"'{name}"
    assert not any(re.match(r"\s*[=+\-@＝＋－＠]", cell) for row in rows for cell in row.values())
    again = asked(veilleuse, "import", str(target), "--source", "glpi")
    assert (again["added"], again["absent"]) == (0, 0)
    assert place.assets()[1].placements[0].site == "Lyon"


def test_entities_tell_what_rows_do_not(place: Place, veilleuse: Command):
    """Site, context and population come from the nearest entity that has them; a server stays a server."""
    text = LIST.replace("Lyon > Salle A", "").replace("Lyon > Salle B", "")
    asked(veilleuse, "import", place.file(text))
    tree = "entity;site;power_context;population\nMétropole;Lyon;leased_site;\nMétropole > Collèges;;eple;classroom\n"
    made = asked(veilleuse, "import", place.file(tree, "tree.csv"))
    assert made["other_rows"]["entities"] == {"new": 2, "gone": 0}
    server, desk = place.assets()
    assert (server.power_context, server.population, server.placements[0].site) == (
        "leased_site",
        "server",
        "Lyon",
    )
    assert (desk.power_context, desk.population, desk.placements[0].site) == ("eple", "classroom", "Lyon")


def test_the_other_kinds(place: Place, veilleuse: Command):
    """Purchases, retirements and headcounts have exact amounts, and are read by year and day."""
    asked(veilleuse, "import", place.file(LIST))
    asked(
        veilleuse,
        "import",
        place.file("year;category;amount_excluding_vat_eur;reused;units\n2025;PC;1 234,50;oui;3\n", "p.csv"),
    )
    asked(
        veilleuse,
        "import",
        place.file("day;destination;asset;reuse_committed\n2025-06-30;reuse;INVCANARI2;yes\n", "r.csv"),
        "--source",
        "glpi",
    )
    asked(
        veilleuse,
        "import",
        place.file("entity;users;from_day;telework_days_per_week\nMétropole;9000;2025-01-01;1,5\n", "h.csv"),
    )
    with closing(SqliteInventoryReader(place.settings.data_dir)) as reader:
        assert [str(one.amount_excluding_vat_eur) for one in reader.purchases(2025)] == ["1234.50"]
        assert reader.purchases(2024) == ()
        (gone,) = reader.retirements(date(2025, 6, 30), date(2025, 7, 1))
        assert (gone.asset_id, gone.device_class, gone.reuse_committed) == (2, "tower", True)
        assert reader.retirements(date(2025, 7, 1), date(2026, 1, 1)) == ()
        assert [(one.users, str(one.telework_days_per_week)) for one in reader.headcounts()] == [
            (9000, "1.5")
        ]
        assert reader.inventory_imported_on() is not None
        assert reader.entities()[0].name == "Métropole"
    assert place.assets()[1].out_of_service_on == date(2025, 6, 30)


def test_pull_is_the_import_of_its_lists(place: Place, veilleuse: Command):
    """Pulling from a fake GLPI needs credentials of mode 0600.
    An import of the same assets then adds none."""
    with fake_glpi() as fake:
        fake.items["Computer"] = [computer(1, name="SRV-CANARI"), computer(2)]
        fake.items["Monitor"] = []
        secret = place.folder / "glpi.toml"
        secret.write_text(f'url = "{fake.url}"\nuser_token = "{USER_TOKEN}"\napp_token = "{APP_TOKEN}"\n')
        secret.chmod(0o600)
        made = asked(veilleuse, "pull", "--credentials", str(secret))
        assert made["added"] == 2
        secret.chmod(0o644)
        code, _, err = veilleuse("pull", "--credentials", str(secret))
        assert (code, "chmod 600" in err, USER_TOKEN in err) == (2, True, False)
    assert asked(veilleuse, "import", place.file(LIST))["added"] == 0


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("import", "/nowhere/parc.csv"), 2, "cannot read"),
        (("import", "/"), 2, "cannot read"),
        (("import", "{file}", "--format", "xlsx"), 2, "use glpi_csv"),
        (("import", "{file}", "--item", "car"), 2, "use computer"),
        (("import", "{file}", "--mapping", "{file}"), 2, "no TOML"),
        (("import", "{file}", "--source", ""), 2, "--source"),
        (("import", "{file}", "--entity", "a > > b"), 2, "--entity"),
        (("pull", "--credentials", "{file}", "--items", "car"), 2, "use computer"),
        (("template", "cars"), 2, "use assets"),
        (("review", "match"), 2, "name an asset and a host"),
        (("review", "match", "nobody", "ff"), 1, "no"),
        (("review", "ignore", "nobody"), 1, "no asset 'nobody'"),
    ],
)
def test_wrong_use(place: Place, veilleuse: Command, words: tuple[str, ...], code: int, what: str):
    """Wrong use gives one line and the usual exit code."""
    file = place.file("x = \n", "x.csv")
    got, _, err = veilleuse(*(word.replace("{file}", file) for word in words))
    assert got == code
    assert what in err
    assert len(err.strip().splitlines()) == 1


def test_an_older_backup_of_one_file(place: Place, veilleuse: Command):
    """With an older data.db beside a newer identity.db nothing is made up, and an import updates both."""
    data = place.settings.data_dir / "data.db"
    asked(veilleuse, "import", place.file(LIST))
    old = data.read_bytes()
    for kind in ("Portable", "Tower"):
        asked(
            veilleuse,
            "import",
            place.file(
                LIST.replace("Mini Tower", kind)
                + f'"N";"A";"";"";"S{kind}";"{kind}";"";"";"";"{len(kind)}";""\n'
            ),
        )
    data.write_bytes(old)
    assert [one.device_class for one in place.assets()] == ["server", "tower"]
    made = asked(veilleuse, "import", place.file(LIST))
    assert (made["added"], made["refused"]) == (0, 0)
    assert len(place.assets()) == 2


def test_an_import_that_was_overtaken_writes_nothing(place: Place):
    """A plan based on an older inventory is refused, and the earlier change stays."""
    with open_collector(place.settings) as collector:
        store, context = collector.store.inventory, collector.operations.context
        kept = context.alone(store.snapshot)
        first, second = (
            InventoryChange(kept.generation + 1, date(2026, 1, 1), entities=(Entity(name, None),))
            for name in "AB"
        )
        context.alone(lambda: store.apply(first))
        with pytest.raises(OvertakenImport):
            context.alone(lambda: store.apply(second))
        assert [one.name for one in context.alone(store.snapshot).entities] == ["A"]


def test_machines_that_enrol_later_are_matched_by_the_next_day(place: Place, veilleuse: Command):
    """`serve` matches machines at its start and once a day."""
    asked(veilleuse, "import", place.file(LIST))
    place.gives_serial(Population.SERVER, "SERIALCANARI1")
    with open_collector(place.settings) as collector, run_daily_tasks(collector, check_seconds=0.05):
        until(lambda: place.assets()[0].host_id is not None)
    assert place.assets()[0].host_id == place.hosts[Population.SERVER].host_id
