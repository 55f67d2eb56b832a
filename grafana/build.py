# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds grafana/dashboards/*.json from panels.py with grafana-foundation-sdk: `make dashboards`.

Never edit the JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model

if __name__ == "__main__":  # a script does not have the repository on its path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from grafana.panels import ROWS
from grafana.queries import Form, Panel, Row
from veilleuse.collector.exposition import catalogue as c

OUTPUT: Final = Path(__file__).resolve().parent / "dashboards"
DATASOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
UID: Final = "veilleuse"
_COLUMNS: Final = 24
"""Width of a dashboard in Grafana."""


def veilleuse() -> model.Dashboard:
    """Return the dashboard."""
    builder = (
        dashboard.Dashboard("Veilleuse")
        .uid(UID)
        .description("Énergie, émissions et sobriété du parc informatique.")
        .tags(["veilleuse", "énergie"])
        .time("now-24h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for name, label in (("entity", "Entité"), ("site", "Site")):
        builder = builder.with_variable(_labels(name, label))
    for row in ROWS:
        builder = builder.with_row(_row(row))
        for panel in row.panels:
            builder = builder.with_panel(_panel(panel))
    return builder.build()


def dashboards() -> dict[str, str]:
    """Return file name → JSON text."""
    text = json.dumps(veilleuse(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
    return {"veilleuse.json": text + "\n"}


def _labels(name: str, label: str) -> dashboard.QueryVariable:
    """Return a variable with the values of a label, from live figures and from closed periods."""
    metrics = "|".join((c.ENERGY.name, c.DAY_ENERGY.name, c.MONTH_ENERGY.name))
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(f'label_values({{__name__=~"{metrics}"}}, {name})')
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _row(row: Row) -> dashboard.Row:
    return dashboard.Row(row.title).id(row.identifier)


def _panel(panel: Panel) -> Any:
    """Return a builder. Its type is Any: the SDK's builders share methods but no base type."""
    if panel.width > _COLUMNS:
        raise ValueError(f"panel {panel.identifier} ({panel.title}) is wider than {_COLUMNS} columns")
    builder: Any = _form(panel.form)
    builder = (
        builder.id(panel.identifier)
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(DATASOURCE)
        .span(panel.width)
        .height(panel.height)
        .no_value("pas de donnée")
    )
    if panel.form in (Form.STAT, Form.BARS):
        builder = builder.thresholds(_thresholds(panel))
    if panel.form is Form.BARS and panel.unit == "percentunit":
        builder = builder.max(1)
    if panel.decimals is not None:
        builder = builder.decimals(panel.decimals)
    for number, query in enumerate(panel.queries):
        target = (
            prometheus.Dataquery()
            .expr(query.expression)
            .legend_format(query.legend)
            .ref_id(chr(ord("A") + number))  # its data source is the panel's
        )
        instant = panel.form in (Form.STAT, Form.BARS)
        builder = builder.with_target(target.instant() if instant else target.range())
    return builder


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    """Return the panel's thresholds, or one neutral colour."""
    steps = panel.steps or ((None, "text" if panel.form is Form.STAT else "blue"),)
    colours = [model.Threshold(value, colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(colours)


def _form(form: Form) -> Any:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    match form:
        case Form.STAT:
            return stat.Panel().reduce_options(last).graph_mode(common_model.BigValueGraphMode.NONE)
        case Form.BARS:
            return (
                bargauge.Panel()
                .reduce_options(last)
                .orientation(common_model.VizOrientation.HORIZONTAL)
                .min(0)
            )
        case Form.STACK:
            stacking = common.StackingConfig().mode(common_model.StackingMode.NORMAL)
            return timeseries.Panel().stacking(stacking).fill_opacity(60).min(0)
        case Form.LINES:
            return timeseries.Panel().fill_opacity(0)


def main() -> None:
    """Write the files."""
    OUTPUT.mkdir(exist_ok=True)
    for name, text in dashboards().items():
        (OUTPUT / name).write_text(text, encoding="utf-8")
        print(f"grafana/dashboards/{name}")


if __name__ == "__main__":
    main()
