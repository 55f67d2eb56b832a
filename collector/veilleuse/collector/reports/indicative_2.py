# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The indicative report, as every outlet gives it."""

from __future__ import annotations

from typing import Protocol

from veilleuse.collector.documents.document import Document, Head
from veilleuse.collector.grid.ledger import HourlyQuestion, indicative
from veilleuse.collector.model.hourly import Hourly
from veilleuse.collector.ports import HourReader, Reader
from veilleuse.collector.reports import indicative as indicative_report


class MachineReader(Reader, HourReader, Protocol):
    """What the report reads of machines."""


def indicative_report_of(reader: MachineReader, question: HourlyQuestion) -> tuple[Hourly, Document]:
    """The ledger of the question, and its document. Raises UsageError."""
    found = indicative(reader, question)
    data = "simulated" if reader.data_kind().simulated else "real"
    head: Head = {
        "from": question.first.isoformat(),
        "to": question.end.isoformat(),
        "group_by": list(question.dimensions),
        "k_anonymity": question.k_anonymity,
        "data": data,
        "periods_not_derived": reader.dirty_count(),
        "generated_unix_milliseconds": question.now_unix_milliseconds,
    }
    return found, indicative_report.document(found, head, series=question.series, data=data)
