# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Administers an open data directory.

Operations run over `<data_dir>/admin.sock` while `veilleuse serve` runs. Without it they run in the command's
own process, which then holds the directory's lock (veilleuse.collector.cli.shared.run_operation).
"""
