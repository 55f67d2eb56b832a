# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R2: the power is cut. The data directory is an ext4 in a file, whose present content is the disk's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.promises.support.disks import ext4
from tests.promises.support.trial import Trial
from tests.support.waiting import random_moment

DISK_MIB = 256
COMMIT = "commit=300"
"""Seconds in which ext4 writes nothing by itself: only synced data are on the disk."""
OF_THE_MOMENT = ("unexplained_milliseconds",)
"""Faults that a cut does not show: records on their way are neither stored nor lost."""


def cut(folder: Path, cuts: int, mutant: str = "") -> tuple[Counter[str], int, list[str]]:
    """Return faults after so many cuts, distinct records acknowledged before the last cut, and details."""
    image, copies = folder / "disk.img", folder / "copies"
    copies.mkdir()
    with ext4(image, folder / "collector", DISK_MIB, COMMIT), Trial(folder, mutant=mutant) as trial:
        (trial.stack.data / "lost+found").rmdir()
        trial.enrol(40)
        trial.start()
        trial.load(150)
        times = [_cut(trial, image, copies / str(number)) for number in range(cuts)]
        trial.end(drained=False)
        faults: Counter[str] = Counter()
        details: list[str] = []
        acknowledged = 0
        for number, at in enumerate(times):
            report = trial.compare(copies / str(number), at)
            faults.update({fault: n for fault, n in report.faults.items() if fault not in OF_THE_MOMENT})
            details += report.details
            acknowledged = report.acknowledged
    return faults, acknowledged, details


def _cut(trial: Trial, image: Path, copy: Path) -> float:
    """Stop the writer at a random moment, copy the database's files from the disk, and return the time when
    the answers given before had arrived."""
    trial.wait_for_acks(trial.chance.randint(5, 150))
    random_moment(trial.chance, 0.05)
    assert trial.collector is not None
    os.kill(trial.collector.pid, signal.SIGSTOP)
    try:
        shot = image.with_suffix(".cut")
        subprocess.run(["cp", "--sparse=always", str(image), str(shot)], check=True)
        at = trial.note("power cut")  # the stopped collector has answered nothing since
    finally:
        os.kill(trial.collector.pid, signal.SIGCONT)
    with ext4(
        shot, trial.folder / "after"
    ) as disk:  # the mount replays ext4's journal, as the next boot does
        copy.mkdir()
        for file in disk.glob("data.db*"):
            shutil.copy(file, copy)
    shot.unlink()
    return at


@pytest.mark.long
@pytest.mark.promise("R2")
def test_power_cuts(tmp_path, figure):
    """Acknowledged records are on the disk, and the database is sound, at any moment of a power cut."""
    cuts = 50
    faults, acknowledged, details = cut(tmp_path, cuts)
    figure(
        f"{faults['lost']:,} of {acknowledged:,} acknowledged records lost and {faults['damage']} databases damaged by {cuts} power cuts"
    )
    assert not any(faults.values()), (faults, details[:12])
    assert acknowledged > 2_000


@pytest.mark.long
@pytest.mark.promise("R2")
def test_power_cuts_are_felt(tmp_path, figure):
    """The same cuts lose records of a collector that does not sync its commits: the test can fail."""
    faults, acknowledged, _ = cut(tmp_path, 10, "commits_without_fsync")
    figure(
        f"{faults['lost']:,} of {acknowledged:,} acknowledged records lost by 10 power cuts with a mutant (synchronous=NORMAL)"
    )
    assert faults["lost"] > 0
