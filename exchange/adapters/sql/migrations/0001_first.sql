-- The store of one node. Every table is STRICT; times are UTC text of protocol 2; digests are lower-case hex.
-- Content is never here in clear: bodies are sealed, content keys are wrapped under case keys.

-- Facts about the database itself.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,              -- 'version', 'node', 'network'
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Signed public documents: cards, agreements, notices about them, prekey bundles; the bytes as received.
CREATE TABLE documents (
    digest TEXT PRIMARY KEY,            -- SHA-256 over PAE
    type TEXT NOT NULL,                 -- payload type
    subject TEXT NOT NULL,              -- node id of a card or bundle, id of an agreement, '<party>/<id>' of a notice
    version INTEGER NOT NULL,           -- card or agreement version, serial of a bundle or notice
    state TEXT NOT NULL,                -- 'current' or 'superseded'
    lineage TEXT NOT NULL,              -- authority fingerprints of a card's chain, separated by spaces
    bytes BLOB NOT NULL,                -- the signed document
    installed TEXT NOT NULL             -- when
) STRICT, WITHOUT ROWID;

-- Our signed notices and lists of officers that a peer has not acknowledged yet.
CREATE TABLE pushes (
    peer TEXT NOT NULL,
    digest TEXT NOT NULL,               -- of a document
    PRIMARY KEY (peer, digest)
) STRICT, WITHOUT ROWID;

-- One row a peer: the numbers of the pair.
CREATE TABLE windows (
    peer TEXT PRIMARY KEY,
    next_seq INTEGER NOT NULL,          -- the number the next sealed envelope takes
    through INTEGER NOT NULL,           -- every number of theirs up to here has its final answer
    above TEXT NOT NULL                 -- closed ranges beyond the first gap: 'low-high low-high'
) STRICT, WITHOUT ROWID;

-- Peers that the operator blocked.
CREATE TABLE blocks (
    peer TEXT PRIMARY KEY,
    since TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys of cases, wrapped by the master key. Erasing a row erases the case.
CREATE TABLE cases (
    case_id TEXT PRIMARY KEY,           -- keyed hash of the case number
    wrapped BLOB NOT NULL,              -- the case's own key, sealed under the master key
    created TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What officers sent: one row a message and peer.
CREATE TABLE outgoing (
    peer TEXT NOT NULL,
    id TEXT NOT NULL,
    status TEXT NOT NULL,               -- core.delivery.Status
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    seq INTEGER NOT NULL,               -- 0 while unsealed
    digest TEXT,                        -- of the sealed envelope
    expires TEXT,
    code TEXT,                          -- why refused or returned
    clause TEXT,                        -- the clause relied on, or that refused
    log_index INTEGER,                  -- leaf at the receiver
    case_id TEXT NOT NULL,
    agreement TEXT NOT NULL,            -- digest of the agreement relied on
    draft BLOB,                         -- the statement under the case key, while it waits unsealed
    answer TEXT,                        -- digest of the signed answer
    relied TEXT NOT NULL,               -- the clause relied on, whatever its answers say
    duty TEXT,                          -- kind of a duty message (protocol 8.6), and the message it is about
    about TEXT,
    proposer TEXT,                      -- key id of the officer who submitted it; NULL at a node without officers
    waits INTEGER NOT NULL,             -- 1 while approvals are missing
    PRIMARY KEY (peer, id)
) STRICT;
CREATE INDEX outgoing_open ON outgoing (peer, status) WHERE status IN ('queued', 'sent');

-- What arrived: one row an attempt. Rows are kept for ever, so that nothing takes effect twice.
CREATE TABLE incoming (
    peer TEXT NOT NULL,
    id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    digest TEXT NOT NULL,
    status TEXT NOT NULL,
    updated TEXT NOT NULL,
    code TEXT,
    clause TEXT,
    log_index INTEGER,                  -- our leaf
    has_blobs INTEGER NOT NULL,         -- evidence is still awaited
    waits_for TEXT NOT NULL,            -- ids, while held
    case_id TEXT,                       -- NULL where refused before it was opened
    answer TEXT,                        -- digest of our signed answer
    agreement TEXT,                     -- '<id>/<version>' it came under, and the digest of its part 0: what its
    commitment TEXT,                    -- entry in the log says, also where that is written after it was held
    in_reply_to TEXT,                   -- our message that it answers, also where it was held
    duty TEXT,                          -- kind of a duty message (protocol 8.6), and the message it is about
    about TEXT,
    retention INTEGER,                  -- days from acceptance after which it is erased; NULL of a duty
    keep_until TEXT,                    -- the day it was accepted and those days; NULL until then
    gone INTEGER NOT NULL,              -- 1 from the moment on in which erasing began: nothing shows it any more
    PRIMARY KEY (peer, id, attempt)
) STRICT;
CREATE INDEX incoming_about ON incoming (peer, about) WHERE about IS NOT NULL;
CREATE INDEX incoming_kept ON incoming (keep_until) WHERE gone = 0 AND keep_until IS NOT NULL;
CREATE INDEX incoming_held ON incoming (peer) WHERE status = 'held';

-- What is to be erased, was, or may not be: one row a message and peer, of our copy of a received message ('in') or of
-- a recipient's copy of ours ('out'). The row comes first: what is written here survives a crash and is carried out.
CREATE TABLE copies (
    direction TEXT NOT NULL,            -- 'in', 'out'
    peer TEXT NOT NULL,
    id TEXT NOT NULL,
    stage TEXT NOT NULL,                -- node.copies.Stage
    decided TEXT NOT NULL,
    why TEXT,                           -- a code of deletion_causes
    reason TEXT,                        -- a code of recall_reasons
    cause TEXT,                         -- the recall or correction that asks for it
    replaced_by TEXT,                   -- the message that takes its place
    held_until TEXT,                    -- last day of the legal hold that its originator was told of
    erased TEXT,                        -- when
    root TEXT,                          -- of the statement that was erased
    receipt TEXT,                       -- the deletion receipt
    kept BLOB,                          -- 'in': what the receipt needs, under the case key
    PRIMARY KEY (direction, peer, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX copies_due ON copies (decided, peer, id) WHERE stage = 'due';
CREATE INDEX copies_wanted ON copies (decided, peer, id) WHERE stage = 'wanted';
CREATE INDEX copies_untold ON copies (decided, peer, id) WHERE stage = 'erased' AND receipt IS NULL;

-- Legal holds on received messages. Court, reference and the salt of their log entry lie under the master key.
CREATE TABLE holds (
    peer TEXT NOT NULL,
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    until TEXT NOT NULL,                -- last day, UTC
    detail BLOB NOT NULL,
    placed TEXT NOT NULL,
    released TEXT,
    PRIMARY KEY (peer, id, number)
) STRICT, WITHOUT ROWID;

-- Sealed envelopes as sent and as received: the evidence, and the message at rest.
CREATE TABLE envelopes (
    digest TEXT PRIMARY KEY,
    peer TEXT NOT NULL,
    document BLOB NOT NULL,             -- the signed document, exact bytes
    body BLOB NOT NULL,                 -- the sealed statement, exact bytes; empty once it is erased
    cek BLOB                            -- its content key under the case key; NULL where never opened, or erased
) STRICT;

-- What is still to be sent, for each peer in the order of lane and number.
CREATE TABLE outbox (
    digest TEXT PRIMARY KEY,            -- of an envelope or a void
    peer TEXT NOT NULL,
    lane INTEGER NOT NULL,              -- 0 alert, 1 normal, 2 bulk
    seq INTEGER NOT NULL,
    id TEXT NOT NULL
) STRICT;
CREATE INDEX outbox_order ON outbox (peer, lane, seq);

-- Signed answers, ours and theirs, exact bytes.
CREATE TABLE answers (
    digest TEXT PRIMARY KEY,
    peer TEXT NOT NULL,
    bytes BLOB NOT NULL
) STRICT;

-- What else was answered, so that a repeat gets the same answer: voids, and rivals of a message (equivocation).
CREATE TABLE other_answers (
    digest TEXT PRIMARY KEY,            -- of the void or the rival envelope
    peer TEXT NOT NULL,
    answer TEXT NOT NULL                -- digest of our signed answer
) STRICT, WITHOUT ROWID;

-- Evidence files by the digest of their ciphertext; the bytes are in the blob folder.
CREATE TABLE blobs (
    h TEXT NOT NULL,
    peer TEXT NOT NULL,                 -- from or to whom; '' while staged by an officer
    message TEXT NOT NULL,              -- message id; '' while staged
    direction TEXT NOT NULL,            -- 'in', 'out', 'staged'
    len INTEGER NOT NULL,               -- of the ciphertext
    whole INTEGER NOT NULL,             -- 1 when this side, or for 'out' the peer, has all of it
    secret BLOB,                        -- staged: key, length and digest of the original, under the master key
    PRIMARY KEY (h, peer, message, direction)
) STRICT, WITHOUT ROWID;

-- Messages counted against a clause on a UTC day.
CREATE TABLE quotas (
    agreement TEXT NOT NULL,
    clause TEXT NOT NULL,
    sender TEXT NOT NULL,
    day TEXT NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (agreement, clause, sender, day)
) STRICT, WITHOUT ROWID;

-- What response clocks run on (protocol 8.7): a row for each message that asks for an answer, or is one.
CREATE TABLE clocks (
    direction TEXT NOT NULL,            -- 'in', 'out'
    peer TEXT NOT NULL,
    id TEXT NOT NULL,
    asked TEXT,                         -- the urgency under which its clause wants an answer; NULL where none is due
    answers TEXT,                       -- the message of the other direction that it answers
    agreement TEXT NOT NULL,            -- digest of the agreement it came under
    clause TEXT NOT NULL,               -- the clause relied on
    accepted TEXT,                      -- time of the receiver's signed acceptance; NULL before there is one
    told TEXT NOT NULL,                 -- the last state that the operator was told of; 'answered' ends the telling
    PRIMARY KEY (direction, peer, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX clocks_open ON clocks (accepted) WHERE asked IS NOT NULL AND told <> 'answered';
CREATE INDEX clocks_answers ON clocks (peer, answers) WHERE answers IS NOT NULL;

-- Received messages that were passed on (protocol 8.8): the message that went out, and the one it came from.
CREATE TABLE forwards (
    peer TEXT NOT NULL,
    id TEXT NOT NULL,
    origin TEXT NOT NULL,
    about TEXT NOT NULL,
    PRIMARY KEY (peer, id)
) STRICT, WITHOUT ROWID;

-- Our published prekeys. The secrets are files; a destroyed one stays listed, so that 'gone' is told from 'never ours'.
CREATE TABLE prekeys (
    id TEXT PRIMARY KEY,
    use_from TEXT NOT NULL,
    use_until TEXT NOT NULL,
    open_until TEXT NOT NULL,
    destroyed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The audit log: exact bytes of each entry.
CREATE TABLE leaves (
    seq INTEGER PRIMARY KEY,
    leaf BLOB NOT NULL
) STRICT;

-- The log's right edge, written with its entries.
CREATE TABLE log (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    frontier BLOB NOT NULL,
    last TEXT                           -- time of the last entry
) STRICT;

-- Signed checkpoints; sizes only grow.
CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    note BLOB NOT NULL
) STRICT;
