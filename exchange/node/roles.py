"""Who acts at this node, and whether their role lets them.

Implements docs/protocol.md sections 4.5 (roles) and 12 (K7).

Rules:
1. From the first list of officers on, whatever sends, opens or approves needs an officer who shows that they are it: a
   signature by their own key over the operation and its arguments. Without a list in force nobody can show that.
2. What an operator does without being an officer is listed here by name; everything else is refused to them, also what
   is added later.
3. The log gets the beginning of the officer's key id, never a name.

What it does not do: bind who has the disk and the node's passphrase (docs/attacks.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.keys import verify_single
from exchange.core.officers import Officer, Role
from exchange.core.wire import DocumentType, parse_signed_document

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.core.wire import JsonObject, KeyId
    from exchange.node.registry import Registry
    from exchange.ports import Clock

OPERATOR: Final = "operator"
PSEUDONYM_CHARS: Final = 32  # 128 bits of the key id: nobody makes a second key that begins alike
ACT_WINDOW: Final = timedelta(minutes=5)  # one machine, one clock: only a person's pause between signing and asking
MAX_ACT_BYTES: Final = 4_096
WRITERS: Final = frozenset({Role.OFFICER, Role.SUPERVISOR})
# Nothing here shows or sends a message; lists leave out what they would have to open.
OF_THE_OPERATOR: Final = frozenset({
    "status", "health", "wait", "inbox", "outbox", "due", "notice", "install", "cards", "card", "block", "agreements",
    "agreement", "officers", "clock",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts; ``officer`` is None for the operator, and for everybody at a node without officers."""

    name: str
    officer: Officer | None
    reads: bool  # whether they may see what messages say


def pseudonym(ident: KeyId) -> str:
    """What the log calls an officer."""
    return ident[:PSEUDONYM_CHARS]


def digest_args(args: JsonObject) -> str:
    """What an act says of the arguments of its operation."""
    return wire.sha256_hex(wire.encode_json(args))


def encode_act(
    *, network: str, node: str, officer: str, operation: str, args: JsonObject, time: datetime, nonce: str
) -> bytes:
    """The payload by which an officer shows their own node that it is they who ask."""
    return wire.encode_json(
        {
            "network": network,
            "node": node,
            "officer": officer,
            "operation": operation,
            "args": digest_args(args),
            "time": wire.encode_time(time),
            "nonce": nonce,
        }
    )


class Roles:
    """Lets actors in. Raises ``PeerError`` officers.*: nothing was done."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._seen: dict[str, datetime] = {}

    def admit(self, operation: str, args: JsonObject, signed: str | None, *, is_trial: bool = False) -> Actor:
        """Who asks for the operation; ``is_trial`` is for what opens, stores and sends nothing.

        ``signed`` is their signed document of type ``act``, in base64. Raises officers.required, officers.not_listed,
        officers.act, officers.role.
        """
        if signed is not None:
            officer = self._identify(operation, args, signed)
            may = not officer.roles.isdisjoint(WRITERS)
            if not may and operation not in OF_THE_OPERATOR:
                raise PeerError("officers.role", operation)
            return Actor(pseudonym(officer.key.id), officer, reads=may)
        has_officers = self._registry.has_officers(self._registry.me)
        if has_officers and not (is_trial or operation in OF_THE_OPERATOR):
            raise PeerError("officers.required", operation)
        return Actor(OPERATOR, None, reads=not has_officers)

    def _identify(self, operation: str, args: JsonObject, signed: str) -> Officer:
        registry, now = self._registry, self._clock.now()
        data = wire.parse_base64(signed, "act")
        document = parse_signed_document(data, DocumentType.ACT, max_bytes=MAX_ACT_BYTES)
        fields = document.fields("act")
        listed = registry.officers_of(registry.me)
        officer = None if listed is None else listed.find(fields.text("officer", max_chars=64, pattern=wire.HEX_256))
        if officer is None or not officer.is_valid(now):
            raise PeerError("officers.not_listed", registry.me)
        try:
            verify_single(document, officer.key)
        except PeerError:
            raise PeerError("officers.act", "signature") from None
        asked = {
            "network": registry.network,
            "node": registry.me,
            "operation": operation,
            "args": digest_args(args),
        }
        for name, value in asked.items():
            if fields.text(name) != value:
                raise PeerError("officers.act", name)
        time, nonce = fields.time("time"), fields.text("nonce", max_chars=32, pattern=wire.MESSAGE_ID)
        fields.done()
        if abs(now - time) > ACT_WINDOW:
            raise PeerError("officers.act", "time")
        self._seen = {seen: then for seen, then in self._seen.items() if now - then <= 2 * ACT_WINDOW}
        if nonce in self._seen:
            raise PeerError("officers.act", "nonce")
        self._seen[nonce] = now
        return officer
