# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""docs/commands.md states how much of a file is read, with the bounds of the programs."""

from __future__ import annotations

import re

import pytest

from tests.architecture.tree import ROOT
from veilleuse.agent import settings as agent_settings
from veilleuse.agent.identity import store
from veilleuse.agent.sources import meters_file
from veilleuse.collector.backup import archive, encryption
from veilleuse.collector.cli import calendar, close, output, reen
from veilleuse.collector.cli import meters as shared_meters
from veilleuse.collector.closed_years import verify as verifying
from veilleuse.collector.derive.calibration import readings
from veilleuse.collector.enrolment import ca_files, register
from veilleuse.collector.factors import base_carbone
from veilleuse.collector.grid import files as intensity
from veilleuse.collector.inventory import csv_table, glpi_api, mapping
from veilleuse.collector.web import access
from veilleuse.wire import files, settings_file

BOUNDS = {
    "configuration": (settings_file.LARGEST_BYTES, meters_file.LARGEST_BYTES),
    "`inventory import`": (csv_table.MAXIMUM_BYTES, readings.MAX_BYTES),
    "--mapping`": (mapping.MAXIMUM_BYTES, calendar.MAXIMUM_BYTES, reen.MAXIMUM_BYTES),
    "`intensity import`": (intensity.MAXIMUM_BYTES, base_carbone.MAXIMUM_BYTES),
    "`meters import`": (shared_meters.MAXIMUM_BYTES,),
    "keys and chains": (output.MAX_BYTES,),
    "authorities to trust": (files.AUTHORITIES_BYTES,),
    "`verify`": (verifying.MOST_BYTES, verifying.SIGNATURE_BYTES, close.KEY_BYTES),
    "a join file": (agent_settings.MAX_JOIN_FILE_BYTES, glpi_api.MAXIMUM_FILE_BYTES),
    "key file of backups": (encryption.KEY_FILE_BYTES, access.TOKEN_BYTES),
    "`restore`": (archive.MANIFEST_BYTES_MAXIMUM,),
    "the register": (register.MOST_BYTES, ca_files.MOST_BYTES),
    "the identity": (store.MOST_BYTES,),
}
"""Part of a row's first cell → the bounds that the row states: one for each constant, or one for all."""
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@pytest.mark.parametrize("row", BOUNDS)
def test_a_bound_is_the_one_that_is_told(row):
    """A row of the table states the constants of the programs."""
    text = (
        (ROOT / "docs/commands.md")
        .read_text(encoding="utf-8")
        .split("## How much of a file is read")[1]
        .split("\n## ")[0]
    )
    lines = [line for line in text.splitlines() if line.startswith("|") and row in line.split("|")[1]]
    assert len(lines) == 1
    cell = lines[0].split("|")[2]
    told = [int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+) ([KMG]iB)", cell)]
    known = BOUNDS[row]
    assert told in (list(known), [known[0]] if len(set(known)) == 1 else [])
