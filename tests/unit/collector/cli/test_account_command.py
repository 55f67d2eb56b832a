# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse account …` on an open data directory: tokens, ends, the journal, and a restored backup."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from tests.support import clock
from tests.support.clock import now
from tests.support.pushes import enrol
from tests.support.waiting import until
from veilleuse.collector.admin.accounts import expire
from veilleuse.collector.admin.operations import Operations
from veilleuse.collector.app.data_directory import Collector, open_collector
from veilleuse.collector.app.schedule import run_daily_tasks
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.accounts import JOURNAL_DAYS, TOKEN_PREFIX, Account, token_sha256
from veilleuse.collector.model.inventory import Entity, InventoryChange
from veilleuse.collector.model.query import is_within

DAY = timedelta(days=1)


def perform(collector: Collector, operation: str, **arguments: Any) -> Any:
    """Perform an operation with an answer through JSON, as over the socket."""
    return json.loads(json.dumps(collector.operations.perform(operation, arguments)))


def test_a_token_is_shown_once(opened):
    """Only the answer to create contains it; its SHA-256 is stored."""
    made = perform(opened, "account_create", name="grafana", days=30)
    token = made.pop("token")
    assert token.startswith(TOKEN_PREFIX)
    assert (made["role"], made["entities"], made["state"], made["last_used_on"]) == (
        "reader",
        [],
        "good",
        None,
    )
    life = made["expires_unix_milliseconds"] - made["created_unix_milliseconds"]
    assert life == 30 * 86_400_000
    (stored,) = opened.issuing.commit(opened.store.accounts.accounts)
    assert stored.token_sha256 == token_sha256(token)
    for operation in ("account_list", "account_journal"):
        assert token not in json.dumps(perform(opened, operation))
    assert token not in json.dumps(perform(opened, "account_show", account="grafana"))


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"name": "Mme Durand"}, "must be 1 to 64 of"),
        ({"name": ""}, "must be 1 to 64 of"),
        ({"name": "a" * 65}, "must be 1 to 64 of"),
        ({"name": "12"}, "and not a number"),
        ({"name": "a", "role": "root"}, "root"),
        ({"name": "a", "role": "admin", "entities": ["E"]}, "--entity is for readers"),
        ({"name": "a", "entities": ["E\u202e"]}, "the entity must be"),
        ({"name": "a", "entities": [f"E{n}" for n in range(65)]}, "65 entities: give at most 64"),
        ({"name": "a", "days": 0}, "--days must be"),
        ({"name": "a", "days": 1099}, "--days must be"),
        ({"name": "a", "days": float("nan")}, "--days must be"),
    ],
)
def test_what_cannot_be_an_account(opened, order, said):
    """Each order is refused and creates no account."""
    with pytest.raises(UsageError, match=said):
        opened.operations.perform("account_create", order)
    assert perform(opened, "account_list") == []


def test_one_of_a_name_at_a_time(opened):
    """A second account of a name is refused until the first is revoked; the name then means the valid one."""
    first = perform(opened, "account_create", name="bilan")
    with pytest.raises(UsageError, match="there is an account 'bilan'"):
        perform(opened, "account_create", name="bilan")
    ended = perform(opened, "account_revoke", account="bilan", who="root", why="lost")
    assert ended["state"] == "revoked"
    second = perform(opened, "account_create", name="bilan")
    assert perform(opened, "account_show", account="bilan")["account_id"] == second["account_id"]
    assert perform(opened, "account_show", account=str(first["account_id"]))["state"] == "revoked"
    with pytest.raises(AdminError, match="no account 'nobody'"):
        perform(opened, "account_revoke", account="nobody")
    journal = opened.store.identity.connection.execute("SELECT who, what, why FROM journal").fetchall()
    assert ("root", f"account {first['account_id']} 'bilan' revoked", "lost") in [
        tuple(row) for row in journal
    ]


def test_an_entity_nobody_is_of_is_a_warning(opened):
    """The warning suggests the nearest name, because the entity may come later."""
    opened.issuing.commit(lambda: enrol(opened.store.registry, site_name="Lyon"))
    (entity,) = {host.org_entity for host in opened.issuing.commit(opened.store.registry.hosts)}
    made = perform(opened, "account_create", name="a", entities=[entity])
    assert made["warnings"] == []
    made = perform(opened, "account_create", name="b", entities=[entity + "x"])
    unknown = (
        f"no machine belongs to '{entity}x' yet, and no token or inventory names it: did you mean '{entity}'?"
    )
    assert made["warnings"] == [unknown]


def test_an_entity_of_the_inventory_is_no_warning(opened):
    """An entity whose machines have no agent yet was taken for a typing error."""
    change = InventoryChange(
        1, date(2026, 11, 1), entities=(Entity("Lyon", None), Entity("Lyon > Culture", "Lyon"))
    )
    opened.operations.context.alone(lambda: opened.store.inventory.apply(change))
    assert perform(opened, "account_create", name="a", entities=["Lyon > Culture"])["warnings"] == []
    made = perform(opened, "account_create", name="b", entities=["Lyon > Cultrue"])
    assert [one.endswith("did you mean 'Lyon > Culture'?") for one in made["warnings"]] == [True]


@pytest.mark.parametrize(
    ("entity", "within"),
    [
        ("Lyon", True),
        ("Lyon > DSI", True),
        ("Lyon > DSI > Réseau", True),
        ("Lyonnais", False),
        ("Lyon>DSI", False),
        ("Rhône > Lyon", False),
        ("", False),
        (None, False),
    ],
)
def test_what_is_below_an_entity(entity, within):
    """Entities match by whole parts of their path."""
    assert is_within(entity, ("Lyon",)) is within
    assert is_within(entity, ())


def test_the_journal(opened):
    """Accesses are listed by account and period. An access of an ended account is refused."""
    one = perform(opened, "account_create", name="one")["account_id"]
    two = perform(opened, "account_create", name="two")["account_id"]
    for account_id, query in ((one, "a"), (two, "b"), (one, "a"), (one, "c")):
        perform(
            opened,
            "account_access",
            account_id=account_id,
            route="/api/v1/energy",
            query=query,
            status=200,
            rows=7,
        )
    lines = perform(opened, "account_journal")
    assert {(line["account"], line["query"], line["times"]) for line in lines} == {
        ("one", "a", 2),
        ("two", "b", 1),
        ("one", "c", 1),
    }
    assert [line["account"] for line in perform(opened, "account_journal", account="two")] == ["two"]
    today = clock.today()
    assert perform(opened, "account_journal", first=(today + DAY).isoformat()) == []
    assert perform(opened, "account_journal", end=today.isoformat()) == []
    assert len(perform(opened, "account_journal", limit=2)) == 2
    assert perform(opened, "account_show", account="one")["last_used_on"] == today.isoformat()
    for wrong in ({"limit": 0}, {"first": "yesterday"}):
        with pytest.raises(UsageError):
            perform(opened, "account_journal", **wrong)
    perform(opened, "account_revoke", account="two")
    with pytest.raises(AdminError, match="has ended"):
        perform(opened, "account_access", account_id=two, route="/", query="", status=200, rows=0)


def test_lines_go_after_a_year(opened):
    """Lines are deleted after a year and not a day before, also by the daily tasks."""
    account_id = perform(opened, "account_create", name="old", days=1_000)["account_id"]
    clock = [now()]
    context = replace(opened.operations.context, issuing=replace(opened.issuing, now=lambda: clock[0]))
    Operations(context).perform(
        "account_access", {"account_id": account_id, "route": "/x", "query": "", "status": 200, "rows": 1}
    )
    clock[0] += timedelta(days=JOURNAL_DAYS - 1)
    assert expire(context) == 0
    clock[0] += timedelta(days=1, seconds=1)
    assert expire(context) == 1
    long_ago = round((clock[0] - timedelta(days=800)).timestamp() * 1000)
    opened.issuing.commit(
        lambda: opened.store.accounts.note_access(
            account_id, long_ago, route="/y", query="", status=200, rows=1
        )
    )
    with run_daily_tasks(opened, today=lambda: date(2026, 1, 2)):
        until(lambda: perform(opened, "account_journal") == [], "the upkeep has trimmed the journal")


def test_a_restored_backup_opens_no_revoked_account(lyon):
    """The register outside the backup keeps the revocation, also after it was shortened."""
    with open_collector(lyon) as collector:
        token = perform(collector, "account_create", name="stolen")["token"]
        perform(collector, "account_create", name="good")
    backup = {path: path.read_bytes() for path in lyon.data_dir.glob("*.db")}
    with open_collector(lyon) as collector:
        perform(collector, "account_revoke", account="stolen")
    for path, content in backup.items():
        path.write_bytes(content)
    with open_collector(lyon) as collector:
        states = {one["name"]: one["state"] for one in perform(collector, "account_list")}
        assert states == {"stolen": "revoked", "good": "good"}
    for path, content in backup.items():
        path.write_bytes(content)
    register = lyon.data_dir / "register.jsonl"
    lines = register.read_text().splitlines()
    assert any('"account_revoked"' in line for line in lines)
    assert token not in register.read_text()
    register.write_text("\n".join(lines[-3:]) + "\n")
    with open_collector(lyon) as collector:
        states = {one["name"]: one["state"] for one in perform(collector, "account_list")}
        assert states["stolen"] == "revoked"


def test_accounts_are_known_again_after_a_restore(lyon):
    """An account created since the backup is the same; a revoked one is revoked, and a new one has its
    name. The register holds no token."""
    with open_collector(lyon) as collector:
        perform(collector, "account_create", name="old")
    backup = {path: path.read_bytes() for path in lyon.data_dir.glob("*.db")}
    with open_collector(lyon) as collector:
        made = perform(collector, "account_create", name="late", entities=["A", "B"], days=9)
        perform(collector, "account_revoke", account="old")
        perform(collector, "account_create", name="old", role="owner")
        accounts = {_facts(one) for one in collector.store.accounts.accounts()}
    for _ in range(2):
        for path, content in backup.items():
            path.write_bytes(content)
        with open_collector(lyon) as collector:
            assert {_facts(one) for one in collector.store.accounts.accounts()} == accounts
    assert made["token"] not in (lyon.data_dir / "register.jsonl").read_text()


def _facts(one: Account) -> tuple[object, ...]:
    """Return what must come back of an account."""
    ended = one.revoked_unix_milliseconds is not None
    return one.name, one.role, one.entities, one.token_sha256, one.expires_unix_milliseconds, ended


# --- the command


def test_the_commands(lyon, veilleuse, tmp_path):
    """Accounts are created, listed, shown and revoked at the terminal."""
    code, out, _ = veilleuse("account", "create", "grafana", "--days", "30")
    assert code == 0
    assert "reader of the whole fleet, good until" in out
    assert "token, shown this once: veilleuse_" in out
    file = tmp_path / "token"
    code, out, _ = veilleuse("account", "create", "culture", "--entity", "Lyon > Culture", "-o", str(file))
    assert code == 3
    assert "warning: no machine belongs to 'Lyon > Culture' yet" in out
    assert "veilleuse_" not in out
    assert file.read_text().startswith("veilleuse_")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    code, _, err = veilleuse("account", "create", "third", "-o", str(file))
    assert code == 1
    assert "exists" in err
    code, out, _ = veilleuse("account", "list")
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["account", "grafana", "culture"]
    code, out, _ = veilleuse("account", "show", "culture")
    assert "Lyon > Culture" in out
    assert veilleuse("account", "revoke", "culture", "--why", "a test")[1] == "account 2 'culture' revoked\n"
    assert json.loads(veilleuse("account", "list", "--json")[1])[1]["state"] == "revoked"
    assert veilleuse("account", "journal")[2] == "nothing was read\n"
    assert veilleuse("account", "revoke", "nobody")[0] == 1
    assert veilleuse("account", "create", "É")[0] == 2
