# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""An attacker with the service's account replaces each of its files, and root runs a command.

Nothing elsewhere is read or changed, and one line names the file and the reason.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
from collections.abc import Callable
from contextlib import closing
from io import BufferedIOBase
from pathlib import Path

import pytest

from tests.support import clock
from tests.support.stack import Stack
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.agent.commands.state_view import read_spool
from veilleuse.agent.errors import AgentError
from veilleuse.agent.identity.store import IdentityStore, write_private
from veilleuse.agent.platforms.locks import RUN_LOCK, SEND_LOCK, ProcessLock
from veilleuse.agent.settings import AgentSettings, Paths
from veilleuse.agent.sources.snapshot import Publication, publish
from veilleuse.agent.spool.database import connect
from veilleuse.collector import ipc
from veilleuse.collector.app.gateway import messages
from veilleuse.collector.backup.restore import give_to_owner
from veilleuse.collector.cli.main import run
from veilleuse.collector.closed_years.verify import FOLDER as CLOSED
from veilleuse.collector.closed_years.verify import export
from veilleuse.collector.enrolment.ca import Authority, draft
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.ipc import PrivateServer
from veilleuse.collector.model.closed_years import ClosedFile, ClosedYear, YearState
from veilleuse.collector.settings import Pki

SECRET = b"the canary's own content\n"
STRANGER = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def foreign(path: Path, _: Path) -> None:
    """Give the file to another account; create it if it is missing."""
    if not path.exists():
        path.write_bytes(b"")
        path.chmod(0o600)
    os.chown(path, STRANGER, -1)


def instead(make: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """Return an attack that replaces the file by what `make` makes."""

    def lay(path: Path, canary: Path) -> None:
        path.unlink(missing_ok=True)
        make(path, canary)

    return lay


ATTACKS = {
    "symbolic link": instead(lambda path, canary: path.symlink_to(canary)),
    "hard link": instead(lambda path, canary: path.hardlink_to(canary)),
    "pipe": instead(lambda path, _: os.mkfifo(path, 0o600)),
    "directory": instead(lambda path, _: path.mkdir()),
    "foreign": foreign,
}
SAID = {
    "symbolic link": "symbolic link",
    "hard link": "hard links",
    "pipe": "it is a pipe",
    "directory": "it is a directory",
    "foreign": f"it is of user {STRANGER}",
}
COMMANDS = {
    "lock": "site",
    "register.jsonl": "site",
    "data.db": "read",
    "data.db-wal": "read",
    "data.db-shm": "read",
    "identity.db": "site",
    "identity.db-wal": "site",
    "fleet.key": "site",
    "ca/root.pem": "site",
    "ca/intermediate.key": "site",
    "ca/intermediate.pem": "site",
    "ca/change.json": "site",
}
"""File → key in LINES of the command that opens it."""
LINES = {
    "site": "token create --entity test --site test --population server --output {out}",
    "read": "hosts list",
}


@pytest.fixture
def canary(tmp_path):
    """Give another user's file on the same disk; it must not change."""
    path = tmp_path / "canary"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    yield path
    assert path.read_bytes() == SECRET
    assert path.stat().st_uid == os.geteuid()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Give a data directory after `veilleuse init` and a first start."""
    with Stack(tmp_path_factory.mktemp("made")) as stack:
        stack.must("veilleuse", "init", "--site", "test", "--zone", "FR")
        stack.stop(stack.start_collector())
        yield stack.data


@pytest.fixture
def data(made, tmp_path, monkeypatch):
    """Return a copy of the data directory, which the environment names."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "data"))
    shutil.copytree(made, tmp_path / "data", ignore=shutil.ignore_patterns("*.sock"))
    return tmp_path / "data"


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_file_of_the_collector_leads_elsewhere(data, canary, tmp_path, capsys, name, attack):
    """A link once led elsewhere: `lock` was emptied, `register.jsonl` extended, keys and databases read."""
    if attack == "foreign" and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    ATTACKS[attack](data / name, canary)
    out = tmp_path / "join.json"
    code = run(LINES[COMMANDS[name]].format(out=out).split())
    said = capsys.readouterr()
    assert code == 1, said
    assert SAID[attack] in said.out + said.err
    assert name.rpartition("/")[2] in said.out + said.err
    assert SECRET.decode().strip() not in said.out + said.err
    assert not out.exists()
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("attack", ["symbolic link", "hard link", "pipe", "foreign"])
@pytest.mark.parametrize("name", ["server.key", "server.pem"])
def test_what_is_made_again_takes_the_place_of_what_was_laid_there(data, canary, name, attack):
    """The collector once read its server key, and served with it, from wherever a link led."""
    if attack == "foreign" and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    before = (data / "ca" / name).read_bytes()
    ATTACKS[attack](data / "ca" / name, canary)
    Authority(data, Pki()).server_identity()
    after = (data / "ca" / name).lstat()
    assert (stat.S_IFMT(after.st_mode), after.st_nlink, after.st_uid) == (stat.S_IFREG, 1, os.geteuid())
    assert (data / "ca" / name).read_bytes() not in (before, SECRET)


def too_long(*_: object) -> None:
    """Fail a test that waits too long (handler of SIGALRM)."""
    raise AssertionError("it waits for a pipe")


@pytest.mark.parametrize("attack", ["symbolic link", "hard link", "pipe"])
@pytest.mark.parametrize("name", ["fleet.key", "ca/server.key", "ca/root.key", "ca/server.pem"])
def test_a_backup_names_the_file_that_it_does_not_copy_and_doctor_too(
    data, canary, tmp_path, capsys, name, attack
):
    """Root's nightly backup once waited for ever for a pipe at `fleet.key`; for a file of `ca` it named only
    its own work folder."""
    ATTACKS[attack](data / name, canary)
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(30)
    try:
        assert run(["doctor"]) == 1
        doctor = capsys.readouterr().out
        code = run(["backup", str(tmp_path / "out")])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    said = capsys.readouterr()
    (line,) = (line for line in doctor.splitlines() if line.startswith("failed"))
    assert f"{data / name}: " in line
    assert SAID[attack] in line
    assert code == 1
    assert str(data / name) in said.err
    assert SAID[attack] in said.err
    assert "backup.work" not in said.err
    assert not (tmp_path / "out").exists()


ASKING = {
    "admin.sock": lambda data: ipc.ask(data, "health"),
    "door.sock": lambda data: messages.ask(data, {"op": "open"}, seconds=PATIENCE_SECONDS),
}


@pytest.mark.parametrize("name", ASKING)
def test_no_socket_leads_elsewhere(data, tmp_path, name):
    """Root once spoke to whatever socket a link led to."""
    heard: list[bytes] = []
    other = tmp_path / "other"
    other.mkdir(mode=0o700)

    def listen(reading: BufferedIOBase, _: BufferedIOBase) -> None:
        heard.extend(filter(None, [reading.readline()]))  # empty when the server itself wakes it

    with closing(PrivateServer(other, "sock", listen, places=2)):
        (data / name).symlink_to(other / "sock")
        with pytest.raises(CollectorError, match=rf"{name} is no socket of the service"):
            ASKING[name](data)
    assert heard == []


def test_a_socket_is_private_from_its_first_moment(tmp_path):
    """The mode was once set afterwards by name, so on whatever lay there by then."""
    before = os.umask(0)
    try:
        with closing(PrivateServer(tmp_path, "sock", lambda *_: None, places=1)):
            assert (tmp_path / "sock").stat().st_mode & 0o7777 == 0o600
            with socket.socket(socket.AF_UNIX) as one:
                one.connect(str(tmp_path / "sock"))
    finally:
        os.umask(before)


def export_closed(data: Path, _: Path) -> None:
    """Export a closed year, as `close` does at its end."""
    told = ClosedYear(2026, 1, YearState.CLOSED_PROVISIONAL, 0, "", "")
    export(data / CLOSED, told, ClosedFile(b"{}", b"{}", b""), "00" * 32)


def command(line: str):
    """Return a function that runs a command, which must fail, and raises CollectorError."""

    def act(data: Path, out: Path) -> None:
        if run(line.format(out=out).split()) == 1:
            raise CollectorError("as it must")

    return act


FOLDERS = {
    "ca": command(LINES["site"]),
    "ca.new": lambda data, _: draft(data, clock.now()),
    "closed": export_closed,
    "backup.work": command("backup {out}"),
}
"""Folder → function that writes in it."""


@needs_root
@pytest.mark.parametrize("folder", FOLDERS)
def test_no_folder_of_the_collector_leads_elsewhere(data, tmp_path, folder):
    """Root once followed a link at a folder's place: it wrote keys where the link led, and removed files or
    gave them away there."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "leftover").write_bytes(SECRET)
    hand_all_to(STRANGER, data)
    (data / "ca").rename(data / "ca.away")
    if folder == "backup.work":
        (data / "ca.away").rename(data / "ca")
    (data / folder).symlink_to(elsewhere)
    with pytest.raises(CollectorError):
        FOLDERS[folder](data, tmp_path / "out")
    give_to_owner(data, data)
    assert [one.name for one in elsewhere.iterdir()] == ["leftover"]
    assert (elsewhere / "leftover").read_bytes() == SECRET
    assert {one.stat().st_uid for one in (elsewhere, elsewhere / "leftover")} == {0}


@needs_root
def test_a_restore_gives_nothing_away_that_has_another_name(data, canary):
    """`restore` once gave the service every file below its directory, also a hard link to a foreign file."""
    hand_all_to(STRANGER, data)
    (data / "replaced-x").hardlink_to(canary)
    (data / "roots").write_bytes(b"")
    give_to_owner(data, data)
    assert (data / "roots").stat().st_uid == STRANGER


@needs_root
def test_what_root_makes_the_service_can_open(data, tmp_path):
    """Root's command while the service was stopped once left `lock`, keys and folders that the service could
    not open."""
    (data / "lock").unlink()
    hand_all_to(STRANGER, data)
    assert run(LINES["site"].format(out=tmp_path / "join").split()) == 0
    assert {one.stat().st_uid for one in data.rglob("*")} == {STRANGER}


def hand_all_to(user: int, folder: Path) -> None:
    """Give a folder and all its content to a user."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user)


AGENT = {
    "run.lock": lambda state: ProcessLock(state, RUN_LOCK, what="the agent"),
    "send.lock": lambda state: ProcessLock(state, SEND_LOCK, what="the sender"),
    "spool.db": lambda state: connect(state / "spool.db"),
    "spool.db-journal": lambda state: connect(state / "spool.db"),
    "id/key.pem": lambda state: IdentityStore(state).read("key.pem"),
    "id/certificate.pem": lambda state: IdentityStore(state).load(),
    "id/pending-key.pem": lambda state: IdentityStore(state).load(),
    "id/salt": lambda state: IdentityStore(state).read("salt"),
    "id/.key.pem.new": lambda state: write_private(state / "id/key.pem", b"new"),
    ".sources.json.new": lambda state: publish(state / "sources.json", Publication((), (), ())),
}
"""File → function that opens it."""


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", AGENT)
def test_no_file_of_the_agent_leads_elsewhere(tmp_path, canary, name, attack):
    """The agent refuses a replaced file below paths.state, with its kind as the reason."""
    if attack == "foreign" and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    state = tmp_path / "state"
    (state / "id").mkdir(mode=0o700, parents=True)
    ATTACKS[attack](state / name, canary)
    with pytest.raises((AgentError, OSError)) as refused:
        AGENT[name](state)
    assert SAID[attack] in str(refused.value)
    assert refused.value.__cause__ is None or isinstance(refused.value.__cause__, OSError)


@pytest.mark.parametrize("attack", ["symbolic link", "hard link", "pipe", "directory"])
def test_looking_at_a_spool_says_what_it_is(tmp_path, canary, attack):
    """`show` and `doctor` report the kind of a replaced spool; they never raise."""
    ATTACKS[attack](tmp_path / "spool.db", canary)
    assert SAID[attack] in read_spool(AgentSettings(paths=Paths(state=tmp_path))).trouble
