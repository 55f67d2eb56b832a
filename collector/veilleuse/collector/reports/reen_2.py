# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The follow-up sheet of the REEN strategy: objectives, measures, and the use phase beside the whole bilan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from veilleuse.collector.documents.document import UNDER_WAY_UNTIL, Chart, Document, Head, Row, Text
from veilleuse.collector.reports.emissions_document import sample_notes

OBJECTIVE_COLUMNS: Final = (
    "objective",
    "indicator",
    "name",
    "population",
    "category",
    "origin",
    "unit",
    "direction",
    "baseline_year",
    "baseline_value",
    "restated_baseline_value",
    "current_year",
    "value",
    "interval",
    "value_lo95",
    "value_hi95",
    "value_lo_sample",
    "value_hi_sample",
    "value_lo_sensitivity",
    "value_hi_sensitivity",
    "coverage_states",
    "trend_ratio",
    "restated_trend_ratio",
    "target_year",
    "target_value",
    "threshold",
    "reached",
    "withheld",
    "measure",
    "pilot",
    "means_eur",
    "means_fte",
    "status",
    "source",
    "comment",
)
MEASURE_COLUMNS: Final = (
    "measure_id",
    "what",
    "action",
    "from_day",
    "to_day",
    "saving_kwh",
    "saving_lo95_kwh",
    "saving_hi95_kwh",
    "claimed",
)
BILAN_COLUMNS: Final = (
    "year",
    "item",
    "part_of_bilan",
    "kgco2e_total",
    "kgco2e_lo95",
    "kgco2e_hi95",
    "kgco2e_lo_sample",
    "kgco2e_hi_sample",
    "kgco2e_lo_sensitivity",
    "kgco2e_hi_sensitivity",
    "share_of_whole",
    "in_whole",
    "provisional",
)
COLUMNS: Final = (
    *OBJECTIVE_COLUMNS,
    *MEASURE_COLUMNS,
    *BILAN_COLUMNS,
    UNDER_WAY_UNTIL,
    "data",
)
ASSUMPTIONS: Final = (
    "Objectives are those of CGCT D.2311-15-1; which indicator serves which objective is ours.",
    "What is entered is shown as it was entered, with its source; what is computed is never entered.",
    (
        "A restated value is that of the baseline year, made again by today's method and for today's perimeter: a trend without it "
        "holds changes of method too."
    ),
    (
        "Where months of machines are no longer kept (those of PCs go after 18, or once their year is closed definitively), I1, I2, "
        "I4, I5 and what is restated have no value: absent, not zero."
    ),
    "The use phase is observed and extrapolated by the fleet; other lines come from the studies that they name, by other methods.",
    "Savings of actions are not subtracted from the use phase: the meters have seen them already.",
)
TITLES: Final = {
    "rows": {"fr": "Objectifs 1° à 6°", "en": "Objectives 1° to 6°"},
    "measures": {"fr": "Mesures, moyens et gains mesurés", "en": "Measures, means and measured savings"},
    "bilan": {
        "fr": "La phase d’usage dans tout le bilan",
        "en": "The use phase within the whole bilan",
    },
}


def sheet_document(
    rows: Sequence[Row],
    measures: Sequence[Row],
    bilan: Sequence[Row],
    head: Head,
    warnings: Sequence[Text] = (),
) -> Document:
    """The sheet of its rows; `warnings`: what is wrong or doubtful of the emissions that it rests on."""
    parts = [row for row in bilan if row.get("part_of_bilan") != "whole"]
    return Document(
        head={"kind": "reen", **head},
        columns=COLUMNS,
        tables={"rows": rows, "measures": measures, "bilan": bilan},
        tabular=("rows", "measures", "bilan"),
        assumptions=(*warnings, *ASSUMPTIONS, *sample_notes((*rows, *bilan))),
        charts=(
            Chart(
                "bar",
                "bilan",
                "item",
                ("kgco2e_total",),
                {"fr": "Postes du bilan numérique", "en": "Items of the digital bilan"},
            ),
        )
        if len(parts) > 1 and len(bilan) <= 40
        else (),
        titles=TITLES,
    )
