# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Import deploy/zabbix into a real Zabbix 7.0 (Debian's), and watch a real `veilleuse serve` with it.

Minutes of the template become seconds here: no problem has to last ten minutes. Nothing else changes.
"""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from deploy.zabbix.build import FILES, HOST, MASTER, OUTPUT
from tests.support.stack import Stack
from tests.support.waiting import PATIENCE_SECONDS, comes, until
from tests.support.zabbix import Zabbix
from veilleuse.collector.exposition import catalogue as c

pytestmark = pytest.mark.long
TOKEN = "0123456789abcdef0123456789abcdef"
RULES: Final = {
    name: {"createMissing": True, "updateExisting": True}
    for name in ("template_groups", "templates", "items", "triggers", "discoveryRules")
}
SLOW_SECONDS = 150.0
"""Zabbix computes nodata() twice a minute only."""


def faster(text: str) -> str:
    """Return a template whose minutes are seconds."""
    found, number = re.subn(r"(?<=[,])(\d+)m(?=\))", r"\1s", text.replace("delay: 1m", "delay: 1s"))
    assert number > 50
    return found


@dataclass
class Watched:
    """A collector that Zabbix reads."""

    zabbix: Zabbix
    stack: Stack
    serving: subprocess.Popen[bytes]

    def problems(self) -> dict[str, str]:
        """Return the open problems of the host: trigger → sentence."""
        triggers = {
            one["triggerid"]: one["description"] for one in self.zabbix("trigger.get", host="collector")
        }
        found = self.zabbix("problem.get", objectids=list(triggers))
        return {triggers[one["objectid"]]: one["name"] for one in found}

    def items(self) -> dict[str, dict[str, Any]]:
        """Return the items of the host by key."""
        return {one["key_"]: one for one in self.zabbix("item.get", host="collector")}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Start Zabbix, import both templates, and link a host with the French one to a collector."""
    folder = tmp_path_factory.mktemp("zabbix")
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    settings = {"VEILLEUSE__HTTP__METRICS_TOKEN_FILE": str(folder / "token")}
    with Zabbix() as zabbix, Stack(folder, settings) as stack:
        for name in FILES.values():
            text = (OUTPUT / name).read_text()
            for source in (text, faster(text)):  # as delivered first
                assert zabbix("configuration.import", format="yaml", rules=RULES, source=source) is True
        stack.must("veilleuse", "init", "--simulated")
        serving = stack.start_collector()
        template = zabbix("template.get", filter={"host": HOST["fr"]})[0]["templateid"]
        group = zabbix("hostgroup.create", name="Veilleuse")["groupids"][0]
        zabbix(
            "host.create",
            host="collector",
            groups=[{"groupid": group}],
            templates=[{"templateid": template}],
            macros=[
                {"macro": "{$VEILLEUSE.URL}", "value": f"{stack.url}metrics"},
                {"macro": "{$VEILLEUSE.TOKEN}", "value": TOKEN, "type": "1"},
            ],
        )
        found = Watched(zabbix, stack, serving)
        until(
            lambda: found.items()["veilleuse.collector_up"]["lastclock"] != "0",
            "nothing is read",
            SLOW_SECONDS,
        )
        yield found


def test_what_zabbix_reads_is_on_metrics(watched):
    """Each series of a watched metric becomes one item with its value; no item or rule is unsupported."""
    exposed = get_metrics(watched)
    refused = {series for series in exposed if series.startswith(c.REFUSED_RECORDS.name)}
    assert len(refused) > 40
    assert comes(
        lambda: (
            sum(key.startswith("veilleuse.collector_refused_records") for key in watched.items())
            == len(refused)
        )
    )
    items = watched.items()
    assert {key: one["error"] for key, one in items.items() if one["error"]} == {}
    assert [
        one["error"] for one in watched.zabbix("discoveryrule.get", host="collector") if one["error"]
    ] == []
    for name in ("root", "intermediate", "server"):
        ends = exposed[f'{c.CERTIFICATE.name}{{name="{name}"}}']
        assert float(items[f"veilleuse.certificate_expiry_timestamp_seconds[{name}]"]["lastvalue"]) == ends
    assert items["veilleuse.backup_made"]["lastclock"] == "0"  # simulated data has none: absent is not zero
    assert items[MASTER]["lastvalue"] == ""  # the whole page is not kept


def test_a_sound_collector_has_no_problem(watched):
    """Only the year's provisional factor is told, for information, with its zone."""
    expected = {"VeilleuseFactorProvisional info FR ADEME-FR-2025-MOY 2026"}
    assert comes(lambda: set(watched.problems()) == expected), watched.problems()
    (sentence,) = watched.problems().values()
    assert re.fullmatch(r"[^{]*2026[^{]* FR\b[^{]*", sentence)


def test_a_machine_that_waits_is_a_problem_until_it_is_revoked(watched):
    """A label value that appears later is discovered; its problem says how many, and ends with its series."""
    stack, join = watched.stack, str(watched.stack.folder / "join")
    where = ("--entity", "test", "--site", "test", "--population", "server", "--approve")
    stack.must("veilleuse", "token", "create", *where, "--output", join)
    stack.run("veilleuse-agent", "enrol", join)
    name = "VeilleuseMachineWaiting warning server"
    assert comes(lambda: name in watched.problems(), SLOW_SECONDS), watched.problems()
    assert watched.problems()[name].endswith(": 1.")
    host = stack.must("veilleuse", "hosts", "list", "--status", "pending").splitlines()[1].split()[0]
    stack.must("veilleuse", "hosts", "revoke", host, "--yes")
    assert comes(lambda: name not in watched.problems(), SLOW_SECONDS), watched.problems()


def test_reception_that_hangs_is_a_problem_until_it_answers(watched):
    """The receiving process is stopped: its problem starts and ends, and no problem of the pages."""
    watched.serving.send_signal(signal.SIGSTOP)
    try:
        assert comes(lambda: "VeilleuseCollectorDown critical" in watched.problems(), SLOW_SECONDS)
        assert "VeilleuseWebDown critical" not in watched.problems()
    finally:
        watched.serving.send_signal(signal.SIGCONT)
    assert comes(lambda: "VeilleuseCollectorDown critical" not in watched.problems(), SLOW_SECONDS)


def test_pages_that_do_not_answer_are_a_problem(watched):
    """Without the collector, one problem says that nothing answers; the others end, as nothing is known."""
    watched.stack.stop(watched.serving)
    expected = {"VeilleuseWebDown critical"}
    assert comes(lambda: set(watched.problems()) == expected, SLOW_SECONDS), watched.problems()


def get_metrics(watched: Watched) -> dict[str, float]:
    """Return series → value of /metrics."""
    request = urllib.request.Request(
        f"{watched.stack.url}metrics", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        text = answer.read().decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}
