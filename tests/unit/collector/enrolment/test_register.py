# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the register outside the backups: what it restores, and what it must never do. docs/wire.md §6,
decision 0013."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.machines import settings_in
from tests.unit.collector.enrolment.test_enrolment import csr, new_key
from veilleuse.collector.app.data_directory import Collector, initialise, open_collector
from veilleuse.collector.enrolment.authorise import check_access
from veilleuse.collector.enrolment.enrol import Application, Enroller, EnrolResult
from veilleuse.collector.enrolment.register import register_file
from veilleuse.collector.enrolment.tokens import FailureLimiter
from veilleuse.collector.errors import NotAuthorised, StoreFailing
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.settings import CollectorSettings

DATABASES = ("data.db", "identity.db")


class Place:
    """A data directory that can be copied and restored by hand while it is stopped (docs/operations.md)."""

    def __init__(self, folder: Path, **overrides: str) -> None:
        self.settings: CollectorSettings = settings_in(folder, **overrides)
        self.copy = folder / "backup"
        initialise(self.settings, site="Lyon")

    @property
    def register(self) -> Path:
        """The file of the register."""
        return Path(self.settings.pki.register_file or self.settings.data_dir / "register.jsonl")

    @contextmanager
    def opened(self) -> Iterator[Desk]:
        """Open the collector."""
        with open_collector(self.settings) as collector:
            yield Desk(collector)

    def backup(self) -> None:
        """Copy the databases, nothing else."""
        self.copy.mkdir(exist_ok=True)
        for name in DATABASES:
            shutil.copy(self.settings.data_dir / name, self.copy / name)

    def restore(self) -> None:
        """Put the copied databases back."""
        for name in DATABASES:
            for left in self.settings.data_dir.glob(f"{name}-*"):
                left.unlink()
            shutil.copy(self.copy / name, self.settings.data_dir / name)

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the register."""
        return [json.loads(line) for line in self.register.read_text().splitlines()]


class Desk:
    """An open collector's administration and enrolment."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.perform = collector.operations.perform
        self.joining = Enroller(collector.issuing, FailureLimiter())

    def token(self, **more: Any) -> str:
        order = {"org_entity": "DSI", "site": "Lyon", "population": "server", "uses": 5, **more}
        return str(self.perform("token_create", order)["join"]["token"])

    def join(self, token: str, key: ec.EllipticCurvePrivateKey | None = None) -> EnrolResult:
        """Enrol a machine."""
        return self.joining.join(Application(token, csr(key or new_key()), None))

    def set(self, joined: EnrolResult, status: str) -> None:
        """Set the status, as an administrator does."""
        self.perform("host_status", {"host": joined.host.agent_id.hex(), "status": status})

    def standing(self, joined: EnrolResult) -> str:
        """Return the reason that its next call gets; empty when it is served."""
        try:
            check_access(self.collector.issuing.access_table.get(joined.host.agent_id))
        except NotAuthorised as error:
            return error.reason
        return ""

    def uses(self) -> list[int]:
        """Return the uses of each token."""
        return [token["uses"] for token in self.perform("token_list", {})]

    def hosts(self) -> int:
        return len(self.collector.store.registry.hosts())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a new data directory."""
    return Place(tmp_path)


def test_what_came_after_a_backup_is_known_again(place):
    """Tokens and their uses, sites, machines with their placement and approvals return after a restore."""
    with place.opened() as desk:
        before = desk.token()
        first = desk.join(before)
    place.backup()
    with place.opened() as desk:
        second = desk.join(before)
        after = desk.token(
            site="Nouveau site", org_entity="Écoles", population="workstation", uses=2, admit_copies=True
        )
        third = desk.join(after)
        waiting = desk.join(desk.token(approve=True))
        desk.set(waiting, "active")
    place.restore()
    with place.opened() as desk:
        assert [desk.standing(one) for one in (first, second, third, waiting)] == [""] * 4
        assert desk.uses() == [2, 1, 1]
        assert [token["admit_copies"] for token in desk.perform("token_list", {})] == [False, True, False]
        again = desk.collector.store.registry.host_by_agent_id(third.host.agent_id)
        assert (again.org_entity, again.site, again.population) == (
            third.host.org_entity, third.host.site, third.host.population,
        )  # fmt: skip
        assert desk.join(after).chain is not None
        with pytest.raises(Exception, match="used already"):
            desk.join(after)
    before_again = place.register.read_bytes()
    with place.opened() as desk:
        assert desk.hosts() == 5
    assert place.register.read_bytes() == before_again, "a second start changes nothing"


def test_who_was_put_out_stays_out(place):
    """Machines revoked or suspended after the backup, also with their token, stay refused after the
    restore."""
    with place.opened() as desk:
        token = desk.token()
        revoked, suspended, kept, forgiven = (desk.join(token) for _ in range(4))
        of_token = desk.join(desk.token())
        desk.set(forgiven, "suspended")
    place.backup()
    with place.opened() as desk:
        desk.set(revoked, "revoked")
        desk.set(suspended, "suspended")
        desk.set(forgiven, "active")
        desk.perform("token_revoke", {"token_id": 2})
    place.restore()
    with place.opened() as desk:
        machines = (revoked, suspended, kept, forgiven, of_token)
        assert [desk.standing(one) for one in machines] == ["revoked", "suspended", "", "", "revoked"]
        assert [token["revoked"] for token in desk.perform("token_list", {})] == [False, True]


def test_an_older_line_never_undoes_what_the_registry_knows(place):
    """An activation in the register undoes no later suspension of the registry, written or not."""
    with place.opened() as desk:
        host = desk.join(desk.token())
        desk.set(host, "suspended")
        desk.set(host, "active")
        place.register.unlink()
        place.register.mkdir()  # the register cannot be written: a suspension holds all the same
        desk.set(host, "suspended")
        with pytest.raises(StoreFailing, match=r"pki\.register_file"):
            desk.token()
        assert desk.perform("token_list", {})[0]["token_id"] == 1
        place.register.rmdir()
    with place.opened() as desk:
        assert desk.standing(host) == "suspended"


def test_an_undone_job_lets_nobody_in(place):
    """Lines without a commit create no host and no token after a restart; a revocation among them holds."""
    with place.opened() as desk:
        host = desk.join(desk.token())
    ghost = "ab" * 16
    of = place.lines()[-1]["of"]
    last = max(line["n"] for line in place.lines())
    facts = {
        "token": place.lines()[1].get("sha256"),
        "uses": 2,
        "org_entity": "x",
        "site": "Lyon",
        "copy_of": "",
    }
    undone = [
        {"n": last + 1, "of": of, "kind": "host", "agent_id": ghost, "population": "server", "status": "active", "day": "2026-01-01", **facts},
        {"n": last + 2, "of": of, "kind": "excluded", "agent_id": host.host.agent_id.hex(), "status": "revoked", "day": "2026-01-01"},
    ]  # fmt: skip
    with place.register.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in undone)
    with place.opened() as desk:
        assert desk.hosts() == 1
        assert desk.standing(host) == "revoked"
        assert desk.join(desk.token()).host.host_id == 2


@pytest.mark.parametrize(
    "rubbish",
    [
        b'{"n": 7, "of"',
        b"\xff\xfe\x00 not text\n",
        b'{"n": "7", "of": 1, "kind": "host"}\n[]\n5\n',
        b'{"n": 900, "of": 1, "kind": "host", "agent_id": "00"}\n{"n": 901, "of": 1, "kind": "done", "last": 99999999999}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_whatever_is_in_the_file_it_starts(place, rubbish, caplog):
    """Torn lines, binary data, foreign lines and nonsense give a warning; good lines still count."""
    with place.opened() as desk:
        host = desk.join(desk.token())
    place.backup()
    with place.register.open("ab") as file:
        file.write(rubbish)
    with place.opened() as desk:
        desk.set(host, "revoked")
    place.restore()
    caplog.set_level(logging.WARNING)
    with place.opened() as desk:
        assert desk.standing(host) == "revoked"
    assert "register" in caplog.text


@pytest.mark.parametrize(
    "kind", ["host", "token", "site", "forgotten", "excluded", "admitted", "token_revoked"]
)
def test_lines_of_ours_without_sense_are_left_out(place, kind):
    """Lines with missing facts or facts of a wrong type do not prevent the start."""
    with place.opened() as desk:
        desk.join(desk.token())
    of = place.lines()[-1]["of"]
    senseless = [
        {"n": 500, "of": of, "kind": kind},
        {"n": 501, "of": of, "kind": kind, "agent_id": 7, "sha256": [], "site": None, "agent_id_sha256": "zz", "status": "?"},
        {"n": 500, "last": 501, "of": of, "kind": "done"},
    ]  # fmt: skip
    with place.register.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in senseless)
    with place.opened() as desk:
        assert desk.hosts() == 1
        assert desk.join(desk.token()).fresh


@pytest.mark.parametrize("older", [False, True])
def test_a_missing_or_older_register_is_completed(place, caplog, older):
    """Lines that the register lacks are written again from the registry, for the next restore; a missing one
    gives a warning.
    """
    with place.opened() as desk:
        host = desk.join(desk.token())
    place.backup()
    copy = place.register.read_bytes()
    with place.opened() as desk:
        desk.set(host, "revoked")
    place.register.unlink()
    if older:
        place.register.write_bytes(copy)
    with place.opened():
        pass
    assert ("register is missing" in caplog.text) is not older
    place.restore()
    with place.opened() as desk:
        assert desk.standing(host) == "revoked"


@pytest.mark.promise("P14")
def test_it_is_private_tells_no_hour_and_does_not_grow_for_ever(place, figure):
    """The file has mode 0600, holds days only for a workstation, and shrinks to one line per machine at a
    start."""
    with place.opened() as desk:
        host = desk.join(desk.token(population="workstation"))
        for _ in range(300):
            desk.set(host, "suspended")
            desk.set(host, "active")
    assert stat.S_IMODE(place.register.stat().st_mode) == 0o600
    of_host = [line for line in place.lines() if line.get("agent_id")]
    assert len(of_host) == 601
    for line in of_host:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", line["day"])
        assert set(line) <= {
            "n", "of", "kind", "agent_id", "token", "uses", "org_entity", "site", "population", "status", "day",
        }  # fmt: skip
    figure(f"0 of {len(of_host)} lines of the register with a time of day")
    with place.opened():
        pass
    assert len(place.lines()) == 4  # site, token, host, done
    with place.opened() as desk:
        assert desk.standing(host) == ""


def test_it_may_lie_on_another_disk(tmp_path):
    """With pki.register_file, two data directories in one file do not read each other's lines."""
    shared = {"pki.register_file": str(tmp_path / "elsewhere.jsonl")}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = Place(tmp_path / "a", **shared), Place(tmp_path / "b", **shared)
    with one.opened() as desk:
        host = desk.join(desk.token())
    one.backup()
    with one.opened() as desk:
        desk.set(host, "revoked")
    with two.opened() as desk:
        other = desk.join(desk.token())
        assert desk.hosts() == 1
    one.restore()
    with one.opened() as desk:
        assert desk.standing(host) == "revoked"
        assert desk.standing(other) == "unknown_agent"
        assert desk.hosts() == 1
    assert not (one.settings.data_dir / "register.jsonl").exists()


def test_a_forgotten_machine_stays_forgotten(place):
    """After a restore of a backup that holds the machine, its rows are deleted again and no file contains its
    id."""
    with place.opened() as desk:
        token = desk.token()
        gone, stays = desk.join(token), desk.join(token)
    place.backup()
    with place.opened() as desk:
        done = desk.perform("host_forget", {"host": gone.host.agent_id.hex(), "who": "ops", "why": "art. 17"})
        assert done["swept"]
        assert desk.standing(gone) == "forgotten"
    place.restore()
    with place.opened() as desk:
        assert desk.standing(gone) == "forgotten"
        assert desk.standing(stays) == ""
        assert desk.hosts() == 1
        assert desk.uses() == [2]
        assert desk.collector.store.registry.host(gone.host.host_id) is None
    found = [
        path.name
        for path in place.settings.data_dir.rglob("*")
        if path.is_file()
        and (
            gone.host.agent_id in path.read_bytes() or gone.host.agent_id.hex().encode() in path.read_bytes()
        )
    ]
    assert found == []


def test_a_forgetting_that_was_cut_is_ended_by_the_next_start(place):
    """A machine marked as forgotten, with nothing deleted yet, is gone after the next start."""
    with place.opened() as desk:
        gone = desk.join(desk.token())
        registry = desk.collector.store.registry
        desk.collector.issuing.commit(lambda: registry.set_status(gone.host.host_id, HostStatus.FORGOTTEN))
    with place.opened() as desk:
        assert desk.hosts() == 0


def test_a_register_that_root_made_is_the_service_s(place):
    """A register that root creates belongs to the owner of the data directory."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.chown(place.settings.data_dir, 65534, 65534)
    with place.opened() as desk:
        desk.join(desk.token())
    assert place.register.stat().st_uid == 65534


# A register that is not the one this registry wrote to last.


def test_a_register_that_is_put_back_late_is_heard(place):
    """A register that is put back after a restore counts in full, although other lines were written
    meanwhile. Decisions made meanwhile hold, and the next restore keeps both."""
    with place.opened() as desk:
        token = desk.token(uses=9)
        revoked, suspended, forgiven, waits = (desk.join(token) for _ in range(4))
        desk.set(waits, "suspended")
    place.backup()
    with place.opened() as desk:
        desk.set(revoked, "revoked")
        desk.set(forgiven, "suspended")
        desk.set(forgiven, "active")
        desk.set(waits, "active")
        late = desk.join(token)
        desk.set(suspended, "suspended")
    kept = place.register.read_bytes()
    place.register.unlink()
    place.restore()
    with place.opened() as desk:
        meanwhile = [desk.join(token) for _ in range(4)]
        desk.set(meanwhile[0], "revoked")
    place.register.write_bytes(kept)
    for restored in (False, True):
        if restored:
            place.restore()
        with place.opened() as desk:
            standing = [desk.standing(one) for one in (revoked, suspended, forgiven, late, *meanwhile)]
            assert standing == ["revoked", "suspended", "", "", "revoked", "", "", ""]
            assert desk.standing(waits) == "suspended", "an activation of unknown age ends no suspension"
            assert desk.uses() == [8]


def test_what_could_not_be_noted_is_noted_at_the_next_start(place):
    """A revocation holds while the file cannot be written, and survives a restore once it can be."""
    with place.opened() as desk:
        host, other = (desk.join(desk.token()) for _ in range(2))
    place.backup()
    aside = place.register.with_name("aside")
    with place.opened() as desk:
        place.register.rename(aside)
        place.register.mkdir()
        desk.set(host, "revoked")
        place.register.rmdir()
        aside.rename(place.register)
        desk.set(other, "suspended")
    with place.opened() as desk:
        assert (desk.standing(host), desk.standing(other)) == ("revoked", "suspended")
    place.restore()
    with place.opened() as desk:
        assert (desk.standing(host), desk.standing(other)) == ("revoked", "suspended")


def test_a_register_that_cannot_be_read_is_not_written_to(place):
    """An unread register refuses enrolments, since appending would mark its lines as read. Once it can be
    read, all lines count."""
    with place.opened() as desk:
        token = desk.token(uses=9)
        host = desk.join(token)
    place.backup()
    with place.opened() as desk:
        desk.set(host, "revoked")
    place.restore()
    aside = place.register.with_name("aside")
    place.register.rename(aside)
    place.register.mkdir()
    with place.opened() as desk:
        place.register.rmdir()
        aside.rename(place.register)
        with pytest.raises(StoreFailing, match="could not be read"):
            desk.join(token)
    with place.opened() as desk:
        assert desk.standing(host) == "revoked"
        desk.join(token)


def test_a_link_is_followed_out_of_the_setting_alone(place, tmp_path):
    """A link at `register.jsonl` is not followed (root once wrote to its target); one in the setting is."""
    elsewhere = tmp_path / "other-disk" / "register.jsonl"
    elsewhere.parent.mkdir()
    place.register.symlink_to(elsewhere)
    with place.opened() as desk, pytest.raises(StoreFailing, match="could not be read at the start"):
        desk.token()
    assert not elsewhere.exists()
    assert register_file(tmp_path, str(place.register)) == elsewhere


def test_a_line_that_puts_out_lets_nobody_in(place):
    """A line that is believed without a commit can only exclude a machine."""
    with place.opened() as desk:
        host = desk.join(desk.token())
        desk.set(host, "suspended")
    last, of = max(line["n"] for line in place.lines()), place.lines()[-1]["of"]
    forged = {
        "n": last + 1,
        "of": of,
        "kind": "excluded",
        "agent_id": host.host.agent_id.hex(),
        "status": "active",
    }
    with place.register.open("a") as file:
        file.write(json.dumps(forged) + "\n")
    with place.opened() as desk:
        assert desk.standing(host) == "suspended"
