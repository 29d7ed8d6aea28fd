"""The scenes of the demo: who sends what to whom, what must be permitted, what must be refused.

Rules:
1. Nothing is asserted by the one who did it: receipts are verified under the recipient's card, evidence is compared
   byte for byte (``demo_records``).
2. The first country refers a case to the second; what the others do is in ``demo_route``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, cast

from exchange.cli import demo_story as story
from exchange.cli.demo_people import COUNTRIES, EVIDENCE_NAME
from exchange.cli.demo_records import look_up
from exchange.core.errors import CODES, PeerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from exchange.cli.demo_nodes import TrainingNode
    from exchange.cli.demo_records import Log
    from exchange.core.wire import JsonObject

ANSWER_SECONDS: Final = 30
EVIDENCE_TRIES: Final = 400  # times a twentieth of a second


# -- what came of it -------------------------------------------------------------------------------


@dataclass(slots=True)
class Message:
    """One message of the story, as its sender's node says and its recipient's receipt proves."""

    id: str
    kind: str
    sender: str
    to: str
    agreement: str
    clause: str
    status: str = "queued"
    receipt: bool = False

    def to_json(self) -> JsonObject:
        """As ``--json`` gives it."""
        return {
            "id": self.id,
            "type": self.kind,
            "from": self.sender,
            "to": self.to,
            "status": self.status,
            "receipt_verified": self.receipt,
            "agreement": self.agreement,
            "clause": self.clause,
        }


def left(kind: str, sender: str, to: str, result: JsonObject) -> Message:
    """The message of a result that a node gave when it let one out."""
    (recipient,) = cast("list[dict[str, str]]", result["recipients"])
    return Message(str(result["id"]), kind, sender, to, recipient["agreement"], recipient["clause"])


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that did not leave its node."""

    kind: str
    sender: str
    to: str
    code: str
    clause: str | None
    reason: str

    def to_json(self) -> JsonObject:
        """As ``--json`` gives it."""
        return {
            "type": self.kind,
            "from": self.sender,
            "to": self.to,
            "code": self.code,
            "clause": self.clause,
            "reason": self.reason,
        }


@dataclass(slots=True)
class Outcome:
    """Everything that happened; ``problems`` is empty where the whole story held."""

    homes: dict[str, Path] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    logs: dict[str, Log] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def hold(self, holds: object, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.problems.append(what)

    def to_json(self) -> JsonObject:
        """The one document of ``--json``."""
        nodes: JsonObject = {}
        for country, home in self.homes.items():
            log = self.logs.get(country)
            nodes[country] = {
                "home": str(home),
                "messages_sent": sum(message.sender == country for message in self.messages),
                "messages_received": sum(message.to == country for message in self.messages),
                "audit": {
                    "size": log.report.entries if log else 0,
                    "root": log.root if log else "",
                    "verified": bool(log and log.ok),
                },
            }
        return {
            "ok": not self.problems,
            "nodes": nodes,
            "messages": [message.to_json() for message in self.messages],
            "refused": [refusal.to_json() for refusal in self.refusals],
            "seconds": round(self.seconds, 1),
        }


# -- the story -------------------------------------------------------------------------------------


class Step(Protocol):
    """Tells one step of the story, and what there is to know of it."""

    def __call__(self, title: str, *details: str) -> None:
        """Tell it."""


@dataclass(slots=True)
class Story:
    """The scenes, in order; each asks the running nodes and notes what does not hold."""

    nodes: dict[str, TrainingNode]
    say: Step
    outcome: Outcome

    def name(self, country: str) -> str:
        """A country's name in English."""
        return COUNTRIES[country].name

    async def send(self, sender: str, to: str, draft: JsonObject, files: Sequence[JsonObject] = ()) -> Message | None:
        """Send and wait for the recipient's answer; None where the node refused to let it out."""
        args: JsonObject = {"draft": draft, "to": [to]}
        if files:
            args["attachments"] = list(files)
        kind = str(draft["kind"])
        try:
            result = await self.nodes[sender].call("send", args)
        except PeerError as error:
            self.outcome.refusals.append(Refusal(kind, sender, to, error.code, error.clause, error.what))
            return None
        recipient = result["recipients"][0]
        if result.get("refused"):
            why = recipient["reason"]
            self.outcome.refusals.append(Refusal(kind, sender, to, recipient["code"], recipient["clause"], why))
            return None
        return await self.delivered(left(kind, sender, to, result))

    async def delivered(self, message: Message) -> Message:
        """A message that left: wait for its recipient's answer, and verify the receipt."""
        self.outcome.messages.append(message)
        statuses = await self.nodes[message.sender].call("wait", {"id": message.id, "seconds": ANSWER_SECONDS})
        message.status = str(next(iter(statuses.values())))
        message.receipt = look_up(self.nodes[message.sender], self.nodes[message.to], message.id).receipt
        what = f"the {message.kind} from {message.sender} to {message.to}"
        self.outcome.hold(message.receipt, f"the receipt for {what} does not verify")
        return message

    def permitted(self, message: Message | None) -> str:
        """By what it was permitted, and what its receipt says."""
        if message is None:
            self.outcome.problems.append("a message that an agreement permits was refused")
            return f"Refused, against expectation: {self.outcome.refusals[-1].code}."
        receipt = "receipt signed and verified" if message.receipt else "NO VALID RECEIPT"
        return f"Permitted by {message.agreement}, clause {message.clause}; {message.status}, {receipt}."

    async def refer(self, sender: str, to: str) -> Message | None:
        """The referral with its evidence, opened at the other side and compared."""
        victim, suspect = COUNTRIES[to].victim, COUNTRIES[sender].suspect
        data = story.evidence_file(sender, to)
        staged = await self.nodes[sender].stage(data)
        draft = story.case_referral(sender, to, story.case_of(sender, 1))
        message = await self.send(sender, to, draft, [story.attachment(sender, staged)])
        self.say(
            f"{self.name(sender)} refers a trafficking case to {self.name(to)}.",
            f"Suspect {suspect.shown()}; victim {victim.shown()}, who consented;",
            f"evidence: {EVIDENCE_NAME}, {len(data):,} bytes.",
            self.permitted(message),
        )
        if message is not None:
            await self.open(message, data)
        return message

    async def open(self, message: Message, data: bytes) -> None:
        """The recipient reads the case and takes the evidence out."""
        node = self.nodes[message.to]
        listed = [item for item in await node.call("inbox", {"limit": 100}) if item["id"] == message.id]
        shown = await node.call("show", {"id": message.id})
        taken = await self.evidence(node, message.id)
        sent = story.case_referral(message.sender, message.to, story.case_of(message.sender, 1))
        self.outcome.hold(listed, "the referral is not in the recipient's inbox")
        self.outcome.hold(shown["content"] == sent["content"], "the referral arrived changed")
        self.outcome.hold(taken == data, "the evidence arrived changed")
        same = "the same, byte for byte" if taken == data else "NOT THE SAME"
        self.say(
            f"{self.name(message.to)} opens the case and takes the evidence out.",
            f"{len(taken):,} bytes: {same}. Both are entries of its audit log.",
        )

    async def evidence(self, node: TrainingNode, message: str) -> bytes:
        """The first attachment, as soon as it has arrived whole."""
        for _ in range(EVIDENCE_TRIES):
            try:
                return await node.evidence(message, 1)
            except PeerError as error:
                if error.code != "blob.incomplete":
                    raise
            await asyncio.sleep(0.05)  # it comes from another process, which tells nobody here
        raise PeerError("blob.incomplete", node.id)

    async def answer(self, referral: Message) -> None:
        """Acknowledgement, a question back, and its answer."""
        sender, to = referral.sender, referral.to
        case, own_case = story.case_of(sender, 1), story.case_of(to, 107)
        draft = story.acknowledgement(to, case, own_case, referral.id)
        message = await self.send(to, sender, draft)
        self.say(
            f"{self.name(to)} acknowledges, in its own language: {COUNTRIES[to].received}",
            f"It keeps the case as {own_case}.",
            self.permitted(message),
        )
        question = story.information_request(case, "Invented: the number is in the advertisement.", referral.id)
        asked = await self.send(to, sender, question)
        self.say(
            f"{self.name(to)} asks {self.name(sender)}: whose number is in the advertisement?", self.permitted(asked)
        )
        if asked is not None:
            await self.nodes[sender].call("show", {"id": asked.id})
            message = await self.send(sender, to, story.information_response(sender, case, asked.id))
            self.say(f"{self.name(sender)} answers: {COUNTRIES[sender].suspect.shown()}.", self.permitted(message))

    async def refused(self, sender: str, to: str, draft: JsonObject, code: str, title: str) -> None:
        """A message that must not leave, refused with ``code``."""
        message = await self.send(sender, to, draft)
        if message is not None:
            self.outcome.problems.append(f"a message from {sender} to {to} left against the rules")
            self.say(title, "IT LEFT, against the rules.")
            return
        refusal = self.outcome.refusals[-1]
        self.outcome.hold(
            refusal.code == code,
            f"a message from {sender} to {to} was refused by {refusal.code}, clause {refusal.clause}",
        )
        why = f"clause {refusal.clause}: {refusal.reason}" if refusal.clause else CODES[refusal.code].what
        self.say(title, f"Refused before anything left: {refusal.code}, {why}.")
