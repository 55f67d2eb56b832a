# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A closed year, read: out of the store or out of a file alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from veilleuse.collector.closed_years.closed_terms import FrozenTerms, terms_from_document
from veilleuse.collector.closed_years.document import kept_from_document
from veilleuse.collector.closed_years.year_statistics import Kept
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.closed_years import (
    FORMAT,
    ClosedFile,
    ClosedYear,
    YearState,
    canonical,
    sha256,
)

KIND = "veilleuse closed year"


class NotAClosedYear(ValueError):
    """Says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Closed:
    """All of one revision."""

    told: ClosedYear
    report: Mapping[str, Any]
    """As written: figures, who, when, why."""
    kept: Kept
    terms: FrozenTerms


def read_report(report: bytes, statistics_sha256: str, file_sha256: str) -> tuple[ClosedYear, dict[str, Any]]:
    """What a report tells of itself, its statistics not looked at. Raises NotAClosedYear."""
    try:
        document = json.loads(report)
        if document["kind"] != KIND:
            raise NotAClosedYear("it is no closed year")
        if document["format"] != FORMAT:
            raise NotAClosedYear(
                f"its format is {document['format']!r}, this program knows {FORMAT}: use the version of veilleuse that made it"
            )
        if document["statistics_sha256"] != statistics_sha256:
            raise NotAClosedYear("its statistics are not those of its report")
        if canonical(document) != report:
            raise NotAClosedYear("it is not written as this program writes it")
        told = ClosedYear(
            int(document["year"]),
            int(document["revision"]),
            YearState(document["state"]),
            int(document["closed_unix_milliseconds"]),
            statistics_sha256,
            file_sha256,
        )
        if document["report_id"] != told.report_id or told.revision < 1:
            raise NotAClosedYear("it contradicts itself")
        return told, document
    except NotAClosedYear:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotAClosedYear(f"it cannot be read ({error})") from error


def read_closed(report: bytes, statistics: bytes, file_sha256: str) -> Closed:
    """Raises NotAClosedYear for what is none, or contradicts itself."""
    told, document = read_report(report, sha256(statistics), file_sha256)
    try:
        kept_document = json.loads(statistics)
        if canonical(kept_document) != statistics:
            raise NotAClosedYear("it is not written as this program writes it")
        kept = kept_from_document(kept_document)
        if (kept.first, kept.end) != (date(told.year, 1, 1), date(told.year + 1, 1, 1)):
            raise NotAClosedYear(f"its statistics are of {kept.first} to {kept.end}, not of {told.year}")
        return Closed(told, document, kept, terms_from_document(document["terms"]))
    except NotAClosedYear:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise NotAClosedYear(f"it cannot be read ({error})") from error


def closed_of(told: ClosedYear, file: ClosedFile) -> Closed:
    """Of the store's row and its content. Raises NotAClosedYear where they are not of each other."""
    found = read_closed(file.report, file.statistics, sha256(file.content))
    if found.told != told:
        raise NotAClosedYear(f"what is stored as {told.report_id} is not that: it was changed")
    return found
