# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store keeps of remote configuration: ports.Configurations."""

from __future__ import annotations

from tests.support.pushes import NOW, enrol
from veilleuse.collector.model.hosts import AppliedConfiguration, AppliedState
from veilleuse.collector.model.remote_config import OWN_FILE, Rollout
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.vocabulary import Population

COARSE = Configuration(20_000, 600_000, 1_800_000)


def test_a_new_store_has_nothing_set(store):
    """A new store has no rollout, and a new host no configuration."""
    host_id = enrol(store.registry)
    assert store.configurations.rollouts() == ()
    host = store.registry.host(host_id)
    assert host is not None
    assert host.configuration is None


def test_a_rollout_comes_back_as_it_was(store):
    """Each population has one rollout, replaced as a whole; None and the largest reach are read unchanged."""
    first = Rollout(Population.SERVER, OWN_FILE, COARSE, 1, 12_345, NOW)
    store.configurations.put(first)
    other = Rollout(Population.CLASSROOM, COARSE, None, 0, -1, NOW)
    store.configurations.put(other)
    assert set(store.configurations.rollouts()) == {first, other}
    second = Rollout(Population.SERVER, COARSE, Configuration(contact_milliseconds=3_600_000), 100, 2**63 - 1)
    store.configurations.put(second)
    assert set(store.configurations.rollouts()) == {second, other}


def test_a_host_s_word_is_kept_until_its_next(store):
    """Registry and reader give the last reported configuration; None deletes it; other hosts keep theirs."""
    told, silent = enrol(store.registry), enrol(store.registry)
    for said in (
        AppliedConfiguration(bytes(range(32)), AppliedState.APPLIED),
        AppliedConfiguration(bytes(range(32)), AppliedState.CONFIRMED),
        AppliedConfiguration(bytes(32), AppliedState.FAILED),
        None,
    ):
        store.configurations.note(told, said)
        assert {host.host_id: host.configuration for host in store.reader.hosts()} == {
            told: said,
            silent: None,
        }
        assert {host.host_id: host.configuration for host in store.registry.hosts()} == {
            told: said,
            silent: None,
        }
