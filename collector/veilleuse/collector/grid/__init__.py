# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads grid intensities from connectors and files. The collector polls the connectors; agents never do.

`odre` and `electricity_maps` turn answers into values (pure), `poll` sends the requests, `files` reads
downloads. `python -m veilleuse.collector.grid` is one poll, in its own process.
"""
