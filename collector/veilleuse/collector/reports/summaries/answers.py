# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Answers the questions behind the summary of an emissions report, of released months or of a closed year."""

from __future__ import annotations

from collections.abc import Mapping

from veilleuse.collector.documents.document import Document
from veilleuse.collector.model.query import Basis, Query
from veilleuse.collector.release.figures import find_stretches
from veilleuse.collector.reports.emissions import emissions_report_of, released_groups
from veilleuse.collector.reports.inputs import Sources


def answer_all(
    sources: Sources,
    asked: Mapping[str, Query],
    basis: object,
    *,
    random_roll_out: bool,
    cut: bool = False,
) -> dict[str, Document]:
    """Return name → answer; a question that released months do not answer has none.

    `basis`: of the report. `cut`: as in find_stretches; months answer by themselves.

    Raises UnknownZone, UsageError, StoreDamaged.
    """
    if basis == Basis.UNRELEASED.value:
        return {
            name: emissions_report_of(
                sources, query, compare=False, random_roll_out=random_roll_out, undeclared=False
            ).document
            for name, query in asked.items()
        }
    return {
        name: released_groups(sources, query, stretches, random_roll_out=random_roll_out)
        for name, query in asked.items()
        if (stretches := find_stretches(sources.released, query, cut=cut or "month" in query.dimensions))
    }
