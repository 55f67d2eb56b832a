# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R4: one answer in five is lost after the commit."""

from __future__ import annotations

import pytest

from tests.promises.support.proxy import Proxy
from tests.promises.support.trial import Trial
from tests.support.waiting import until


@pytest.mark.promise("R4", "R18")
def test_answers_lost_after_the_commit(tmp_path, figure):
    """Agents that get no acknowledgement send again: every record arrives, none is duplicated."""
    with Trial(tmp_path) as trial:
        trial.enrol(40)
        trial.start()
        trial.stack.wait_for(trial.serves, "the collector serves", process=trial.collector)
        host, _, port = trial.address.rpartition(":")
        with Proxy((host, int(port))) as proxy:
            proxy.lose_answers = 0.2
            trial.load(200, address=proxy.address)
            until(lambda: proxy.counts["lost"] > 60, "hardly an answer was lost")
            report = trial.end()
    lost, answers = proxy.counts["lost"], proxy.counts["answers"]
    figure(
        f"{report}, after {lost:,} of {answers:,} answers were lost ({100 * lost / answers:.0f} %), {report.lost_answers:,} of "
        "them known to be after a commit"
    )
    assert report.sound, report.details
    assert lost > 0.1 * answers > 20
    assert report.lost_answers > 10
