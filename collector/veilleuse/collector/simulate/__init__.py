# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A made-up fleet, of which the truth is known: `veilleuse simulate`. docs/methodology.md §14.

Machines are imagined with their true power, agents tell of them what the wire allows and no more, and their records go the way of
all records: validated, written, derived, kept by months. What the whole fleet truly used is told apart, in a file.

models → fleet → routines → physics → telling → records → filling; truth on the way.
"""
