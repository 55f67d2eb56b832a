# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The command line for people and scripts: one line per error, exit codes, and JSON on request."""

from __future__ import annotations

import json
import os
import pty
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.closed_years import command, lead_commands_to
from tests.support.machines import Machine, served, settings_in
from tests.support.ports import free_port
from tests.support.processes import ran
from tests.support.stack import program
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.cli.main import COMMANDS
from veilleuse.collector.cli.shared import who_and_why

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def veilleuse(monkeypatch, capsys, tmp_path) -> Run:
    """Return `veilleuse("token", "list")` → (exit code, output, errors), on a data directory of its own."""
    ports = {
        name: f"127.0.0.1:{free_port()}"
        for name in ("grpc.address", "grpc.enrolment_address", "http.address")
    }
    lead_commands_to(settings_in(tmp_path, **ports), monkeypatch)
    return command(capsys)


def create(veilleuse: Run, output: Path, *more: str) -> tuple[int, str, str]:
    """Create a token."""
    where = ("--entity", "DSI", "--site", "Lyon", "--population", "server")
    return veilleuse("token", "create", *where, "--output", str(output), *more)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("brew",), 2, "no such command 'brew'; see 'veilleuse --help'"),
        (("docter",), 2, "no such command 'docter': did you mean 'doctor'?; see"),
        (("hosts", "lst"), 2, "no such command 'lst': did you mean 'list'?; see"),
        (("hosts", "list", "--status", "aktive"), 2, "'--status': 'aktive' is not one of"),
        (("serve", "--no"), 2, "no such option: --no"),
        (("token", "create"), 2, "missing option"),
        (("token", "revoke", "x"), 2, "invalid value"),
        (("init", "--zone", "FR"), 2, "give --site NAME too"),
        (("init", "--config", "/nowhere.toml"), 2, "no configuration file /nowhere.toml"),
        (("token", "list"), 1, "run 'veilleuse init'"),
        (("hosts", "list"), 1, "point VEILLEUSE__DATA_DIR, or data_dir in the file of --config,"),
        (("serve",), 1, "run 'veilleuse init'"),
        (("init", "--site", "X", "--zone", "ATLANTIS"), 1, "no electricity factor"),
        (("init", "--site", "X", "--time-zone", "Sea/Bottom"), 2, "unknown time zone"),
        (("init", "--site", ""), 2, "printable characters"),
    ],
)
def test_errors_are_one_line(veilleuse, words, code, line):
    """The line says what is wrong and what to do; the exit code is 2 for wrong use, 1 for failures."""
    got, out, err = veilleuse(*words)
    assert (got, out) == (code, "")
    assert err.startswith("veilleuse: ")
    assert line in err
    assert err.count("\n") == 1


def test_every_command_has_help(veilleuse):
    """Each command loads and describes itself; `--help` lists all."""
    code, out, _ = veilleuse("--help")
    assert code == 0
    for name, (_, help_line) in COMMANDS.items():
        assert f"{name} " in out
        assert help_line in out
        code, text, _ = veilleuse(name, "--help")
        assert (code, text[:6]) == (0, "Usage:")
        assert "..." not in text.partition("Commands:")[2], name
    assert veilleuse()[0] == 2


def test_version(veilleuse):
    """The version is text or JSON."""
    assert veilleuse("version")[1].startswith("veilleuse ")
    assert veilleuse("--version") == veilleuse("version")
    assert set(json.loads(veilleuse("version", "--json")[1])) >= {"version", "protocol", "sqlite"}


def test_init(veilleuse):
    """init works once, then only with --if-missing, and advises to move the root key off-line."""
    code, out, err = veilleuse("init", "--site", "Lyon", "--time-zone", "Europe/Paris")
    assert (code, "ca_sha256" in out, "off-line" in err) == (0, True, True)
    code, _, err = veilleuse("init")
    assert (code, "--if-missing" in err) == (1, True)
    assert json.loads(veilleuse("init", "--if-missing", "--json")[1])["created"] is False
    code, out, err = veilleuse("init", "--if-missing")
    assert (code, "initialised already" in out, err) == (0, True, "")


def test_init_if_missing_hides_no_lost_file(veilleuse, tmp_path):
    """--if-missing makes what is not there, and refuses a directory that lost a database."""
    assert json.loads(veilleuse("init", "--if-missing", "--json")[1])["created"] is True
    (lost,) = tmp_path.rglob("identity.db")
    lost.unlink()
    code, _, err = veilleuse("init", "--if-missing")
    assert (code, "has lost identity.db" in err) == (1, True)


def test_a_refused_init_leaves_nothing(veilleuse, tmp_path):
    """A wrong zone is refused before anything is written, so the corrected command works."""
    assert veilleuse("init", "--site", "X", "--zone", "ATLANTIS")[0] == 1
    assert not any(path.is_dir() for path in tmp_path.iterdir())
    assert veilleuse("init", "--site", "X", "--zone", "FR")[0] == 0


def test_a_number_no_database_holds(veilleuse):
    """A number beyond the database's integers is wrong use, also without a running collector."""
    veilleuse("init")
    code, _, err = veilleuse("token", "revoke", "99999999999999999999")
    assert (code, err.count("\n")) == (2, 1)


def test_join_file(veilleuse, tmp_path):
    """A join file has mode 0600 and what an agent needs; it is not overwritten, or made without a token."""
    join = tmp_path / "join.json"
    assert create(veilleuse, join)[0] == 1
    assert not join.exists()
    veilleuse("init")
    code, out, _ = create(veilleuse, join, "--uses", "3", "--network", "192.0.2.0/24", "--json")
    assert code == 0
    content = json.loads(join.read_text())
    assert set(content) == {
        "version",
        "address",
        "enrolment_address",
        "ca_pem",
        "ca_sha256",
        "org_entity",
        "site",
        "population",
        "token",
        "fleet_key",
    }
    assert stat.S_IMODE(join.stat().st_mode) == 0o600
    assert content["token"] not in out
    new_entity, new_site, loopback = json.loads(out)["notes"]
    assert "is a new entity" in new_entity
    assert "is a new site, in zone FR and Europe/Paris time" in new_site
    assert "need grpc.advertised_address" in loopback
    code, _, err = create(veilleuse, join)
    assert (code, "exists" in err) == (1, True)
    code, _, err = create(veilleuse, tmp_path / "other.json", "--hours", "9999")
    assert (code, "--hours" in err) == (2, True)
    assert not (tmp_path / "other.json").exists()
    listed = json.loads(veilleuse("token", "list", "--json")[1])
    assert [(token["uses"], token["max_uses"], token["networks"]) for token in listed] == [
        (0, 3, ["192.0.2.0/24"])
    ]
    assert create(veilleuse, tmp_path / "second.json")[1].count("note: ") == 1  # of the address
    assert veilleuse("token", "revoke", "1")[1] == "token 1 revoked, and 0 host(s)\n"
    assert "revoked" in veilleuse("token", "list")[1]
    assert veilleuse("token", "revoke", "9")[0] == 1


def test_hosts(veilleuse, tmp_path):
    """Hosts are listed, shown, suspended and revoked, with a running collector or without."""
    settings = settings_in(tmp_path)
    with served(settings) as running:
        machine = Machine(running.token())
        machine.enrol()
        pc = Machine(running.token(population="workstation"))
        pc.enrol()
        short = machine.agent_id.hex()[:10]
        assert (
            veilleuse("hosts", "suspend", short)[1]
            == f"host {machine.agent_id.hex()[:12]}: active → suspended\n"
        )
        assert json.loads(veilleuse("hosts", "activate", short, "--json")[1])["status"] == "active"
        code, out, _ = veilleuse("hosts", "show", short, "--name", "--json")
        assert (code, json.loads(out)["host_name"]) == (0, None)
    code, _, err = veilleuse("hosts", "revoke", short)
    assert (code, "nothing was revoked: say y at a terminal, or give --yes, to revoke host" in err) == (
        1,
        True,
    )
    assert json.loads(veilleuse("hosts", "show", short, "--json")[1])["status"] == "active"
    assert veilleuse("hosts", "revoke", short, "--yes")[0] == 0
    code, _, err = veilleuse("hosts", "activate", short)
    assert (code, "is revoked: it cannot become active" in err) == (1, True)
    listed = {host["agent_id"]: host for host in json.loads(veilleuse("hosts", "list", "--json")[1])}
    assert listed[machine.agent_id.hex()]["status"] == "revoked"
    assert not {"vendor", "cpu_model"} & set(listed[pc.agent_id.hex()])
    assert veilleuse("hosts", "list")[1].count("\n") == 3
    assert veilleuse("hosts", "show", "zz")[0] == 1
    assert "never" in veilleuse("hosts", "show", pc.agent_id.hex())[1]


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("activate",),
        ("suspend",),
        ("export", "-o", "export.json"),
        ("revoke", "--yes"),
        ("forget", "--why", "x", "--yes"),
    ],
)
def test_a_short_number_names_no_machine(veilleuse, tmp_path, monkeypatch, words):
    """`hosts revoke 239`, after `top` had shown "host 239", revoked the machine whose agent id begins so."""
    monkeypatch.chdir(tmp_path)
    with served(settings_in(tmp_path)) as running:
        machine = Machine(running.token())
        machine.enrol()
    whole = machine.agent_id.hex()
    for digits in (1, 3, 7):
        code, _, err = veilleuse("hosts", words[0], whole[:digits], *words[1:])
        assert (code, f"'{whole[:digits]}' is too short to name a host: give 8 digits" in err) == (1, True)
    listed = json.loads(veilleuse("hosts", "list", "--json")[1])
    assert [(host["agent_id"], host["status"]) for host in listed] == [(whole, "active")]
    assert not (tmp_path / "export.json").exists()


@pytest.mark.parametrize(("answer", "code", "status"), [(b"n\n", 1, "active"), (b"y\n", 0, "revoked")])
def test_revoking_asks_at_a_terminal(veilleuse, tmp_path, answer, code, status):
    """The question names the machine and the consequence; without a yes nothing happens."""
    with served(settings_in(tmp_path)) as running:
        machine = Machine(running.token())
        machine.enrol()
    short = machine.agent_id.hex()[:12]
    leader, follower = pty.openpty()
    os.write(leader, answer)
    done = ran([program("veilleuse"), "hosts", "revoke", short], stdin=follower, timeout=PATIENCE_SECONDS)
    os.close(leader)
    os.close(follower)
    said = done.stdout + done.stderr
    assert (
        f"Revoke host {short} (server of DSI at Lyon, active, last contact never): refused for ever" in said
    )
    assert done.returncode == code
    assert json.loads(veilleuse("hosts", "show", short, "--json")[1])["status"] == status


def test_doctor(veilleuse, tmp_path):
    """doctor fails before init, warns while no collector runs, and names a damaged file."""
    code, out, _ = veilleuse("doctor")
    assert (code, "run 'veilleuse init'" in out) == (1, True)
    veilleuse("init")
    code, out, _ = veilleuse("doctor", "--json")
    findings = json.loads(out)
    assert code == 3
    assert [finding["check"] for finding in findings if finding["outcome"] == "warning"] == [
        "certificates",
        "service",
        "backup",
        "backup",
    ]
    assert {finding["check"] for finding in findings} == {
        "directory", "sqlite", "disk", "forecast", "backup", "certificates", "service", "ports", "work", "clock",
        "balance", "settings", "zone", "conditions", "versions", "renewals", "identities", "agents", "silence", "intensity", "closing", "sums",
    }  # fmt: skip
    (tmp_path / "data/fleet.key").chmod(0o644)
    assert "can be read by others" in veilleuse("doctor")[1]
    (tmp_path / "data/data.db").write_bytes(b"rubbish" * 1000)
    code, out, _ = veilleuse("doctor")
    assert code == 1
    assert "data.db" in out


def test_backup_and_restore(veilleuse, tmp_path):
    """A key, a backup and a restore work in turn. A cut restore continues without a file.
    A lost register is a warning."""
    veilleuse("init")
    key, backup, data = tmp_path / "key", tmp_path / "b", tmp_path / "data"
    assert veilleuse("backup", "--new-key", str(key))[0] == 0
    assert veilleuse("backup", "--new-key", str(key))[0] == 2
    assert veilleuse("backup")[0] == 2
    assert veilleuse("backup", str(backup), "--key-file", str(tmp_path / "none"))[0] == 2
    assert veilleuse("backup", str(backup), "--keep", "2")[0] == 2
    code, out, _ = veilleuse("backup", str(backup), "--key-file", str(key), "--json")
    made = json.loads(out)
    assert (code, made["sealed"], made["bytes"]) == (0, True, backup.stat().st_size)
    assert veilleuse("restore")[0] == 2
    assert veilleuse("restore", str(backup))[0] == 1
    code, out, _ = veilleuse("restore", str(backup), "--key-file", str(key), "--json")
    restored = json.loads(out)
    assert (code, restored["carried_on"], restored["hosts"]) == (0, False, {})
    assert restored["register"] == str(data / "register.jsonl")

    with tarfile.open(_opened(veilleuse, tmp_path)) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        told = manifest.read()
    (data / "register.jsonl").unlink()
    plan = {"replaced": next(data.glob("replaced-*")).name}
    (data / "restore.placing/files").mkdir(parents=True)
    (data / "restore.placing/manifest.json").write_bytes(told)
    (data / "restore.placing/plan.json").write_text(json.dumps(plan))
    (data / "data.db").rename(data / "restore.placing/files/data.db")
    for words in (("serve",), ("init",), ("token", "list"), ("backup", str(tmp_path / "c"))):
        code, _, err = veilleuse(*words)
        assert (code, err.count("\n"), "veilleuse restore" in err) == (1, 1, True)
    assert "half restored" in veilleuse("doctor")[1]
    code, out, err = veilleuse("restore")
    assert (code, out.startswith("continued")) == (3, True)
    assert "no register" in err
    assert veilleuse("token", "list")[0] == 0


def _opened(veilleuse, tmp_path):
    """Make a backup that is not sealed, and return its path."""
    code, _, err = veilleuse("backup", str(tmp_path / "open"))
    assert (code, "not sealed" in err) == (3, True)
    return tmp_path / "open"


def test_lost_data_are_never_begun_anew_by_mistake(veilleuse, tmp_path):
    """`init` and `serve` suggest the restore; only `init --new-data` continues, with the same authority."""
    data = tmp_path / "data"
    root = json.loads(veilleuse("init", "--json")[1])["ca_sha256"]
    (data / "data.db").unlink()
    for words in (("init",), ("init", "--if-missing"), ("serve",), ("token", "list")):
        code, _, err = veilleuse(*words)
        assert (code, err.count("\n"), "veilleuse restore FILE" in err) == (1, 1, True), words
    code, out, _ = veilleuse("init", "--new-data", "--json")
    assert (code, json.loads(out)["ca_sha256"]) == (0, root)
    assert veilleuse("token", "list")[0] == 0
    (data / "data.db").unlink()
    (data / "ca").rename(tmp_path / "ca")
    code, _, err = veilleuse("init", "--new-data")
    assert (code, "leave out --new-data" in err) == (1, True)


def test_what_is_no_file_is_said(veilleuse, tmp_path):
    """A directory in place of a file, and a backup inside its own data directory, are refused."""
    veilleuse("init")
    for words, line in (
        (("backup", str(tmp_path / "data")), "would be lost with it"),
        (("backup", str(tmp_path / "b"), "--key-file", str(tmp_path)), "no key file"),
        (("restore", str(tmp_path)), "name one backup in it"),
    ):
        code, _, err = veilleuse(*words)
        assert (code, line in err, err.count("\n")) == (2, True, 1), words
    code, _, err = create(veilleuse, tmp_path)
    assert (code, "name a file in it" in err) == (1, True)


def test_a_damaged_database_is_one_line(veilleuse, tmp_path):
    """The error names the file; the exit code is 1."""
    veilleuse("init")
    (tmp_path / "data/data.db").write_bytes(b"rubbish" * 1000)
    code, _, err = veilleuse("token", "list")
    assert code == 1
    assert err.startswith("veilleuse: ")
    assert "data.db" in err
    assert err.count("\n") == 1


def test_who_has_no_name_is_journaled_by_number(monkeypatch):
    """A container's user may lack a name in /etc/passwd, and the journal then has its number."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_123_456)
    assert who_and_why("", "hosts forget") == {"who": "uid 4000123456", "why": "veilleuse hosts forget"}
