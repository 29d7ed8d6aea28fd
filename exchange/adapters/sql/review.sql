-- Statements of `exchange verify`, `audit export` and `doctor`: the whole store, page by page.

-- name: review_outgoing
SELECT rowid, peer, id, status, seq, digest, case_id, answer FROM outgoing WHERE rowid > ? ORDER BY rowid LIMIT ?;
-- name: review_incoming
SELECT rowid, peer, id, status, seq, digest, case_id, answer,
       gone = 1 AND EXISTS (
           SELECT 1 FROM copies c
           WHERE c.direction = 'in' AND c.peer = incoming.peer AND c.id = incoming.id AND c.stage = 'erased'
       )
FROM incoming WHERE rowid > ? ORDER BY rowid LIMIT ?;
-- name: review_envelopes
SELECT digest, peer, document, body, cek FROM envelopes WHERE digest > ? ORDER BY digest LIMIT ?;
-- name: review_blobs
SELECT DISTINCT h FROM blobs WHERE direction <> 'in' OR whole = 1 ORDER BY h;
-- name: review_outbox
SELECT digest FROM outbox ORDER BY digest;
-- name: review_cases
SELECT case_id, wrapped FROM cases;
-- name: review_documents
SELECT digest, type, bytes FROM documents ORDER BY type, version;
-- name: review_checkpoints
SELECT size, note FROM checkpoints WHERE size > ? ORDER BY size LIMIT ?;
