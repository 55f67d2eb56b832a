-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Imported factors, contracts and the mapping to the bilan carbone: docs/factors.md. Rows are added and never changed:
-- what ruled when, and who said so, is read from their order. Decimals are text, exactly as published.

CREATE TABLE factor_imports (
    import_id         INTEGER PRIMARY KEY,
    unix_milliseconds INTEGER NOT NULL,
    -- Blank of a withdrawal.
    file_name         TEXT NOT NULL,
    file_sha256       TEXT NOT NULL,
    who               TEXT NOT NULL,
    why               TEXT NOT NULL
) STRICT;

CREATE TABLE factor_versions (
    version               INTEGER PRIMARY KEY,
    import_id             INTEGER NOT NULL REFERENCES factor_imports (import_id),
    factor_id             TEXT NOT NULL,
    -- Version of the same factor_id that was the newest before; NULL = the first.
    supersedes            INTEGER REFERENCES factor_versions (version),
    -- Version that this one puts back into force after a withdrawal; NULL = it came from a file, or nothing came back.
    restores              INTEGER REFERENCES factor_versions (version),
    zone                  TEXT NOT NULL,
    -- Day numbers (date.toordinal), both included.
    from_day              INTEGER NOT NULL,
    to_day                INTEGER NOT NULL CHECK (to_day >= from_day),
    series                TEXT NOT NULL,
    basis                 TEXT NOT NULL,
    -- valid, archived (by its source; still in force) or withdrawn (by an administrator; not in force).
    status                TEXT NOT NULL,
    -- kgCO2e/kWh.
    total                 TEXT NOT NULL,
    -- {"combustion": …, "upstream": …, "losses": …} in kgCO2e/kWh, and as shares of the total; {} = not known.
    components_json       TEXT NOT NULL,
    shares_json           TEXT NOT NULL,
    -- 95 % half-width.
    uncertainty_percent   TEXT NOT NULL,
    uncertainty_inherited INTEGER NOT NULL,
    source                TEXT NOT NULL,
    published             TEXT NOT NULL,
    licence               TEXT NOT NULL CHECK (licence <> ''),
    element_id            TEXT NOT NULL
) STRICT;
CREATE INDEX factor_versions_of ON factor_versions (factor_id, version);

-- Electricity bought under a contract; market-based line only.
CREATE TABLE factor_contracts (
    contract_id           INTEGER PRIMARY KEY,
    unix_milliseconds     INTEGER NOT NULL,
    who                   TEXT NOT NULL,
    why                   TEXT NOT NULL,
    label                 TEXT NOT NULL,
    supplier              TEXT NOT NULL,
    -- Day numbers; to_day is the day after the last.
    from_day              INTEGER NOT NULL,
    to_day                INTEGER NOT NULL CHECK (to_day > from_day),
    kwh                   TEXT NOT NULL,
    -- kgCO2e/kWh.
    factor                TEXT NOT NULL,
    uncertainty_percent   TEXT NOT NULL,
    uncertainty_inherited INTEGER NOT NULL,
    guarantees_of_origin  TEXT NOT NULL,
    source                TEXT NOT NULL,
    -- Blank = any.
    entity                TEXT NOT NULL,
    site                  TEXT NOT NULL
) STRICT;

CREATE TABLE factor_contracts_withdrawn (
    contract_id       INTEGER PRIMARY KEY REFERENCES factor_contracts (contract_id),
    unix_milliseconds INTEGER NOT NULL,
    who               TEXT NOT NULL,
    why               TEXT NOT NULL
) STRICT;

-- What energy is for the bilan carbone, by power context; the newest row is in force, none = the product's default.
CREATE TABLE factor_mappings (
    mapping_id        INTEGER PRIMARY KEY,
    unix_milliseconds INTEGER NOT NULL,
    who               TEXT NOT NULL,
    why               TEXT NOT NULL,
    lines_json        TEXT NOT NULL
) STRICT;

CREATE TRIGGER factor_imports_are_kept BEFORE UPDATE ON factor_imports
    BEGIN SELECT RAISE(ABORT, 'imports of factors are never changed'); END;
CREATE TRIGGER factor_imports_stay BEFORE DELETE ON factor_imports
    BEGIN SELECT RAISE(ABORT, 'imports of factors are never deleted'); END;
CREATE TRIGGER factor_versions_are_kept BEFORE UPDATE ON factor_versions
    BEGIN SELECT RAISE(ABORT, 'a factor is never overwritten'); END;
CREATE TRIGGER factor_versions_stay BEFORE DELETE ON factor_versions
    BEGIN SELECT RAISE(ABORT, 'a factor is never deleted'); END;
CREATE TRIGGER factor_contracts_are_kept BEFORE UPDATE ON factor_contracts
    BEGIN SELECT RAISE(ABORT, 'a contract is never changed'); END;
CREATE TRIGGER factor_contracts_stay BEFORE DELETE ON factor_contracts
    BEGIN SELECT RAISE(ABORT, 'a contract is never deleted'); END;
CREATE TRIGGER factor_contracts_withdrawn_are_kept BEFORE UPDATE ON factor_contracts_withdrawn
    BEGIN SELECT RAISE(ABORT, 'a withdrawal is never changed'); END;
CREATE TRIGGER factor_contracts_withdrawn_stay BEFORE DELETE ON factor_contracts_withdrawn
    BEGIN SELECT RAISE(ABORT, 'a withdrawal is never deleted'); END;
CREATE TRIGGER factor_mappings_are_kept BEFORE UPDATE ON factor_mappings
    BEGIN SELECT RAISE(ABORT, 'a mapping is never changed'); END;
CREATE TRIGGER factor_mappings_stay BEFORE DELETE ON factor_mappings
    BEGIN SELECT RAISE(ABORT, 'a mapping is never deleted'); END;
