# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Faults of a real collector reach both teams by a real Prometheus and Alertmanager.

The page and `doctor` say the same. `make bench-alerts` prints the seconds.
"""

from __future__ import annotations

import html
import json
import os
import re
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.support.alerting import AlertScene, alert_scene
from tests.support.faults import FAULTS, SETTINGS, fill
from tests.support.stack import get
from tests.support.waiting import until
from veilleuse.collector.documents.text import words
from veilleuse.collector.exposition.conditions import TABLE, Audience, Severity

pytestmark = pytest.mark.machine_date  # of Prometheus and Alertmanager
STORED = {(fault.alert, fault.severity): fault for fault in FAULTS}
BY_ALERT = {condition.alert: condition for condition in TABLE}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlertScene]:
    """Give the collector once every fault is told."""
    with alert_scene(tmp_path_factory.mktemp("alerts"), fill, SETTINGS) as made:
        until(lambda: set(STORED) <= set(made.watch.firing()), "some fault is not told", 120, every=0.5)
        yield made


def test_each_fault_fires_its_alert_and_no_other(scene):
    """What fires is what was broken, at its severity; a warning beside its critical twin is muted."""
    until(lambda: set(scene.watch.firing()) == set(STORED), "another alert fires")


def test_each_team_gets_its_own(scene):
    """Alertmanager sends sobriety to the sustainability team and the rest to operations."""
    for (alert, _), notice in scene.watch.firing().items():
        assert notice.receiver == BY_ALERT[alert].audience.value


def test_notices_are_whole_sentences(scene):
    """Prometheus fills each template: no error, no brace, a number or a word for each field."""
    for notice in scene.watch.firing().values():
        assert set(notice.annotations) == {"summary", "description", "summary_en", "description_en"}
        for text in notice.annotations.values():
            assert not re.search(r"[{}]|error expanding|no value|NaN", text), text


def test_the_first_page_says_the_same(scene):
    """The page has one sentence for each fault of operations, the most severe first."""
    page = html.unescape(get(scene.stack.url + "?lang=fr")).replace("\u00a0", " ")
    told = re.findall(r'<p class="notice">(.*?)</p>', page, re.DOTALL)
    remedies = {name: text.replace("\u00a0", " ") for name, text in words("fr").texts["remedies"].items()}
    for alert, severity in STORED:
        condition = BY_ALERT[alert]
        is_told = any(remedies[condition.name].split("{")[0] in one for one in told)
        assert is_told is (severity != Severity.INFO), (alert, told)


def test_doctor_says_the_same(scene):
    """`doctor` has a finding of the same severity for each fault."""
    found = json.loads(scene.stack.run("veilleuse", "doctor", "--json").stdout)
    outcomes = {Severity.INFO: "good", Severity.WARNING: "warning", Severity.CRITICAL: "failed"}
    for fault in FAULTS:
        outcome = outcomes[Severity(fault.severity)]
        assert any(
            one["outcome"] == outcome and fault.doctor in one["text"]
            for one in found
            if one["check"] == fault.check
        ), (fault, [one for one in found if one["check"] == fault.check])


def test_a_stopped_service_mutes_what_follows_from_it(scene):
    """A frozen receiving process is told as such; the silence of servers that follows from it is not."""
    os.kill(scene.pid, signal.SIGSTOP)
    try:
        scene.watch.wait_for("VeilleuseCollectorDown", "critical")
    finally:
        os.kill(scene.pid, signal.SIGCONT)
    scene.watch.wait_for("VeilleuseCollectorDown", "critical", fires=False)


def test_stopped_pages_are_told_by_prometheus_alone(scene):
    """Without the web process nothing else is told: nothing can be judged."""
    web = next(one for one in psutil.Process(scene.pid).children() if "web" in " ".join(one.cmdline()))
    web.suspend()
    try:
        scene.watch.wait_for("VeilleuseWebDown", "critical")
    finally:
        web.resume()
    assert BY_ALERT["VeilleuseWebDown"].audience is Audience.OPERATIONS


def test_a_lost_target_is_told_while_another_answers(scene):
    """Of two targets, one leaves service discovery: its alert names it, and ends when it is back."""
    scene.watch.wait_for("VeilleuseWebDown", "critical", fires=False)
    scene.watch.discover(both=False)
    scene.watch.wait_for("VeilleuseWebDown", "critical")
    assert scene.watch.firing()["VeilleuseWebDown", "critical"].labels["instance"] == scene.watch.second
    scene.watch.discover()
    scene.watch.wait_for("VeilleuseWebDown", "critical", fires=False)
