# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`/api/v1`: figures for programs. docs/api.md.

`resources` is the table of what there is; `asking` reads a request against it; `figures` makes the answer's Document, through
`release` for readers; `pages` cuts it; `bounds` keeps one account from taking everything; `handlers` puts them together.
"""
