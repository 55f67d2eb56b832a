# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of what was published: kept once, never changed. docs/decisions/0042."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import NamedTuple, Protocol

from veilleuse.collector.model.publications import Kind, Publication


class Told(NamedTuple):
    """A publication without its content."""

    kind: Kind
    first: date
    end: date
    """Exclusive."""
    format: int
    k_anonymity: int
    method_version: str
    published_unix_milliseconds: int
    content_bytes: int


class PublicationReader(Protocol):
    """Read-only, any process, any thread."""

    def told(self, kind: Kind, first: date, end: date) -> Told | None:
        """What is kept of a period, without its content; None: nothing. Cheap, however large the content."""

    def find(self, kind: Kind, first: date, end: date) -> Publication | None:
        """As it was published; None: it was not."""

    def waits(self, first: date, end: date) -> bool:
        """Whether records of machines under the rule, of days in [first, end), wait to be derived."""


class Publications(Protocol):
    """In the writer's thread; each write is a transaction, or part of the caller's."""

    def put(self, one: Publication) -> bool:
        """Keep it where nothing is kept of its kind and period. False: something is, and stays. Raises AdminError when there is no room."""

    def told(self) -> tuple[Told, ...]:
        """All, by period and kind."""

    def take_back(self, first: date, end: date) -> int:
        """Delete those that lie inside [first, end); how many."""

    def expire(self, until: date, years: Collection[int]) -> int:
        """Delete those that ended by `until`, or began in one of the years; how many."""
