# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns wire bytes into a DecodedRecord, or a refusal of one word. Every field is checked here.

Unknown fields pass: a newer agent may send them. Unknown enum values are refused: they could not be
interpreted.
"""

from __future__ import annotations

from veilleuse.collector.validate.cells import MachineLimits
from veilleuse.collector.validate.messages import clean_facts, clean_health
from veilleuse.collector.validate.push import check_push

__all__ = ["MachineLimits", "check_push", "clean_facts", "clean_health"]
