# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Simulates a fleet of known true energy: `veilleuse simulate`. docs/methodology.md §14.

Machines have a true power, and agents report only what the wire allows. Their records take the normal path:
validated, written, derived, stored by months. The true energy of the whole fleet is written to a separate
file.

fleet → routines → physics → agent_stream → fill.
"""
