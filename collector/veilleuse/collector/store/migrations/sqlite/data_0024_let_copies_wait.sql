-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Two holders of one identity are told apart before the second one delivers (collector/holders.py).

-- Nonces that are as good as instance_id while no more records are stored, 16 bytes each, oldest first. An empty nonce is
-- 16 bytes 0xff.
ALTER TABLE hosts ADD COLUMN spare_instance_ids BLOB NOT NULL DEFAULT x'';
-- Older nonces whose holders wait until it is known whether they are copies, the same way.
ALTER TABLE hosts ADD COLUMN waiting_instance_ids BLOB NOT NULL DEFAULT x'';
-- Nonce that was served after its wait; NULL = none.
ALTER TABLE hosts ADD COLUMN set_back_instance_id BLOB;
-- Nonces of copies, the same way. Lost answers are told from the numbers of nonces now.
ALTER TABLE hosts RENAME COLUMN lost_instance_ids TO copied_instance_ids;
UPDATE hosts SET copied_instance_ids = x'';
-- Records stored of the machine when a Hello was last looked at.
ALTER TABLE hosts RENAME COLUMN returned_instances TO greeted_records;
UPDATE hosts SET greeted_records = 0;
