# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds grafana/dashboards/*.json with grafana-foundation-sdk: `make dashboards`.

Never edit the JSON.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_model

if __name__ == "__main__":  # a script does not have the repository on its path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from grafana.collecteur import COLLECTEUR
from grafana.energie_co2 import ENERGIE_CO2
from grafana.exploitation import EXPLOITATION
from grafana.queries import Board, Form, Panel, Query, Steps, Variable
from grafana.serveur import SERVEUR
from grafana.sobriete import SOBRIETE
from grafana.texts import texts_of, words_of
from veilleuse.collector.documents.document import LANGUAGES
from veilleuse.collector.documents.text import words
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.web.pages.frame import LANGUAGE
from veilleuse.collector.web.pages.table import PAGES

BOARDS: Final = (EXPLOITATION, SERVEUR, ENERGIE_CO2, SOBRIETE, COLLECTEUR)
OUTPUT: Final = Path(__file__).resolve().parent / "dashboards"
DATASOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
SEPARATOR: Final = " · "
"""Between the parts of a legend."""
PAGES_ADDRESS: Final = "http://127.0.0.1:8640"
"""Where the product's pages are, until the reader of a dashboard says otherwise."""
_COLUMNS: Final = 24
"""Width of a dashboard in Grafana."""
_INSTANT: Final = frozenset({Form.STAT, Form.NAMES, Form.BARS, Form.COLUMNS})
_MONTHS_OF_COLUMNS: Final = "month\\perimeter"
"""Name that Grafana's groupingToMatrix gives the column of row names."""


def dashboards() -> dict[str, str]:
    """Return file name → JSON text."""
    return {
        f"{board.name}.{language}.json": _json(_dashboard(board, language))
        for board in BOARDS
        for language in LANGUAGES
    }


def _json(built: model.Dashboard) -> str:
    return json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _dashboard(board: Board, language: str) -> model.Dashboard:
    texts = texts_of(language)
    own = texts[board.name]
    builder = (
        dashboard.Dashboard(own["title"])
        .uid(f"veilleuse-{board.name}-{language}")
        .description(own["text"])
        .tags(["veilleuse", language])
        .time("now-24h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            dashboard.DashboardLink(texts["common"]["others"])
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["veilleuse", language])
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").label(texts["common"]["datasource"]).type("prometheus")
        )
    )
    for variable in (Variable("instance", c.BUILD_INFO), *board.variables):
        builder = builder.with_variable(_variable(variable, texts["common"][variable.name]))
    builder = builder.with_variable(
        dashboard.TextBoxVariable("pages").label(texts["common"]["pages"]).default_value(PAGES_ADDRESS)
    )
    for row in board.rows:
        builder = builder.with_row(dashboard.Row(own["rows"][row.key]).id(row.identifier))
        for panel in row.panels:
            builder = builder.with_panel(_panel(board, panel, language))
    return builder.build()


def _variable(variable: Variable, label: str) -> dashboard.QueryVariable:
    inside = ",".join(variable.matchers + (() if variable.name == "instance" else ('instance=~"$instance"',)))
    selector = variable.metric.name + (f"{{{inside}}}" if inside else "")
    builder = (
        dashboard.QueryVariable(variable.name)
        .label(label)
        .datasource(DATASOURCE)
        .query(f"label_values({selector}, {variable.name})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
    return builder.multi(True).include_all(True).all_value(".+") if variable.several else builder


def _panel(board: Board, panel: Panel, language: str) -> Any:
    """Return a builder. Its type is Any: the SDK's builders share methods but no base type."""
    common_texts, texts = texts_of(language)["common"], texts_of(language)[board.name][panel.key]
    path = next(page.path for page in PAGES if page.name == panel.page)
    host = "&id=${host:raw}" if panel.page == "server" else ""
    menu = words(language)("menu.servers" if panel.page == "server" else f"menu.{panel.page}")
    builder: Any = _form(panel, language)
    builder = (
        builder.id(panel.identifier)
        .title(texts["title"])
        .description(texts["text"])
        .unit(panel.unit)
        .datasource(DATASOURCE)
        .span(panel.width)
        .height(panel.height)
        .no_value(common_texts["no_value"])
        .links(
            [
                dashboard.DashboardLink(common_texts["page"].format(page=menu))
                .type(model.DashboardLinkType.LINK)
                .url(f"${{pages:raw}}{path}?{LANGUAGE}={language}{host}")
                .target_blank(True)
            ]
        )
        .thresholds(_thresholds(_steps(panel)))
    )
    if panel.form is Form.BARS and panel.unit == "percentunit":
        builder = builder.max(1)
    if panel.decimals is not None:
        builder = builder.decimals(panel.decimals)
    if panel.values:
        builder = builder.mappings([_mapping({v: texts[key] for v, key in panel.values.items()})])
    for number, query in enumerate(panel.queries):
        reference = chr(ord("A") + number)
        builder = builder.with_target(_target(panel, query, texts).ref_id(reference))
        if own := list(_of_query(query)):
            builder = builder.override_by_query(reference, own)
    return builder.transformations(list(_transformations(panel, language)))


def _of_query(query: Query) -> Iterator[model.DynamicConfigValue]:
    if query.steps:
        yield model.DynamicConfigValue("thresholds", _thresholds(query.steps).build())
    if query.unit:
        yield model.DynamicConfigValue("unit", query.unit)


def _target(panel: Panel, query: Query, texts: dict[str, str]) -> prometheus.Dataquery:
    parts = [
        re.sub(r"^\{(\w+).*\}$", r"{{\1}}", part) if part[0] == "{" else texts[part] for part in query.legend
    ]
    target = prometheus.Dataquery().expr(query.expression).legend_format(SEPARATOR.join(parts))
    if panel.form is Form.COLUMNS:
        target = target.format(prometheus_model.PromQueryFormat.TABLE)
    return target.instant() if panel.form in _INSTANT else target.range()  # its data source is the panel's


def _transformations(panel: Panel, language: str) -> Iterator[model.DataTransformerConfig]:
    """Yield what turns label values into words, and the rows of a stacked chart into its columns."""
    if panel.form is Form.COLUMNS:
        shape = {"columnField": "perimeter", "rowField": "month", "valueField": "Value", "emptyValue": "null"}
        yield model.DataTransformerConfig(id_val="groupingToMatrix", options=shape)
        order = {"fields": {}, "sort": [{"field": _MONTHS_OF_COLUMNS}]}
        yield model.DataTransformerConfig(id_val="sortBy", options=order)
    for value, word in legend_words(panel, language).items():
        # Between separators only: part of an entity's name is never replaced.
        options = {
            "regex": f"/(^|{SEPARATOR}){re.sub('[^a-zA-Z0-9_ ]', lambda one: chr(92) + one[0], value)}($|{SEPARATOR})/",
            "renamePattern": f"$1{word}$2",
        }
        yield model.DataTransformerConfig(id_val="renameByRegex", options=options)


def legend_words(panel: Panel, language: str) -> dict[str, str]:
    """Return label value → word, for the legends of a panel.

    Raises ValueError where one value would need two words, or a word would be replaced in its turn.
    """
    found: dict[str, str] = {}
    for query in panel.queries:
        for part in query.legend:
            named = re.fullmatch(r"\{(\w+:)?(\w+)\}", part)
            for value, word in (words_of(language, named[2]) if named else {}).items():
                if found.setdefault(value, word) != word:
                    raise ValueError(f"panel {panel.key}: {value} is {found[value]} and {word}")
    if again := [word for value, word in found.items() if found.get(word, word) != word]:
        raise ValueError(f"panel {panel.key}: {again} are values too")
    return {value: word for value, word in found.items() if value != word}


def _mapping(shown: dict[float, str]) -> model.ValueMap:
    results = {
        f"{value:g}": model.ValueMappingResult(text=text, index=index)
        for index, (value, text) in enumerate(shown.items())
    }
    return model.ValueMap(options=results)


def _steps(panel: Panel) -> Steps:
    """Return the panel's thresholds, or one neutral colour."""
    neutral = "text" if panel.form in (Form.STAT, Form.NAMES) else "blue"
    return ((None, neutral),) if isinstance(panel.judge, str) else panel.judge


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    colours = [model.Threshold(value, colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(colours)


def _form(panel: Panel, language: str) -> Any:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    match panel.form:
        case Form.STAT | Form.NAMES:
            names = panel.form is Form.NAMES
            mode = common_model.BigValueTextMode.NAME if names else common_model.BigValueTextMode.AUTO
            built = stat.Panel().reduce_options(last).graph_mode(common_model.BigValueGraphMode.NONE)
            return built.text_mode(mode)
        case Form.BARS:
            horizontal = common_model.VizOrientation.HORIZONTAL
            return bargauge.Panel().reduce_options(last).orientation(horizontal).min(0)
        case Form.COLUMNS:
            months = words(language).texts["day"]["short_months"]
            short = [
                model.RegexMap(
                    options=model.DashboardRegexMapOptions(
                        pattern=rf"^(\d+)-{number:02d}$",
                        result=model.ValueMappingResult(text=f"{month} $1", index=number),
                    )
                )
                for number, month in enumerate(months, 1)
            ]
            built_chart = barchart.Panel().stacking(common_model.StackingMode.NORMAL).fill_opacity(80)
            return built_chart.override_by_name(
                _MONTHS_OF_COLUMNS, [model.DynamicConfigValue("mappings", short)]
            )
        case Form.STACK:
            stacking = common.StackingConfig().mode(common_model.StackingMode.NORMAL)
            return timeseries.Panel().stacking(stacking).fill_opacity(60).min(0)
        case Form.LINES:
            return timeseries.Panel().fill_opacity(0)


def main() -> None:
    """Write the files, and remove those of dashboards that are no more."""
    OUTPUT.mkdir(exist_ok=True)
    found = dashboards()
    for file in OUTPUT.glob("*.json"):
        if file.name not in found:
            file.unlink()
    for name, text in found.items():
        (OUTPUT / name).write_text(text, encoding="utf-8")
        print(f"grafana/dashboards/{name}")


if __name__ == "__main__":
    main()
