# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Where intensities of grids come from: connectors that are polled once, centrally, and files. Agents never poll.

`odre` and `electricity_maps` turn answers into values (pure), `fetching` asks, `polling` says what to ask, `files` reads what
was downloaded elsewhere. `python -m veilleuse.collector.grid` is one poll, in a process of its own.
"""
