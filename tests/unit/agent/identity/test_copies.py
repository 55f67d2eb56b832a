# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test a copied state directory: its detection, what is set aside, its new identity. docs/wire.md §7."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.fakes.agent import EPOCH_START, Agent, energies, record
from tests.support.fakes.collector import FakeCollector
from tests.support.killing import run_program
from veilleuse.agent.errors import AlreadyRunning, IdentityError
from veilleuse.agent.identity import reset
from veilleuse.agent.identity.clone import CONFLICT, REKEY_MILLISECONDS, CloneDetector, Mark
from veilleuse.agent.identity.store import IdentityStore
from veilleuse.agent.model import Gap, body_from_json
from veilleuse.agent.platforms.locks import RUN_LOCK, SEND_LOCK, ProcessLock
from veilleuse.agent.resident.fold import Fold
from veilleuse.wire.vocabulary import GapReason, Population

ORIGINAL = {"product_uuid": "4c4c4544-0042-3510-8052-b4c04f4a4e32", "board_serial": "ORIG1NAL77"}
COPY = {"product_uuid": "5d5d5d44-0042-3510-8052-b4c04f4a4e32", "board_serial": "C0PY88XY"}


@pytest.fixture
def machine(tmp_path: Path) -> Agent:
    """Return an agent on hardware with two ids."""
    return machine_in(tmp_path / "original", ORIGINAL)


def machine_in(folder: Path, hardware: dict[str, str]) -> Agent:
    """Return an agent whose state directory is on that hardware."""
    folder.mkdir(exist_ok=True)
    become(folder, hardware)
    return Agent(folder / "state", **{"paths.sysfs": str(folder / "sys")})


def become(folder: Path, hardware: dict[str, str]) -> None:
    """Move the disk of `folder` to that hardware."""
    dmi = folder / "sys/class/dmi/id"
    dmi.mkdir(parents=True, exist_ok=True)
    for name, value in hardware.items():
        (dmi / name).write_text(value + "\n")


def cloned(original: Agent, folder: Path, hardware: dict[str, str] | None = None) -> Agent:
    """Copy the state directory to other hardware, unless `hardware` is given."""
    copy = machine_in(folder, COPY if hardware is None else hardware)
    shutil.rmtree(copy.state)
    shutil.copytree(original.state, copy.state)
    return copy


def waiting(agent: Agent) -> list[str]:
    """Return the waiting rows, which have no number yet."""
    with closing(agent.connection()) as db:
        return [row[0] for row in db.execute("SELECT body FROM pending ORDER BY id")]


def gaps(agent: Agent) -> list[Gap]:
    """Return the gaps among the waiting rows."""
    bodies = [body_from_json(body) for body in waiting(agent)]
    return [body for body in bodies if isinstance(body, Gap)]


# -------------------------------------------------------------------------------------- detection


def test_two_ids_that_changed_make_a_copy(tmp_path):
    """One changed id is a repair and is kept; two make a copy; the file holds no id in clear."""
    copies = CloneDetector(tmp_path)
    known = {"machine-id": "a", "smbios-uuid": "b", "board-serial": "c", "first-mac": "d"}
    copies.keep(known)
    assert not copies.is_other_hardware(known)
    assert copies.changed_ids(known | {"first-mac": "new card"}) == ("first-mac",)
    copies.keep(known | {"first-mac": "new card"})
    assert not copies.is_other_hardware({"machine-id": "a", "first-mac": "new card"})
    assert not copies.is_other_hardware(known | {"first-mac": "new card", "board-serial": "new"})
    assert copies.is_other_hardware(known | {"first-mac": "other", "board-serial": "new"})
    assert "new card" not in (tmp_path / "id/hardware.json").read_text()


def test_a_machine_that_is_itself_goes_on(machine, collector):
    """An unchanged machine keeps its identity and spool, also when the check is repeated."""
    identity = machine.enrol(collector)
    machine.measure(record(0))
    for _ in range(2):
        assert not reset.reset_if_clone(machine.settings)
    assert machine.identity == identity
    assert len(waiting(machine)) == 1
    assert not (machine.state / "original").exists()


def test_an_image_that_has_not_started_measures_and_says_so(machine, monkeypatch, tmp_path, caplog):
    """With an uninitialised machine-id the agent measures and logs that it is not enrolled."""
    (tmp_path / "machine-id").write_text("uninitialized\n")
    monkeypatch.setattr(reset, "MACHINE_ID", tmp_path / "machine-id")
    assert not reset.reset_if_clone(machine.settings)
    assert "measured and kept, not enrolled" in caplog.text
    assert "uninitialized" not in str(sorted((machine.state / "id").iterdir()))


def test_a_second_service_is_told_before_anything_is_touched(machine, collector, tmp_path):
    """R21: a second service is refused before the copy's identity is set aside."""
    machine.enrol(collector)
    copy = cloned(machine, tmp_path / "copy")
    with (
        ProcessLock(copy.state, RUN_LOCK, what="x"),
        pytest.raises(AlreadyRunning, match="veilleuse-agent run"),
    ):
        reset.reset_if_clone(copy.settings)
    assert (copy.state / "id/certificate.pem").exists()


# ------------------------------------------------------------------------- a copy's new identity


def test_a_copy_begins_in_a_spool_of_its_own(machine, collector, tmp_path):
    """Identity and spool are set aside, the population is kept, and the copy delivers only its records."""
    original = machine.enrol(collector)
    machine.measure(record(0), record(1))
    copy = cloned(machine, tmp_path / "copy")
    assert reset.reset_if_clone(copy.settings)
    assert not IdentityStore(copy.state).is_enrolled()
    assert waiting(copy) == []
    control = copy.control()
    assert control["population"] == "server"
    assert set(control) == {"epoch", "population"}
    assert control["epoch"] != machine.control()["epoch"]
    [aside] = copy.state.glob("spool.db.copied-*")
    assert aside.read_bytes() == machine.path.read_bytes()
    copy.measure(record(7))
    assert copy.send()
    assert copy.identity.agent_id != original.agent_id
    assert collector.copies[original.agent_id, key_of(collector)] == copy.identity.agent_id
    assert energies(collector.stored(copy.identity.agent_id)) == [1_007]
    assert machine.send()
    assert energies(collector.stored(original.agent_id)) == [1_000, 1_001]


def key_of(collector: FakeCollector) -> bytes:
    """Return the public key of the only copy's request, as the fake collector keeps it."""
    [(_, key)] = list(collector.copies)
    return key


def test_the_originals_key_goes_once_it_has_its_own(machine, collector, tmp_path):
    """The original's key is deleted once the copy has its own; the copy is not detected as a copy again."""
    secret = machine.enrol(collector).key_pem
    copy = cloned(machine, tmp_path / "copy")
    reset.reset_if_clone(copy.settings)
    assert copy.send()
    assert not (copy.state / "original").exists()
    assert not [file for file in copy.state.rglob("*") if file.is_file() and secret in file.read_bytes()]
    assert not reset.reset_if_clone(copy.settings)
    assert copy.send()


def test_a_copy_of_a_copy_and_of_one_that_waits(machine, collector, tmp_path):
    """Each copy asks with its own key: two machines never share a pending key."""
    machine.enrol(collector)
    collector.approve = True
    first = cloned(machine, tmp_path / "first")
    reset.reset_if_clone(first.settings)
    assert not first.send()
    assert "waits for an operator's approval" in first.control()["standing"]
    due = int(first.control()["next_send"]) - 900_000
    assert due > EPOCH_START  # not before the time that the collector asked for
    other = {"product_uuid": "6e6e6e44-0042-3510-8052-b4c04f4a4e32", "board_serial": "THIRD99"}
    second = cloned(first, tmp_path / "second", other)
    assert reset.reset_if_clone(second.settings)
    collector.approve = False
    assert first.send()
    assert second.send()
    assert len({machine.identity.agent_id, first.identity.agent_id, second.identity.agent_id}) == 3


def test_a_copy_of_one_that_was_never_enrolled(machine, tmp_path):
    """The template's spool is set aside on other hardware, though the template was never enrolled."""
    reset.reset_if_clone(machine.settings)
    machine.measure(record(0))
    copy = cloned(machine, tmp_path / "copy")
    assert reset.reset_if_clone(copy.settings)
    assert waiting(copy) == []
    assert waiting(machine) != []


def test_a_refused_copy_says_what_to_do_and_asks_rarely(machine, collector, tmp_path):
    """A copy of a revoked original waits 15 minutes between tries; its standing names the remedy."""
    collector.forbidden.add(machine.enrol(collector).agent_id)
    copy = cloned(machine, tmp_path / "copy")
    reset.reset_if_clone(copy.settings)
    now = EPOCH_START
    assert not copy.send(clock=lambda: now)
    control = copy.control()
    assert "revoked" in control["standing"]
    assert "veilleuse-agent enrol JOINFILE" in control["standing"]
    assert int(control["next_send"]) >= now + 900_000


def test_a_lost_answer_gives_a_copy_one_identity(machine, collector, tmp_path):
    """After a lost answer the copy asks with the same key and gets one identity."""
    machine.enrol(collector)
    copy = cloned(machine, tmp_path / "copy")
    reset.reset_if_clone(copy.settings)
    collector.lose_replies = 1
    assert not copy.send()
    assert copy.send()
    assert list(collector.copies.values()) == [copy.identity.agent_id]


def test_a_join_file_comes_before_the_proof(machine, collector, tmp_path):
    """A copy with a join file is enrolled with its token, without approval; the file is deleted."""
    machine.enrol(collector)
    copy = cloned(machine, tmp_path / "copy")
    reset.reset_if_clone(copy.settings)
    collector.token = "u" * 43
    collector.join_file(copy.state / "join.json")
    assert copy.send()
    assert not collector.copies
    assert not (copy.state / "join.json").exists()
    assert not (copy.state / "original").exists()


def test_a_join_file_that_is_no_good_leaves_the_proof(machine, collector, tmp_path, caplog):
    """With a used token the agent enrols as a copy."""
    machine.enrol(collector)
    copy = cloned(machine, tmp_path / "copy")
    reset.reset_if_clone(copy.settings)
    collector.join_file(copy.state / "join.json")
    assert copy.send()
    assert "as a copy then" in caplog.text
    assert list(collector.copies.values()) == [copy.identity.agent_id]


def test_the_command_enrol_sets_aside_too(machine, collector, tmp_path):
    """`enrol` on a copy with a stopped service does not deliver the original's spool."""
    machine.enrol(collector)
    machine.measure(record(0))
    copy = cloned(machine, tmp_path / "copy")
    collector.token = "u" * 43
    with ProcessLock(copy.state, RUN_LOCK, what="x"), pytest.raises(IdentityError, match="systemctl restart"):
        copy.enrol(collector)
    identity = copy.enrol(collector)
    assert copy.send()
    assert collector.stored(identity.agent_id) == []


def test_hardware_that_moves_while_it_runs(machine, collector, tmp_path):
    """The sender reports the new hardware and sends nothing until the reset; old records are never sent."""
    machine.enrol(collector)
    machine.measure(record(0))
    become(tmp_path / "original", COPY)
    before = len(collector.requests)
    assert not machine.send()
    assert len(collector.requests) == before
    assert "copy of another machine" in machine.control()["standing"]
    assert (machine.state / "id/copied").exists()
    with ProcessLock(machine.state, SEND_LOCK, what="x"), ProcessLock(machine.state, RUN_LOCK, what="y"):
        reset.reset_identity(machine.settings)
    assert machine.send()
    assert collector.stored(machine.identity.agent_id) == []


# -------------------------------------------------------------------------------- equal hardware ids


def contested(machine: Agent, collector: FakeCollector) -> bytes:
    """Enrol, mark the instance as conflicting, and return the agent's id."""
    identity = machine.enrol(collector)
    assert machine.send()
    collector.conflicting.add(bytes.fromhex(machine.control()["instance_id"]))
    return identity.agent_id


def test_a_conflict_makes_an_identity_of_its_own(machine, collector):
    """With equal hardware ids, undelivered records become gaps under the new identity; none is sent twice."""
    agent = machine
    old = contested(agent, collector)
    with closing(agent.connection()) as db:
        fold = Fold(Population.SERVER, 60_000)
        text = json.loads(fold.to_json()) | {"open": [record(9).to_json()]}
        db.execute("INSERT INTO control VALUES ('open_fold', ?)", (json.dumps(text),))
    agent.measure(record(1), record(2))
    agent.with_outbox(lambda outbox: outbox.number_pending(1))
    now = EPOCH_START
    assert not agent.send(clock=lambda: now)
    assert reset.reset_if_clone(agent.settings)
    left = gaps(agent)
    assert {gap.reason for gap in left} == {GapReason.REFUSED}
    assert sum(gap.records for gap in left) == 3
    assert sum(lost for gap in left for _, lost in gap.spans) == 3 * 60_000
    agent.measure(record(20))
    assert agent.send()
    new = agent.identity.agent_id
    assert new != old
    stored = collector.stored(new)
    assert energies(stored) == [1_020]
    assert sum(one.gap.records for one in stored) == 3
    assert energies(collector.stored(old)) == []


def test_two_that_fight_do_so_once_an_hour(machine, collector):
    """A conflict within an hour of the last one is only reported; a later one gives a new identity."""
    contested(machine, collector)
    now = [EPOCH_START]
    clock = lambda: now[0]  # noqa: E731
    assert not machine.send(clock=clock)
    reset.reset_identity(machine.settings)
    assert machine.send()
    first = machine.identity.agent_id
    collector.conflicting.add(bytes.fromhex(machine.control()["instance_id"]))
    now[0] += REKEY_MILLISECONDS - 1
    assert not machine.send(clock=clock)
    assert not (machine.state / "id/copied").exists()
    assert "used already" in machine.control()["standing"]
    now[0] += 1
    assert not machine.send(clock=clock)
    reset.reset_identity(machine.settings)
    assert machine.send()
    assert machine.identity.agent_id != first


def test_a_damaged_spool_is_no_reason_to_go_on_with_it(machine, collector):
    """An unreadable spool is set aside with an undated gap."""
    contested(machine, collector)
    CloneDetector(machine.state).mark(Mark(CONFLICT, EPOCH_START))
    machine.path.write_bytes(b"\xff" * 8192)
    assert reset.reset_if_clone(machine.settings)
    assert [(gap.reason, gap.spans) for gap in gaps(machine)] == [(GapReason.SPOOL_DAMAGED, ())]


# ----------------------------------------------------------------------------- automatic enrolment


def test_a_join_file_in_the_state_directory_is_used_and_deleted(tmp_path, collector):
    """A clone with a join file enrols and delivers at its first contact."""
    agent = machine_in(tmp_path / "clone", ORIGINAL)
    agent.measure(record(0))
    join = collector.join_file(agent.state / "join.json")
    assert agent.send()
    assert not join.exists()
    assert energies(collector.stored(agent.identity.agent_id)) == [1_000]


def test_a_join_file_elsewhere(tmp_path, collector):
    """The setting `collector.join_file` gives the file's path."""
    folder = tmp_path / "clone"
    folder.mkdir()
    agent = Agent(folder / "state", **{"collector.join_file": str(tmp_path / "elsewhere")})
    agent.measure(record(0))
    collector.join_file(tmp_path / "elsewhere")
    assert agent.send()
    assert not (tmp_path / "elsewhere").exists()


def test_a_used_token_is_asked_for_rarely(tmp_path, collector):
    """An agent with a used token waits at least 15 minutes before it asks again, and keeps the file."""
    Agent(tmp_path / "first").enrol(collector)
    agent = machine_in(tmp_path / "clone", ORIGINAL)
    collector.join_file(agent.state / "join.json")
    now = EPOCH_START
    assert not agent.send(clock=lambda: now)
    assert int(agent.control()["next_send"]) >= now + 900_000
    assert (agent.state / "join.json").exists()


# ------------------------------------------------------------------------ process killed at any line

CUT = r"""
import os, signal, sys
from contextlib import closing
from pathlib import Path
sys.path.insert(0, ".")
from tests.support.fakes.agent import Agent, record
from tests.support.killing import dies_at, in_child, lines_of
from tests.unit.agent.identity.test_copies import COPY, ORIGINAL, become
from veilleuse.agent.identity import reset
from veilleuse.agent.identity.clone import CONFLICT, CloneDetector, Mark
from veilleuse.agent.identity.store import IdentityStore
from veilleuse.agent.model import Gap, body_from_json

OURS = ("/agent/identity/reset.py", "/agent/identity/clone.py")


def prepare(folder, conflict):
    become(folder, ORIGINAL)
    agent = Agent(folder / "state", **{"paths.sysfs": str(folder / "sys")})
    reset.reset_if_clone(agent.settings)
    for name in ("certificate.pem", "key.pem", "agent_id"):
        IdentityStore(agent.state).write(name, b"the original's")
    agent.measure(record(0), record(1))
    if conflict:
        CloneDetector(agent.state).mark(Mark(CONFLICT, 1_000))
    else:
        become(folder, COPY)
    return agent


def settled(agent):
    reset.reset_if_clone(agent.settings)


def sound(agent, conflict):
    assert not IdentityStore(agent.state).is_enrolled()
    assert (agent.state / "original/certificate.pem").read_bytes() == b"the original's"
    with closing(agent.connection()) as db:
        bodies = [body_from_json(row[0]) for row in db.execute("SELECT body FROM pending")]
    assert all(isinstance(body, Gap) for body in bodies), bodies
    assert sum(body.records for body in bodies) == (2 if conflict else 0), bodies
    [aside] = [file for file in agent.state.glob("spool.db.copied-*") if not file.name.endswith("-journal")]
    with closing(__import__("sqlite3").connect(aside)) as db:
        assert db.execute("SELECT count(*) FROM pending").fetchone()[0] == 2
    assert not list(agent.state.glob("spool.db.new*"))
    assert not reset.reset_if_clone(agent.settings)


folder = Path(sys.argv[1])
for conflict in (False, True):
    whole = folder / f"whole-{conflict}"
    whole.mkdir()
    agent = prepare(whole, conflict)
    lines = lines_of(lambda: settled(agent), OURS, folder / "lines")
    assert in_child(lambda: sound(agent, conflict)) == 0
    for at in range(1, lines + 1, max(1, lines // 25)):
        place = folder / f"{conflict}-{at}"
        place.mkdir()
        agent = prepare(place, conflict)

        def cut():
            dies_at(at, OURS)
            settled(agent)

        assert in_child(cut) == -signal.SIGKILL, at
        assert in_child(lambda: settled(agent)) == 0, at
        assert in_child(lambda: sound(agent, conflict)) == 0, (conflict, at)
print(lines)
"""


@pytest.mark.any_date
def test_beginning_again_killed_at_any_moment(tmp_path):
    """After a kill at any line the next start finishes: a new spool, the old one complete, the gap once."""
    assert int(run_program(CUT, str(tmp_path))) > 40
