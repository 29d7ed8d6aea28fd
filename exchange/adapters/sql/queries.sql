-- name: put_meta
INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;
-- name: put_document
INSERT INTO documents (digest, type, subject, version, state, lineage, bytes, installed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET state = excluded.state, lineage = excluded.lineage;
-- name: drop_documents
DELETE FROM documents WHERE type = ? AND subject = ? AND version < ?;
-- name: supersede_documents
UPDATE documents SET state = 'superseded' WHERE type = ? AND subject = ? AND version < ?;
-- name: put_push
INSERT INTO pushes (peer, digest) VALUES (?, ?) ON CONFLICT (peer, digest) DO NOTHING;
-- name: drop_push
DELETE FROM pushes WHERE peer = ? AND digest = ?;
-- name: put_window
INSERT INTO windows (peer, next_seq, through, above) VALUES (?, ?, ?, ?)
ON CONFLICT (peer) DO UPDATE SET next_seq = excluded.next_seq, through = excluded.through, above = excluded.above;
-- name: put_block
INSERT INTO blocks (peer, since) VALUES (?, ?) ON CONFLICT (peer) DO NOTHING;
-- name: drop_block
DELETE FROM blocks WHERE peer = ?;
-- name: put_case
INSERT INTO cases (case_id, wrapped, created) VALUES (?, ?, ?);
-- name: put_outgoing
INSERT INTO outgoing (peer, id, status, created, updated, attempt, seq, digest, expires, code, clause, log_index,
                      case_id, agreement, draft, answer, relied, duty, about, proposer, waits)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (peer, id) DO UPDATE SET
    status = excluded.status, updated = excluded.updated, attempt = excluded.attempt, seq = excluded.seq,
    digest = excluded.digest, expires = excluded.expires, code = excluded.code, clause = excluded.clause,
    log_index = excluded.log_index, agreement = excluded.agreement, draft = excluded.draft, answer = excluded.answer,
    waits = excluded.waits;
-- name: put_incoming
INSERT INTO incoming (peer, id, attempt, seq, digest, status, updated, code, clause, log_index, has_blobs, waits_for,
                      case_id, answer, agreement, commitment, in_reply_to, duty, about, retention, keep_until, gone)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (peer, id, attempt) DO UPDATE SET
    status = excluded.status, updated = excluded.updated, code = excluded.code, clause = excluded.clause,
    log_index = excluded.log_index, has_blobs = excluded.has_blobs, waits_for = excluded.waits_for,
    case_id = excluded.case_id, answer = excluded.answer, keep_until = excluded.keep_until;
-- Of the message's every attempt; ``gone`` is never taken back.
-- name: put_gone
UPDATE incoming SET gone = 1 WHERE peer = ? AND id = ?;
-- name: drop_content
UPDATE envelopes SET body = X'', cek = NULL WHERE digest IN (SELECT digest FROM incoming WHERE peer = ? AND id = ?);
-- name: drop_blobs_of
DELETE FROM blobs WHERE peer = ? AND message = ? AND direction = ?;
-- name: put_copy
INSERT INTO copies (direction, peer, id, stage, decided, why, reason, cause, replaced_by, held_until, erased, root,
                    receipt, kept)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (direction, peer, id) DO UPDATE SET
    stage = excluded.stage, decided = excluded.decided, why = excluded.why, reason = excluded.reason,
    cause = excluded.cause, replaced_by = excluded.replaced_by, held_until = excluded.held_until,
    erased = excluded.erased, root = excluded.root, receipt = excluded.receipt, kept = excluded.kept;
-- name: put_hold
INSERT INTO holds (peer, id, number, until, detail, placed, released) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (peer, id, number) DO UPDATE SET released = excluded.released;
-- name: put_envelope
INSERT INTO envelopes (digest, peer, document, body, cek) VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING;
-- name: put_outbox
INSERT INTO outbox (digest, peer, lane, seq, id) VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING;
-- name: drop_outbox
DELETE FROM outbox WHERE digest = ?;
-- name: put_answer
INSERT INTO answers (digest, peer, bytes) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING;
-- name: put_other_answer
INSERT INTO other_answers (digest, peer, answer) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING;
-- name: put_blob
INSERT INTO blobs (h, peer, message, direction, len, whole, secret) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (h, peer, message, direction) DO UPDATE SET whole = excluded.whole;
-- name: drop_staged
DELETE FROM blobs WHERE h = ? AND direction = 'staged';
-- name: add_quota
INSERT INTO quotas (agreement, clause, sender, day, used) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (agreement, clause, sender, day) DO UPDATE SET used = excluded.used;
-- A row that comes again keeps the time of its acceptance and what was told of it.
-- name: put_clock
INSERT INTO clocks (direction, peer, id, asked, answers, agreement, clause, accepted, told)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting')
ON CONFLICT (direction, peer, id) DO UPDATE SET agreement = excluded.agreement, clause = excluded.clause;
-- name: put_clock_accepted
UPDATE clocks SET accepted = ? WHERE direction = ? AND peer = ? AND id = ? AND accepted IS NULL;
-- name: put_clock_answered
UPDATE clocks SET told = 'answered' WHERE (direction, peer, id) IN (
    SELECT iif(direction = 'in', 'out', 'in'), peer, answers FROM clocks
    WHERE direction = ? AND peer = ? AND id = ? AND answers IS NOT NULL AND accepted IS NOT NULL
);
-- name: put_clock_told
UPDATE clocks SET told = ? WHERE direction = ? AND peer = ? AND id = ? AND told <> 'answered';
-- name: put_forward
INSERT INTO forwards (peer, id, origin, about) VALUES (?, ?, ?, ?);
-- name: put_prekey
INSERT INTO prekeys (id, use_from, use_until, open_until, destroyed) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET destroyed = excluded.destroyed;
-- name: put_leaf
INSERT INTO leaves (seq, leaf) VALUES (?, ?);
-- name: put_log
INSERT INTO log (one, size, frontier, last) VALUES (1, ?, ?, ?)
ON CONFLICT (one) DO UPDATE SET size = excluded.size, frontier = excluded.frontier, last = excluded.last;
-- name: put_checkpoint
INSERT INTO checkpoints (size, time, note) VALUES (?, ?, ?) ON CONFLICT (size) DO NOTHING;

-- name: meta
SELECT name, value FROM meta;
-- name: documents
SELECT type, subject, version, state, lineage, bytes FROM documents WHERE type = ? ORDER BY version;
-- name: pushes
SELECT p.digest, d.subject, d.bytes FROM pushes p JOIN documents d ON d.digest = p.digest WHERE p.peer = ?
ORDER BY d.subject, d.version, d.digest;
-- name: windows
SELECT peer, next_seq, through, above FROM windows;
-- name: blocks
SELECT peer FROM blocks;
-- name: case_key
SELECT wrapped FROM cases WHERE case_id = ?;
-- name: outgoing
SELECT peer, id, status, created, updated, attempt, seq, digest, expires, code, clause, log_index, case_id, agreement,
       draft, answer, relied, duty, about, proposer, waits
FROM outgoing WHERE peer = ? AND id IN (SELECT value FROM json_each(?));
-- name: outgoing_by_id
SELECT peer, id, status, created, updated, attempt, seq, digest, expires, code, clause, log_index, case_id, agreement,
       draft, answer, relied, duty, about, proposer, waits
FROM outgoing WHERE id = ? ORDER BY peer;
-- name: outgoing_list
SELECT peer, id, status, created, updated, attempt, seq, digest, expires, code, clause, log_index, case_id, agreement,
       NULL, answer, relied, duty, about, proposer, waits
FROM outgoing ORDER BY rowid DESC LIMIT ?;
-- What still waits for its peer's signed answer; a reply may have come without one.
-- name: outgoing_open
WITH asked (peer) AS (SELECT ?)
SELECT peer, id, status, created, updated, attempt, seq, digest, expires, code, clause, log_index, case_id, agreement,
       draft, answer, relied, duty, about, proposer, waits
FROM outgoing WHERE rowid IN (
    SELECT o.rowid FROM asked a JOIN outgoing o ON o.peer = a.peer AND o.status IN ('queued', 'sent')
    UNION ALL
    SELECT o.rowid FROM asked a JOIN outbox b ON b.peer = a.peer JOIN outgoing o ON o.peer = b.peer AND o.id = b.id
    WHERE o.status = 'answered' AND o.log_index IS NULL
) ORDER BY rowid LIMIT ?;
-- name: outgoing_unsealed
SELECT id FROM outgoing WHERE peer = ? AND status IN ('queued', 'sent') AND digest IS NULL AND waits = 0
AND (attempt < 2 OR unixepoch(updated) + ? * (1 << min(attempt - 2, 8)) <= unixepoch(?)) ORDER BY rowid LIMIT ?;
-- name: outgoing_under
SELECT peer, id FROM outgoing WHERE status IN ('queued', 'sent') AND agreement IN (SELECT value FROM json_each(?))
ORDER BY rowid;
-- name: outgoing_counts
SELECT peer, status, count(*) FROM outgoing GROUP BY peer, status;
-- name: incoming
SELECT peer, id, attempt, seq, digest, status, updated, code, clause, log_index, has_blobs, waits_for, case_id, answer,
       agreement, commitment, in_reply_to, duty, about, retention, keep_until, gone
FROM incoming WHERE peer = ? AND id IN (SELECT value FROM json_each(?)) ORDER BY attempt;
-- What the peer said about one message, in the order in which it was accepted.
-- name: incoming_about
SELECT peer, id, attempt, seq, digest, status, updated, code, clause, log_index, has_blobs, waits_for, case_id, answer,
       agreement, commitment, in_reply_to, duty, about, retention, keep_until, gone
FROM incoming WHERE peer = ? AND about = ? ORDER BY log_index;
-- name: incoming_by_id
SELECT peer, id, attempt, seq, digest, status, updated, code, clause, log_index, has_blobs, waits_for, case_id, answer,
       agreement, commitment, in_reply_to, duty, about, retention, keep_until, gone
FROM incoming WHERE id = ? ORDER BY peer, attempt;
-- name: incoming_held
SELECT peer, id, attempt, seq, digest, status, updated, code, clause, log_index, has_blobs, waits_for, case_id, answer,
       agreement, commitment, in_reply_to, duty, about, retention, keep_until, gone
FROM incoming WHERE status = 'held' ORDER BY peer, seq;
-- name: incoming_list
SELECT peer, id, attempt, seq, digest, status, updated, code, clause, log_index, has_blobs, waits_for, case_id, answer,
       agreement, commitment, in_reply_to, duty, about, retention, keep_until, gone
FROM incoming WHERE status <> 'held' ORDER BY rowid DESC LIMIT ?;
-- name: incoming_over
SELECT DISTINCT peer, id FROM incoming WHERE gone = 0 AND keep_until IS NOT NULL AND keep_until <= ?
AND NOT EXISTS (
    SELECT 1 FROM copies c
    WHERE c.direction = 'in' AND c.peer = incoming.peer AND c.id = incoming.id AND c.stage IN ('due', 'erased')
) LIMIT ?;
-- name: copy
SELECT direction, peer, id, stage, decided, why, reason, cause, replaced_by, held_until, erased, root, receipt, kept
FROM copies WHERE direction = ? AND peer = ? AND id = ?;
-- name: copies_of
SELECT direction, peer, id, stage, decided, why, reason, cause, replaced_by, held_until, erased, root, receipt, kept
FROM copies WHERE direction = ? AND id IN (SELECT value FROM json_each(?));
-- What is to be erased now: a hold that ends before the day given, or that nobody was told of, is asked for again.
-- name: copies_due
SELECT decided, peer, id FROM copies
WHERE stage = 'due' AND direction = 'in' AND (held_until IS NULL OR held_until < ?) AND (decided, peer, id) > (?, ?, ?)
ORDER BY decided, peer, id LIMIT ?;
-- What was taken back on its way, and was accepted all the same.
-- name: copies_wanted
SELECT k.decided, k.peer, k.id FROM copies k JOIN outgoing o ON o.peer = k.peer AND o.id = k.id
WHERE k.stage = 'wanted' AND k.direction = 'out' AND o.status IN ('accepted', 'complete', 'opened', 'answered')
AND k.peer NOT IN (SELECT value FROM json_each(?)) AND (k.decided, k.peer, k.id) > (?, ?, ?)
ORDER BY k.decided, k.peer, k.id LIMIT ?;
-- What was erased, and its originator is to be told.
-- name: copies_untold
SELECT decided, peer, id FROM copies
WHERE stage = 'erased' AND receipt IS NULL AND direction = 'in'
AND peer NOT IN (SELECT value FROM json_each(?)) AND (decided, peer, id) > (?, ?, ?)
ORDER BY decided, peer, id LIMIT ?;
-- name: copies_count
SELECT direction, stage, count(*), count(held_until) FROM copies GROUP BY direction, stage;
-- What was passed on, and is not taken back although its original was.
-- name: forwards_recalled
SELECT k.decided, f.peer, f.id, k.reason
FROM forwards f JOIN copies k ON k.direction = 'in' AND k.peer = f.origin AND k.id = f.about
JOIN outgoing o ON o.peer = f.peer AND o.id = f.id
WHERE k.stage IN ('due', 'erased') AND k.why <> 'retention' AND o.status NOT IN ('refused', 'expired', 'recalled')
AND NOT EXISTS (
    SELECT 1 FROM copies t WHERE t.direction = 'out' AND t.peer = f.peer AND t.id = f.id AND t.stage <> 'kept'
)
AND f.peer NOT IN (SELECT value FROM json_each(?)) AND (k.decided, f.peer, f.id) > (?, ?, ?)
ORDER BY k.decided, f.peer, f.id LIMIT ?;
-- name: holds_of
SELECT number, until, detail, placed, released FROM holds WHERE peer = ? AND id = ? ORDER BY number;
-- name: envelope
SELECT peer, document, body, cek FROM envelopes WHERE digest = ?;
-- name: outbox
SELECT o.digest, o.id, o.lane, o.seq, e.document, e.body
FROM outbox o JOIN envelopes e ON e.digest = o.digest WHERE o.peer = ? ORDER BY o.lane, o.seq LIMIT ? OFFSET ?;
-- name: answer
SELECT bytes FROM answers WHERE digest = ?;
-- name: other_answer
SELECT a.bytes FROM other_answers o JOIN answers a ON a.digest = o.answer WHERE o.digest = ?;
-- name: blobs_of
SELECT h, len, whole FROM blobs WHERE peer = ? AND message = ? AND direction = ?;
-- name: blobs_named
SELECT peer, message, direction, len, whole, secret FROM blobs WHERE h = ?;
-- name: blobs_to_send
SELECT b.h, b.message, b.len FROM blobs b JOIN outgoing o ON o.peer = b.peer AND o.id = b.message
WHERE b.peer = ? AND b.direction = 'out' AND b.whole = 0 AND o.status IN ('accepted', 'opened', 'answered')
AND NOT EXISTS (
    SELECT 1 FROM copies c
    WHERE c.direction = 'out' AND c.peer = b.peer AND c.id = b.message AND c.stage = 'erased'
)
ORDER BY o.rowid LIMIT ?;
-- Whatever became of their message: what was refused, or came back, may turn out to have been accepted.
-- name: blobs_waiting
SELECT 1 FROM blobs WHERE peer = ? AND direction = 'out' AND whole = 0 LIMIT 1;
-- name: quotas
SELECT clause, used FROM quotas WHERE agreement = ? AND sender = ? AND day = ?;
-- name: clocks_open
SELECT direction, peer, id, asked, agreement, clause, accepted, told, NULL FROM clocks
WHERE asked IS NOT NULL AND told <> 'answered' AND accepted IS NOT NULL
AND NOT EXISTS (
    SELECT 1 FROM copies k
    WHERE k.direction = clocks.direction AND k.peer = clocks.peer AND k.id = clocks.id AND k.stage <> 'kept'
)
ORDER BY accepted, id LIMIT ?;
-- name: clocks_of
SELECT c.direction, c.peer, c.id, c.asked, c.agreement, c.clause, c.accepted, c.told,
       (SELECT min(a.accepted) FROM clocks a
        WHERE a.peer = c.peer AND a.answers = c.id AND a.direction <> c.direction)
FROM clocks c
WHERE c.direction = ? AND c.asked IS NOT NULL AND c.accepted IS NOT NULL AND c.id IN (SELECT value FROM json_each(?))
AND NOT EXISTS (
    SELECT 1 FROM copies k WHERE k.direction = c.direction AND k.peer = c.peer AND k.id = c.id AND k.stage <> 'kept'
);
-- name: prekeys
SELECT id, use_from, use_until, open_until, destroyed FROM prekeys;
-- name: leaves
SELECT seq, leaf FROM leaves WHERE seq >= ? ORDER BY seq LIMIT ?;
-- name: log
SELECT size, frontier, last FROM log;
-- name: checkpoint
SELECT size, time, note FROM checkpoints ORDER BY size DESC LIMIT 1;
-- name: all_checkpoints
SELECT size, time, note FROM checkpoints ORDER BY size;
-- name: all_envelopes
SELECT digest, peer, document, body, cek FROM envelopes;
-- name: all_incoming
SELECT peer, id, attempt, seq, digest, status, updated, code, clause, log_index, has_blobs, waits_for, case_id, answer,
       agreement, commitment, in_reply_to, duty, about, retention, keep_until, gone
FROM incoming;
-- name: all_outgoing
SELECT peer, id, status, created, updated, attempt, seq, digest, expires, code, clause, log_index, case_id, agreement,
       draft, answer, relied, duty, about, proposer, waits
FROM outgoing;
-- name: leaf_count
SELECT count(*) FROM leaves;
