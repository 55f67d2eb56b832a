# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with accounts and their access journal. ports.Accounts."""

from __future__ import annotations

from tests.conformance.backends import Backend
from tests.support.pushes import HOUR, NOW
from veilleuse.collector.model.accounts import Account, Role

TOKEN = bytes(32)
START = NOW - NOW % HOUR


def insert(store: Backend) -> Account:
    """Insert an account that may read one entity."""
    return store.accounts.insert_account(
        name="ada",
        role=Role.READER,
        entities=["A"],
        token_sha256=TOKEN,
        created_unix_milliseconds=NOW,
        expires_unix_milliseconds=NOW + HOUR,
    )


def test_an_account_is_revoked_once_and_stays(store: Backend):
    """An account is listed as created, then with its end; an unknown token cannot be revoked."""
    made = insert(store)
    assert store.accounts.accounts() == (made,)
    assert (made.name, made.entities, made.token_sha256) == ("ada", ("A",), TOKEN)
    assert not store.accounts.revoke_account(b"1" * 32, NOW + 1)
    assert store.accounts.revoke_account(TOKEN, NOW + 1)
    found = store.accounts.account(made.account_id)
    assert found is not None
    assert found.revoked_unix_milliseconds == NOW + 1
    assert store.accounts.account(made.account_id + 1) is None


def test_accesses_of_an_hour_share_a_line_until_they_expire(store: Backend):
    """The same query twice in an hour is one line; the next hour has another."""
    made = insert(store).account_id
    for moment in (START, START + 1, START + HOUR):
        store.accounts.note_access(made, moment, route="/api", query="a=1", status=200, rows=2)
    found = store.accounts.accesses(0, 2**60, account_id=made, limit=10)
    assert len(found) == 2
    assert store.accounts.accesses(0, 2**60, account_id=made + 1, limit=10) == ()
    assert store.accounts.expire_accesses(START + HOUR, 10) == 1
    assert store.accounts.accesses(0, 2**60, account_id=None, limit=10) == found[:1]
