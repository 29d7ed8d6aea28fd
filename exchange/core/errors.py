"""Every error the exchange can report: one tree, one table of stable codes.

    ExchangeError
    |-- PeerError        the input or the peer is at fault; its code may be answered to the peer
    |-- LocalError       this node, its operator or its machine; told to the operator, never to a peer
    `-- IntegrityError   stored state contradicts itself; the node stops

Rules:
1. A code reads ``area.reason``, is in ``CODES`` and never changes its meaning; docs/errors.md lists all of them.
2. ``where`` names a place (a pointer, a step, a file, a member name), never a value: content must not
   reach a log, a terminal or a peer through an error.
3. The text for people is made from the table, so that the same fault always reads the same.
4. Raising a code that is not in the table is a programming error (``KeyError``), as is raising it with
   the class of another fault.

What this module does not do: choose exit codes (``exchange.cli``) or answer peers (``core.relay``).

Length: one table, of which most is text.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, NamedTuple


class Fault(Enum):
    """Whose fault an error is."""

    PEER = "peer"
    LOCAL = "local"
    INTEGRITY = "integrity"


class Code(NamedTuple):
    """One row of the table: whose fault, what happened (a sentence without its end), what to do next."""

    fault: Fault
    what: str
    remedy: str


def _peer(what: str, remedy: str) -> Code:
    return Code(Fault.PEER, what, remedy)


def _local(what: str, remedy: str) -> Code:
    return Code(Fault.LOCAL, what, remedy)


def _integrity(what: str, remedy: str) -> Code:
    return Code(Fault.INTEGRITY, what, remedy)


_REPAIR = "ask whoever made this file to send it again; do not edit it by hand"
_CORRECT = "correct the file and try again"
_ASK_PEER = "ask the peer's operator; nothing was accepted"

CODES: dict[str, Code] = {
    # wire: strict bytes <-> values (protocol 2)
    "wire.too_large": _peer("the input is larger than allowed", "send less at once, or attach large files as evidence"),
    "wire.not_utf8": _peer("the text is not UTF-8", "save the file as UTF-8 without a byte order mark"),
    "wire.not_json": _peer("the text is not JSON", _CORRECT),
    "wire.duplicate_key": _peer("an object has the same member twice", "remove one of the two members"),
    "wire.too_deep": _peer("the JSON is nested too deeply", "flatten the document"),
    "wire.bad_number": _peer("a number is outside the range every system can read", "write it as text"),
    "wire.bad_text": _peer("a text holds characters that cannot be stored", "remove unpaired surrogates"),
    "wire.missing": _peer("a required member is missing", _CORRECT),
    "wire.unknown_member": _peer("a member is not known here", "remove it or correct its name"),
    "wire.bad_type": _peer("a value has the wrong JSON type", _CORRECT),
    "wire.bad_value": _peer("a value is not in the allowed form", _CORRECT),
    "wire.bad_base64": _peer("base64 text is not canonical", _REPAIR),
    "wire.bad_time": _peer("a time is not in the form 2026-11-23T00:27:37Z", _CORRECT),
    "wire.unknown_type": _peer(
        "the document type is not known here", "update the software or ask for a supported type"
    ),
    "wire.wrong_type": _peer("the document is of another type than expected", "check which file was meant"),
    "wire.bad_frame": _peer("the request is not a well-formed batch", _ASK_PEER),
    # keys: cards, prekeys, signatures (protocol 4)
    "key.bad_signature": _peer("a signature does not verify", _REPAIR),
    "key.weak": _peer("a public key is malformed or of low order", "ask the owner for a fresh key"),
    "key.unknown": _peer("the signing key is not known here", "import the signer's current card"),
    "key.expired": _peer("the signing key is not valid at this time", "import the signer's current card"),
    "key.threshold": _peer("too few of the keys that must sign have signed", "have the missing keys sign"),
    "key.wrong_network": _peer("the document belongs to another network", "check the network name at both nodes"),
    "card.expired": _peer("the card has expired", "import the node's current card"),
    "card.chain": _peer(
        "the card does not continue the one held here", "compare fingerprints by voice before anything else"
    ),
    "card.unknown": _peer("no card of that node is installed", "exchange card import FILE"),
    "card.ambiguous": _peer("several nodes match that name", "write the node id, for example kh-fp1"),
    "card.tls_mismatch": _peer(
        "the server's TLS key is not the one in the card", "compare cards with the peer's operator"
    ),
    "prekey.none": _peer("no live prekey of the recipient is held", "wait for contact with the recipient's node"),
    "prekey.invalid": _peer("the prekey bundle contradicts itself", _ASK_PEER),
    "prekey.stale": _peer("the prekey bundle is older than the one held", _ASK_PEER),
    # officers: the lists of officers (protocol 4.5)
    "officers.unknown": _peer("the sender's list of officers is not known here", "nothing; its node sends the list"),
    "officers.superseded": _peer(
        "the approvals rest on a list of officers that a later one replaced",
        "the sender's node seals it again by itself",
    ),
    "officers.invalid": _peer("the list of officers contradicts itself", _CORRECT),
    "officers.stale": _peer("a later list of officers is held", "raise the serial, or install the newest list"),
    "officers.conflict": _peer(
        "another list of officers with the same serial is held", "raise the serial; compare both lists"
    ),
    "officers.required": _peer("this node has officers: one of them must act", "name yourself: --as OFFICER"),
    "officers.not_listed": _peer(
        "no officer of that key is on this node's list now", "have the personnel keys sign a list that names them"
    ),
    "officers.role": _peer("the officer's roles do not include this", "ask an officer whose role it is"),
    "officers.act": _peer("the officer's key did not sign exactly this, now and once", "try again; set the clock"),
    "officers.proposer": _peer(
        "who writes a message signs it as its proposer, and nobody's approver", "have another officer approve it"
    ),
    "officers.twice": _peer("this officer has signed the message already", "have another officer approve it"),
    "officers.not_asked": _peer(
        "the message does not wait for this approval", "exchange show ID says what is missing, and from whom"
    ),
    # schema: the agreed message schemas (protocol 6)
    "schema.unknown": _peer("the schema is not known here", "exchange schema list shows what is"),
    "schema.digest": _peer(
        "the schema differs from the one agreed under that name", "update both nodes to the same schema set"
    ),
    "schema.invalid": _peer(
        "the content does not match its schema", "exchange schema validate FILE explains each place"
    ),
    "schema.unsafe": _local("a schema file breaks the rules for schemas", "restore the installed schema set"),
    "schema.parts": _peer("the parts of the statement are not those its schema names", _ASK_PEER),
    "schema.rule": _peer(
        "the content breaks a rule between its members", "exchange schema validate FILE names the rule"
    ),
    "schema.code": _peer("a code that decides a rule is not known here", "use a listed purpose, handling and TLP code"),
    # audit: the tamper-evident log (protocol 9)
    "audit.bad_checkpoint": _peer("the checkpoint is malformed", "export the log again"),
    "audit.bad_signature": _peer(
        "the checkpoint's signature does not verify", "compare the log key with the node's card"
    ),
    "audit.bad_proof": _peer(
        "the proof does not lead to the root", "export the log again; if it repeats, treat the log as altered"
    ),
    "audit.bad_tile": _peer("a tile or entry bundle is malformed or has the wrong size", "export the log again"),
    "audit.missing": _peer("a file of the export is missing", "export the log again"),
    "audit.root": _peer(
        "the entries do not give the signed root", "treat the log as altered; keep the folder as evidence"
    ),
    "audit.bad_leaf": _peer("a log entry is malformed", "treat the log as altered; keep the folder as evidence"),
    "audit.unsigned": _peer("one of the log's own two signatures is missing", "export the log again"),
    "audit.bad_vkey": _peer("a log key is malformed", "take the log key from the node's card"),
    "audit.wrong_key": _peer(
        "the log key is not the one of the node's card", "compare cards by voice; treat the log as another one"
    ),
    "audit.wrong_log": _peer("the checkpoint belongs to another log", "check which node's log was meant"),
    "audit.no_entry": _peer("the log has no entry of that number", "check the number and the size of the log"),
    "audit.altered": _peer(
        "an entry is not the one that was logged", "treat the log as altered; keep the folder as evidence"
    ),
    "audit.order": _peer(
        "an entry does not carry the number of its place", "treat the log as altered; keep the folder as evidence"
    ),
    "audit.back_dated": _peer(
        "an entry is older than the one before it", "ask the node's operator what happened to its clock"
    ),
    "audit.signed_early": _peer(
        "the checkpoint is dated before its newest entry", "ask the node's operator what happened to its clock"
    ),
    "audit.signed_ahead": _peer(
        "the checkpoint is dated in the future", "check the clock of this machine; else ask the node's operator"
    ),
    "audit.key_expired": _peer(
        "the card's log keys were not valid when the checkpoint was signed",
        "check against the card that was in force then; else ask the node's operator",
    ),
    "audit.bad_policy": _peer(
        "the witness policy is not the one of this version", "do not rely on it; export the log again"
    ),
    "audit.index": _peer(
        "index.json does not agree with the log beside it", "believe the log, not the index; export the log again"
    ),
    "audit.unlisted": _peer(
        "a file or link in the folder is no part of the export", "do not rely on it; export the log again"
    ),
    "audit.unreserved": _integrity(
        "a key was about to be used, or a change stored, without its log entry",
        "stop; report this fault of the program",
    ),
    # envelope: seal and open (protocol 5 and 7)
    "envelope.malformed": _peer("the envelope is malformed", _ASK_PEER),
    "envelope.not_for_us": _peer("the envelope is addressed to another node", _ASK_PEER),
    "envelope.unknown_sender": _peer("the sender is not known here", "install the sender's card and an agreement"),
    "envelope.blocked": _peer(
        "one of the two nodes blocks the other",
        "exchange card unblock NODE, where it is blocked here; else ask its operator",
    ),
    "envelope.signature": _peer("the envelope's signature does not verify", _ASK_PEER),
    "envelope.equivocation": _peer(
        "the same message id was used for other bytes", "both are kept as evidence; investigate"
    ),
    "envelope.not_yet_valid": _peer("the message was created in the future", "check the clocks of both nodes"),
    "envelope.expired": _peer("the message arrived after its expiry", "the sender's node seals it again by itself"),
    "envelope.lifetime": _peer("the message's times contradict each other", _ASK_PEER),
    "envelope.prekey_unknown": _peer(
        "the message is sealed to a key that this node never published", "investigate at the sender"
    ),
    "envelope.prekey_gone": _peer(
        "the message is sealed to a key that has been destroyed", "the sender's node seals it again by itself"
    ),
    "envelope.open": _peer("the message key cannot be opened", _ASK_PEER),
    "envelope.commitment": _peer("the message key does not match its commitment", _ASK_PEER),
    "envelope.body": _peer("the message body cannot be opened", _ASK_PEER),
    "envelope.padding": _peer("the message body is not padded as agreed", _ASK_PEER),
    "envelope.inner": _peer("the inside of the message contradicts its outside", _ASK_PEER),
    "envelope.approval": _peer(
        "an approval is missing or is not by a listed officer", "obtain the approvals the clause asks for"
    ),
    "envelope.reference": _peer(
        "the message refers to one that was never exchanged with this peer", "correct the reference"
    ),
    "envelope.seq": _peer("the message's number was already used for another message", _ASK_PEER),
    "envelope.void": _peer("the void contradicts what was received", _ASK_PEER),
    # agreement: the rules two governments signed (protocol 8)
    "agreement.unknown": _peer("no agreement in force covers this pair", "agree, sign and install one"),
    "agreement.malformed": _peer("the agreement contradicts itself", _CORRECT),
    "agreement.unknown_code": _peer(
        "the agreement names a kind, purpose, check or part that nobody here knows",
        "correct the code: exchange schema list, schemas/codelists",
    ),
    "agreement.unusable": _peer(
        "a clause of the agreement can never permit anything", "correct the clause named, or take it out"
    ),
    "agreement.not_party": _peer(
        "a node of the message is not a party to the agreement", "choose an agreement that names both"
    ),
    "agreement.not_in_force": _peer(
        "the agreement was not in force when the message was created", "renew the agreement"
    ),
    "agreement.suspended": _peer(
        "the agreement is suspended, or a party has left it", "exchange agreement list says by whom and since when"
    ),
    "agreement.notice_stale": _peer(
        "a newer notice of that party is held, or it has left the agreement",
        "exchange agreement list shows how it stands; a new notice needs a higher serial",
    ),
    "agreement.notice_early": _peer("the notice is dated in the future", "check the clocks of both nodes"),
    "agreement.digest": _peer("the agreement differs from the one installed under that name", "compare both copies"),
    "agreement.conflict": _peer(
        "another document with the same id and version is installed", "raise the version number"
    ),
    "agreement.predecessor": _peer(
        "the version before it is not held here, or is not the one that it supersedes",
        "install the versions in order; to sign, give the one before with --before FILE",
    ),
    "agreement.overlap": _peer(
        "it does not begin after the version that it supersedes", "set valid_from after that of the version before"
    ),
    "agreement.over": _peer(
        "its validity has ended", "correct valid_until; to install it as a predecessor, add --ended"
    ),
    "agreement.authority": _peer(
        "it names another authority for a node than the cards held here",
        "compare fingerprints by voice; then import its card, or correct the agreement",
    ),
    "agreement.prohibited": _peer("a prohibition forbids this", "read the clause named"),
    "agreement.no_clause": _peer(
        "no clause permits this kind in this direction", "read the agreement: exchange agreement show"
    ),
    "agreement.purpose": _peer("no clause permits this purpose", "choose a purpose the agreement names"),
    "agreement.handling": _peer("the handling code is not permitted", "choose a handling code the clause allows"),
    "agreement.tlp": _peer(
        "the TLP marking is above what the clause carries", "lower the marking or use another channel"
    ),
    "agreement.urgency": _peer("the urgency is not permitted", "choose an urgency that the clause names"),
    "agreement.checks": _peer(
        "a safety check that the clause asks for is not assured", "make the checks, then list them in the assurances"
    ),
    "agreement.dual_criminality": _peer(
        "no statement of dual criminality is there", "state it in the assurances: the offence in both countries"
    ),
    "agreement.child_safeguards": _peer(
        "a person may be a child and no safeguards are stated", "state them in the assurances"
    ),
    "agreement.consent": _peer(
        "no consent of the victim or named exception is recorded", "record the consent, or the lawful exception"
    ),
    "agreement.onward": _peer("the onward use is wider than the clause allows", "narrow the onward use"),
    "agreement.retention": _peer("the retention is longer than the clause allows", "shorten the retention"),
    "agreement.quota": _peer("the quota of the day is used up", "wait until tomorrow (UTC) or ask the authority"),
    "agreement.content": _peer("the clause narrows the content and this does not fit", "read the clause named"),
    "agreement.withheld": _peer("a part is withheld without a clause that says so", _ASK_PEER),
    "agreement.blobs": _peer("the attachments are more or larger than the clause carries", "attach less"),
    # duty: recalls, corrections, receipts of deletion, onward use (protocol 8.6)
    "duty.form": _peer("a duty must be about exactly one earlier message, without evidence", _CORRECT),
    "duty.side": _peer(
        "this duty belongs to the other side of that message", "only its originator recalls, corrects or decides"
    ),
    "duty.subject": _peer("a duty cannot be about a duty", "name the message that it is about"),
    "duty.request": _peer("the message replied to does not ask for this duty", "reply to the request itself"),
    "duty.binding": _peer("the agreement or clause is not that of the message the duty is about", _ASK_PEER),
    "duty.receipt": _peer(
        "a deletion receipt does not name what was sent",
        "ask the peer's operator what was erased; nothing changed here",
    ),
    "duty.by_node": _peer("receipts of deletion and notices of holds are sent by the node itself", "exchange hold"),
    # onward: passing on what others sent (protocol 8.8)
    "onward.not_permitted": _peer(
        "the message must not be passed on to that node", "exchange onward request asks its originator"
    ),
    "onward.origin": _peer("the parts are not those of the origin that the header names", _ASK_PEER),
    # relay: delivery, transient unless said otherwise (protocol 7)
    "relay.held": _peer("the message waits for one that it refers to", "nothing; it is retried"),
    "relay.busy": _peer("the node is busy", "nothing; it is retried"),
    "relay.quota": _peer("the peer's share of this node is used up", "nothing; it is retried"),
    "relay.disk": _peer("the receiving node has no room", "nothing; it is retried; its operator is told"),
    "relay.unreachable": _peer("the peer cannot be reached", "nothing; it is retried; exchange doctor tells more"),
    "relay.bad_answer": _peer("the peer's answer is malformed or does not fit what was sent", _ASK_PEER),
    "relay.attempts": _peer(
        "the message was sealed too often without being accepted", "ask the peer's operator, then send again"
    ),
    "relay.cancelled": _peer(
        "the message was taken back before it was accepted", "send it again if it is still needed"
    ),
    # request: authenticated requests (protocol 10)
    "request.unsigned": _peer("the request carries no valid signature", _ASK_PEER),
    "request.stale": _peer("the request's time is too far from ours", "check the clocks of both nodes"),
    "request.replayed": _peer("the request was seen before", _ASK_PEER),
    "request.encoding": _peer("the request is compressed or of another content type", _ASK_PEER),
    "request.unknown_path": _peer("there is no such resource", _ASK_PEER),
    # blob: evidence (protocol 5.7)
    "blob.unknown": _peer("no accepted message names this evidence", "the message must be accepted first"),
    "blob.digest": _peer("the evidence differs from what the message names", "send it again from the original"),
    "blob.frame": _peer("an evidence frame does not open", "treat the copy as damaged; fetch it again"),
    "blob.incomplete": _peer("the evidence has not arrived whole", "wait; it is sent by itself"),
    "blob.too_large": _peer("the evidence is larger than allowed here", "split it or use a courier"),
    # input of officers and operators
    "input.usage": _local("the command was not understood", "exchange --help"),
    "input.compare": _local(
        "nobody compared the fingerprint", "compare it by voice, then answer yes or give it with --fingerprint"
    ),
    "input.declined": _local("it was not confirmed; nothing was signed", "correct the draft, or sign it after all"),
    "input.fingerprint": _peer(
        "the fingerprint is not the one given", "do not install; compare it by voice with the other authority"
    ),
    "input.not_found": _local("the file does not exist or cannot be read", "check the name and the permissions"),
    "input.exists": _local("the file or folder exists already and is not overwritten", "choose another name"),
    "input.output": _local(
        "the output could not be written", "make room, or name another file; what was asked for may be done already"
    ),
    "input.unknown_id": _local(
        "no message with that id is stored here", "exchange inbox and exchange outbox list them"
    ),
    "input.ambiguous": _local(
        "several nodes have a message of that id", "name the node that sent the one you mean: --from NODE"
    ),
    "input.erased": _local("this message was erased", "nothing; its log entries and receipts are left"),
    "input.hold": _local(
        "a hold needs a court, a reference and a last day that is not past",
        "at most 200 characters each; day YYYY-MM-DD",
    ),
    "input.no_hold": _peer("the message has no such hold", "exchange hold list ID"),
    "input.nothing_to_recall": _peer("no recipient has this message", "exchange show ID tells where it is"),
    "input.unknown_attachment": _local("the message has no attachment of that number", "exchange show ID lists them"),
    "input.draft": _local("the draft is not complete", _CORRECT),
    "input.unsigned": _peer(
        "the file is a draft that nobody has signed yet", "exchange authority sign FILE, at the authority's home"
    ),
    "input.not_document": _peer(
        "the file is neither a card, nor an agreement, nor a notice about one", "check which file was meant"
    ),
    "input.officer": _local(
        "no officer of that name, key id or key file is known here", "exchange officer new NAME, or name a key file"
    ),
    "input.root": _local(
        "what the node shows is not what its root is of; nothing was signed", "investigate: exchange verify"
    ),
    "input.unknown_agreement": _local(
        "no such agreement is installed, and no file has that name", "exchange agreement list names those installed"
    ),
    "input.own_node": _peer("that is this node itself", "name another node"),
    "input.card": _local(
        "the card names other keys than this home has", "have the home's own card.unsigned.json signed"
    ),
    "input.passphrase": _local("the passphrase is wrong", "try again; nothing was changed"),
    "input.no_passphrase": _local(
        "no passphrase was given",
        "use --passphrase-file, for an officer --officer-passphrase-file, or a terminal",
    ),
    # node: this machine
    "node.config": _local("the configuration is not valid", "correct config.toml at the place named"),
    "node.no_home": _local("the folder is not a node's home", "exchange init --home DIR"),
    "node.locked": _local("another process holds this home", "stop it first, or ask the running node"),
    "node.not_running": _local("the node is not running", "exchange node run"),
    "node.port": _local(
        "the address to listen on is taken or not ours", "change listen in config.toml, or stop the other program"
    ),
    "node.disk": _local(
        "the disk is full or a write failed; the node stopped to lose nothing", "free space, then start the node"
    ),
    "node.database": _local(
        "the database was made by another version of the program", "use the version that made it, or a newer one"
    ),
    "node.key": _local("a key file is missing or damaged", "restore it from the backup"),
    "node.card": _local(
        "this node has no card signed by its authority", "exchange authority sign, then exchange card import"
    ),
    "node.clock": _local("the clock of this machine jumped", "set the clock, then start the node"),
    "node.clock_doubt": _local(
        "the clock may be wrong, so nothing is erased by its time",
        "compare it; if it is right: exchange node clock --confirm",
    ),
    "node.stopping": _local("the node is stopping", "try again when it runs"),
    "node.internal": _local("an unexpected fault in the program", "report it with the log lines around it"),
    # store: integrity
    "store.corrupt": _integrity("a stored record is damaged", "stop; restore from backup; keep this copy as evidence"),
    "store.log_mismatch": _integrity(
        "the stored log does not give its signed root", "stop; keep this copy as evidence"
    ),
    "store.leaf_missing": _integrity("a stored change has no log entry", "stop; keep this copy as evidence"),
    "store.row_missing": _integrity(
        "what a log entry records is not stored", "stop; restore from backup; keep this copy as evidence"
    ),
    "store.unsigned": _integrity("no checkpoint covers what the node logged", "stop; keep this copy as evidence"),
    "store.blob_missing": _integrity(
        "stored evidence is missing or damaged", "restore it, or ask the sender to send it again"
    ),
}


class ExchangeError(Exception):
    """An error with a stable code.

    ``code`` is a key of ``CODES``; ``where`` names the place and never a value; ``clause`` is the id of the
    agreement clause that refused, if one did.
    """

    fault: ClassVar[Fault]

    def __init__(self, code: str, where: str = "", clause: str | None = None) -> None:
        row = CODES[code]
        if row.fault is not self.fault:
            message = f"{code} is a fault of {row.fault.value}, not of {self.fault.value}"
            raise KeyError(message)
        self.code = code
        self.where = where
        self.clause = clause
        self.what = row.what
        self.remedy = row.remedy
        super().__init__(code, where, clause)

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        clause = f" [clause {self.clause}]" if self.clause else ""
        return f"{self.code}: {self.what}{place}{clause}; {self.remedy}"


class PeerError(ExchangeError):
    """The input is at fault: a peer's bytes or an officer's file. Its code may be answered."""

    fault = Fault.PEER


class LocalError(ExchangeError):
    """This node or its surroundings are at fault. Told to the operator, never to a peer."""

    fault = Fault.LOCAL


class IntegrityError(ExchangeError):
    """Stored state contradicts itself. The node stops."""

    fault = Fault.INTEGRITY
