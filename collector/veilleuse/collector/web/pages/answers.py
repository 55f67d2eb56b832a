# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Caches answers about the fleet's released months for the pages, until what they are made of changes.

Such an answer is seconds of work on a large fleet, and the same for all accounts of one role and entities.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

from veilleuse.collector.documents.document import Document

MOST_ANSWERS: Final = 64
MOST_ROWS: Final = 50_000
"""Most rows of all cached answers together, about 4 kB each."""
LONGEST_SECONDS: Final = 600.0
"""Longest time that an answer is cached: its texts may tell of what is not in its inputs."""


@dataclass(slots=True)
class ReleasedAnswers:
    """Answers by query and reader. For one event loop."""

    monotonic_seconds: Callable[[], float] = time.monotonic
    _cache: OrderedDict[Hashable, tuple[object, float, Document]] = field(default_factory=OrderedDict)

    def find(self, key: Hashable, inputs: object) -> Document | None:
        """Return the answer if it was made of these inputs, not too long ago."""
        found = self._cache.get(key)
        if found is None or found[0] != inputs or self.monotonic_seconds() - found[1] > LONGEST_SECONDS:
            return None
        self._cache.move_to_end(key)
        return found[2]

    def keep(self, key: Hashable, inputs: object, document: Document) -> None:
        """Cache an answer; the ones used longest ago go first."""
        self._cache[key] = (inputs, self.monotonic_seconds(), document)
        self._cache.move_to_end(key)
        while len(self._cache) > 1 and (
            len(self._cache) > MOST_ANSWERS
            or sum(map(_rows, (one for *_, one in self._cache.values()))) > MOST_ROWS
        ):
            self._cache.popitem(last=False)


def _rows(document: Document) -> int:
    return sum(map(len, document.tables.values()))
