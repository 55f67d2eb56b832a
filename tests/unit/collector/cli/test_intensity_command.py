# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The indicative ledger in `veilleuse intensity …`, `report indicative`, /metrics and `doctor`."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import unix_milliseconds
from tests.support.closed_years import Command
from tests.support.filled import METER, Filled, cell, clock
from tests.support.machines import served, settings_in
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.cli.doctor.grid import check_intensity
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.model.grid import LABEL, GridIntensity, IntensityKind, IntensityStatus
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.metrics.grid import add_grid, read_grid
from veilleuse.collector.web.metrics.samples import fleet_exposition
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.wire.vocabulary import State

FIXTURES = Path(__file__).parents[3] / "fixtures" / "intensity"
HOUR = 3_600_000
NOW = datetime(2026, 3, 10, 10, tzinfo=UTC)


def test_import_and_show(lyon: CollectorSettings, veilleuse: Command):
    """Both statuses of a file are imported, and nothing new the second time.
    Days show gaps and replaced values."""
    file = str(FIXTURES / "eco2mix_export.csv")
    code, out, _ = veilleuse("intensity", "import", file)
    assert code == 0
    assert "eco2mix-national-cons-def        2 new, 2 missing" in out
    assert "eco2mix-national-tr              3 new, 1 missing" in out
    with served(lyon):
        assert "3 as before" in veilleuse("intensity", "import", file)[1]
        days = (
            "--from",
            "2026-03-01",
            "--to",
            "2026-03-03",
            "--series",
            "eco2mix_combustion",
            "--zone",
            "FR",
            "--json",
        )
        told = json.loads(veilleuse("intensity", "show", *days)[1])
    assert told["label"] == LABEL
    assert told["days"][0] == {
        "day": "2026-03-01",
        "mean": 42.0,
        "lowest": 41.0,
        "highest": 43.0,
        "minutes_without": 1380,
        "estimated": 0,
        "realtime": 0,
        "consolidated": 2,
        "replaced": 0,
    }
    assert (told["days"][1]["minutes_without"], told["days"][1]["realtime"]) == (1440 - 45, 3)
    code, out, _ = veilleuse("intensity", "show")
    assert "eco2mix_combustion\tFR\tcombustion\tconsolidated" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("poll",), "no connector is on"),
        (("import", "/nowhere"), "cannot read"),
        (("import", str(FIXTURES / "PROVENANCE.md")), "neither"),
        (("import", str(FIXTURES / "consumption.json"), "--dataset", "x"), "unknown dataset"),
        (("import", str(FIXTURES / "consumption.json"), "--series", "x"), "--kind"),
        (("show", "--from", "2026-03-02"), "both"),
        (("show", "--from", "2026-03-02", "--to", "2026-03-02"), "before"),
    ],
)
def test_wrong_words(lyon: CollectorSettings, veilleuse: Command, words: tuple[str, ...], told: str):
    """Wrong use gives one line and exit code 2."""
    code, out, err = veilleuse("intensity", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_a_table_may_not_pass_for_odres(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """A plain table cannot have the series of a connector."""
    file = tmp_path / "plain.csv"
    file.write_text("start,minutes,gco2e_per_kwh\n2026-03-02T00:00:00+00:00,60,580.5\n")
    asked = ("intensity", "import", str(file), "--zone", "FR-COR", "--kind", "consumption", "--series")
    assert veilleuse(*asked, "edf_corse")[0] == 0
    code, _, err = veilleuse(*asked, "odre_consumption")
    assert code == 1
    assert "series of its own" in err


def filled(settings: CollectorSettings, made: Filled) -> None:
    """Store a server of 100 W for 9 March, and 50 g for half of its hours."""
    midnight = round(datetime(2026, 3, 8, 23, tzinfo=UTC).timestamp() * 1000)
    records = [
        (clock(midnight + n * HOUR, HOUR), [cell(State.ON_ACTIVE, HOUR, energy_millijoules=360_000_000)])
        for n in range(24)
    ]
    made.push(made.add_host(), records, METER)
    made.derive()
    made.store.intensities.put(
        [
            GridIntensity(
                "FR",
                "odre_consumption",
                "part-enr-intensite-ges-conso-tr",
                IntensityKind.CONSUMPTION,
                IntensityStatus.REALTIME,
                midnight + n * HOUR,
                60,
                50_000,
            )
            for n in range(12)
        ],
        midnight,
    )


def test_the_report(tmp_path: Path, veilleuse: Command, monkeypatch: pytest.MonkeyPatch):
    """2.4 kWh, half at 50 g, are 60 g; each row has the label, and the official report has nothing of it."""
    with Filled(tmp_path / "data") as made:
        filled(CollectorSettings(data_dir=made.directory), made)
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "data"))
    asked = ("--from", "2026-03-09", "--to", "2026-03-10")
    code, out, err = veilleuse("report", "indicative", *asked, "--group-by", "population")
    assert code == 0, err
    row, total = csv.DictReader(io.StringIO(out))
    assert float(row["kgco2e_indicative"]) == pytest.approx(0.06)
    assert float(row["coverage_intensity"]) == pytest.approx(0.5)
    assert {row["ledger"], total["ledger"]} == {LABEL}
    code, out, _ = veilleuse(
        "report", "emissions", "--from", "2026-03-01", "--to", "2026-04-01", "--format", "json"
    )
    assert "indicati" not in out
    assert "odre" not in out


def test_metrics(tmp_path: Path):
    """Yesterday's grams have their own name and label, and the newest value has its time.
    The official gauge has no other ledger."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as made:
        settings = CollectorSettings(data_dir=made.directory)
        reader = made.reader()
        empty = Exposition()
        add_grid(empty, read_grid(reader, settings, NOW.timestamp()))
        assert not [family for family in empty.collect() if "intensity" in family.name]
        filled(settings, made)
        made.store.intensities.note("odre", "timeout", 5)
        assert made.store.intensities.count_call("odre", 1, 9)
        made.store.intensities.note("odre_consolidated", "done", 5)
        view = read_grid(reader, settings, NOW.timestamp())
        cache = SnapshotCache(reader, settings, NOW.timestamp, grid=lambda: view)
        out = fleet_exposition(cache.take_snapshot(), "0", 10)
        reader.close()
    samples = {
        (sample.name.removeprefix("veilleuse_"), *sorted(sample.labels.values())): sample.value
        for family in out.collect()
        for sample in family.samples
    }
    grams = samples["indicative_day_emissions_grams", "DSI", "indicative", "lyon", "server", "server"]
    assert grams == pytest.approx(60)
    assert samples["indicative_day_coverage_ratio", "server"] == 0.5
    where = ("FR", "odre_consumption", "realtime")
    assert samples["intensity_gco2e_per_kwh", *where] == 50
    assert NOW.timestamp() - samples["intensity_newest_timestamp_seconds", *where] == 23 * 3600
    assert samples["intensity_failures", "odre"] == 1
    assert samples["intensity_calls", "odre"] == 1
    assert ("intensity_calls", "odre_consolidated") not in samples
    official = [labels for name, *labels in samples if name == "day_emissions_grams"]
    assert official
    assert all("official" in labels for labels in official)


def told(settings: CollectorSettings) -> list[tuple[str, str]]:
    """Return (outcome, text with the remedy) of each finding."""
    return [(one.outcome, f"{one.text}; {one.remedy}") for one in check_intensity(settings)]


def test_doctor(lyon: CollectorSettings, tmp_path: Path):
    """Without connectors the finding is good, else it has the age of the newest value.
    Missing values, unpolled or failing connectors, and a readable token file are warnings."""
    assert told(lyon) == [("good", "the grid's intensity is not polled: no indicative ledger; ")]
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    on = settings_in(
        tmp_path, **{"intensity.odre": "true", "intensity.electricity_maps_token_file": str(token)}
    )
    lines = [text for outcome, text in told(on) if outcome == "warning"]
    assert any("has no value" in text for text in lines)
    assert sum("never polled" in text for text in lines) == 2
    assert any("chmod 600" in text for text in lines)
    now = unix_milliseconds()
    start = now - now % HOUR - 2 * HOUR
    with open_collector(lyon) as collector:
        put = collector.store.intensities.put
        of = ("FR", "odre_consumption", "part-enr-intensite-ges-conso-tr", IntensityKind.CONSUMPTION)
        collector.issuing.commit(
            lambda: put([GridIntensity(*of, IntensityStatus.REALTIME, start, 60, 50_000)], now)
        )
        for connector, outcome in (
            ("odre", "done"),
            ("odre_consolidated", "done"),
            ("electricity_maps", "done"),
        ):
            collector.operations.perform("intensity_note", {"connector": connector, "outcome": outcome})
    token.chmod(0o600)
    assert {outcome for outcome, _ in told(on)} == {"good"}
    # The newest value's hour ended between one and two hours ago.
    newest = r"odre_consumption of FR, realtime: the newest value is (1\.\d|2\.0) "
    assert any(re.search(newest, text) for _, text in told(on))
    with open_collector(lyon) as collector:
        for _ in range(3):
            collector.operations.perform("intensity_note", {"connector": "odre", "outcome": "timeout"})
    assert [text for outcome, text in told(on) if outcome == "warning"] == [
        "odre: 3 polls failed in a row, the last one: timeout, 0 of 40000 calls this month; 'veilleuse intensity poll' says why, and so does the log"
    ]


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("intensity_put", {"values": [["FR", "x", "y", "consumption", "realtime", "0", 15, 3]]}),
        ("intensity_put", {"values": [["FR", "xx", "y", "consumption", "realtime", 0, 15]]}),
        ("intensity_put", {"values": [["FR", "xx", "y", "production", "realtime", 0, 15, 3]]}),
        ("intensity_put", {"values": [["FR", "xx", "y", "consumption", "realtime", 0, 15, 0]]}),
        ("intensity_put", {"values": [[]] * 5000}),
        ("intensity_call", {"connector": "odre_consolidated"}),
        ("intensity_note", {"connector": "x", "outcome": "done"}),
        ("intensity_note", {"connector": "odre", "outcome": "x"}),
    ],
)
def test_operations_that_cannot_be_asked(lyon: CollectorSettings, operation: str, arguments: dict[str, Any]):
    """Wrong arguments are refused, and nothing is stored."""
    with open_collector(lyon) as collector:
        with pytest.raises(Exception, match=r"wrong arguments|unknown|at most|a value is"):
            collector.operations.perform(operation, arguments)
        assert collector.operations.perform("intensity_state", {}) == {"series": [], "polls": []}
