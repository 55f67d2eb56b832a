# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Serves `/api/v1`: figures for programs. docs/api.md.

`resources` is the table of routes, parameters and columns. `query` checks a request against it. `answers`
builds the answer's Document, for readers from `release`. `pagination` cuts it into pages. `limits` bounds the
requests of one account. `handlers` combines them.
"""
