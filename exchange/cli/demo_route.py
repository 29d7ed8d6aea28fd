"""What else moves along the route in the demo: each scene shows one thing that an agreement does.

Rule: a scene is played where the countries that its agreement binds play; the first two countries, who exchange the
case, have another agreement, so no scene here counts on theirs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

from exchange.cli import demo_story as story
from exchange.cli.demo_people import COUNTRIES
from exchange.cli.demo_scenes import Message, left
from exchange.core.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exchange.cli.demo_scenes import Story
    from exchange.core.wire import JsonObject

TRIES: Final = 400  # times a twentieth of a second


@dataclass(frozen=True, slots=True)
class Route:
    """The scenes beside the case; ``agreed`` are the groups of countries with an agreement."""

    told: Story
    agreed: Mapping[tuple[str, ...], str]
    first: tuple[str, ...]

    async def play(self, countries: Sequence[str]) -> None:
        """Every scene whose countries play, in order."""
        await self._redact("TH", "LA")
        await self._bring_home("LA", "VN")
        await self._ask("TH", "MM")
        await self._suspect("CN", "VN")
        await self._pass_on("TH", "VN", "LA")
        await self._refuse(countries)
        await self._suspend("VN", "CN")

    def _have_own(self, *group: str) -> bool:
        """Whether these countries have an agreement of their own here, other than that of the case."""
        return any(set(held) == set(group) and held != self.first for held in self.agreed)

    def _are_bound(self, one: str, other: str) -> bool:
        return any({one, other} <= set(held) for held in self.agreed)

    async def _redact(self, sender: str, to: str) -> None:
        """A case whose names the clause withholds: the recipient sees facts, and the same root."""
        if not self._have_own(sender, to):
            return
        tell = self.told
        message = await tell.send(sender, to, story.suspect_notice(sender, story.case_of(sender, 12)))
        details = [tell.permitted(message)]
        if message is not None:
            shown = await tell.nodes[to].call("show", {"id": message.id})
            whole = await tell.nodes[sender].call("show", {"id": message.id})
            withheld = [item["part"] for item in shown["withheld"]]
            hidden = not any("identity" in entity for entity in shown["content"]["entities"])
            tell.outcome.hold(hidden and withheld, f"what {sender} sent to {to} was not redacted")
            tell.outcome.hold(shown["root"] == whole["root"], "the redacted variant has another root")
            details += [
                f"Withheld by clause {message.clause}: {', '.join(withheld)}. {tell.name(to)} sees the facts, marked",
                f"as redacted, under the root {shown['root'][:16]}... of the original: it can be opened to a court.",
            ]
        tell.say(f"{tell.name(sender)} tells {tell.name(to)} of a suspect, without saying who it is.", *details)

    async def _bring_home(self, sender: str, to: str) -> None:
        if not self._are_bound(sender, to):
            return
        tell = self.told
        notice = story.victim_notice(to, story.case_of(sender, 4), "repatriation")
        message = await tell.send(sender, to, notice)
        own = self._have_own(sender, to) or {sender, to} == set(self.first)
        tell.say(
            f"{tell.name(sender)} tells {tell.name(to)} of a victim who wishes to go home.",
            *([] if own else ["These two have no agreement of their own: the one of three countries covers them."]),
            tell.permitted(message),
        )
        if message is not None:
            await self._recall(message)

    async def _recall(self, message: Message) -> None:
        """The victim withdraws the consent: the copy at the other side is erased, with a signed receipt."""
        tell, sender, to = self.told, message.sender, message.to
        await tell.nodes[to].call("show", {"id": message.id})
        result = await tell.nodes[sender].call("recall", {"id": message.id, "reason": "consent_withdrawn"})
        ident = result["recipients"][0]["recall"]
        asked = await tell.delivered(Message(ident, "recall", sender, to, message.agreement, message.clause))
        receipted = await self._comes(sender, "outbox", {"limit": 100}, id=message.id, status="recalled")
        shown = await tell.nodes[to].call("show", {"id": message.id})
        gone = shown["status"] == "recalled" and "content" not in shown
        tell.outcome.hold(receipted, f"no receipt of deletion came from {to}")
        tell.outcome.hold(gone, f"what was recalled can still be read at {to}")
        tell.say(
            f"The victim withdraws the consent; {tell.name(sender)} recalls the notice.",
            f"The node of {tell.name(to)} erases its copy, shows it as recalled and sends a signed receipt.",
            tell.permitted(asked),
        )

    async def _ask(self, sender: str, to: str) -> None:
        if not self._have_own(sender, to):
            return
        question = story.information_request(story.case_of(sender, 1), "Invented: the same number again.")
        message = await self.told.send(sender, to, question)
        self.told.say(
            f"{self.told.name(sender)} asks {self.told.name(to)} about the number.", self.told.permitted(message)
        )

    async def _suspect(self, sender: str, to: str) -> None:
        if not self._have_own(sender, to):
            return
        tell = self.told
        case = story.case_of(sender, 9)
        message = await tell.send(sender, to, story.suspect_notice(sender, case))
        tell.say(
            f"{tell.name(sender)} tells {tell.name(to)} of a suspect: {COUNTRIES[sender].suspect.shown()}.",
            tell.permitted(message),
        )
        if message is not None:
            draft = story.acknowledgement(to, case, story.case_of(to, 33), message.id)
            answered = await tell.send(to, sender, draft)
            tell.say(f"{tell.name(to)} acknowledges.", tell.permitted(answered))

    async def _pass_on(self, originator: str, holder: str, third: str) -> None:
        """The third-party rule: asked and refused, asked and granted, and only then passed on."""
        if not (self._have_own(originator, holder) and self._are_bound(holder, third)):
            return
        tell, holding = self.told, self.told.nodes[holder]
        draft = {**story.suspect_notice(originator, story.case_of(originator, 14)), "onward": "with_consent"}
        message = await tell.send(originator, holder, draft)
        tell.say(
            f"{tell.name(originator)} tells {tell.name(holder)} of a suspect; it may go further with its consent only.",
            tell.permitted(message),
        )
        if message is None:
            return
        await holding.call("show", {"id": message.id})
        refused = await self._decide(message, third, "prosecution", {"grant": False})
        code = await self._forward(holder, message.id, third)
        tell.outcome.hold(code == "onward.not_permitted", f"passing on without consent ended as {code}")
        tell.say(
            f"{tell.name(holder)} asks to pass it on to {tell.name(third)} for a prosecution.",
            f"{tell.name(originator)} refuses; the node of {tell.name(holder)} does not forward it: {code}.",
            tell.permitted(refused),
        )
        granted = await self._decide(message, third, "investigation", {"grant": True})
        passed = await self._forward(holder, message.id, third)
        tell.outcome.hold(isinstance(passed, Message), f"passing on with consent ended as {passed}")
        if not isinstance(passed, Message):
            return
        shown = await tell.nodes[third].call("show", {"id": passed.id})
        origin = shown["header"]["origin"]["node"]
        tell.outcome.hold(origin == tell.nodes[originator].id, "what was passed on does not name its originator")
        tell.say(
            f"{tell.name(holder)} asks again, to investigate; {tell.name(originator)} grants it, for thirty days.",
            f"{tell.name(third)} has the original's parts, marked as from {origin}; {tell.name(originator)} is told.",
            tell.permitted(granted),
            tell.permitted(passed),
        )

    async def _decide(self, message: Message, third: str, purpose: str, decision: JsonObject) -> Message:
        """Ask the originator of a message whether it may go to a third country, and send the originator's decision."""
        tell, originator, holder = self.told, message.sender, message.to
        reason = "Invented: the office moved there."
        ask: JsonObject = {"id": message.id, "to": [third], "purpose": purpose, "reason": reason, "language": "en"}
        asked = await tell.nodes[holder].call("onward_request", ask)
        request = await tell.delivered(left("onward-request", holder, originator, asked))
        decided = await tell.nodes[originator].call("onward_decide", {"id": request.id, **decision})
        return await tell.delivered(left("onward-decision", originator, holder, decided))

    async def _forward(self, holder: str, ident: str, third: str) -> Message | str:
        """Pass a message on; the code where the node refuses to."""
        try:
            result = await self.told.nodes[holder].call("forward", {"id": ident, "to": third})
        except PeerError as error:
            return error.code
        return await self.told.delivered(left("suspect", holder, third, result))

    async def _refuse(self, countries: Sequence[str]) -> None:
        """What an agreement does not permit, and what no agreement covers, does not leave the node."""
        tell = self.told
        one, other = ("TH", "MM") if self._have_own("TH", "MM") else self.first
        await tell.refused(
            one,
            other,
            story.victim_notice(one, story.case_of(one, 2), "prosecution"),
            "agreement.purpose",
            f"{tell.name(one)} wants to name a victim to {tell.name(other)} for a prosecution.",
        )
        strangers = [pair for pair in combinations(countries, 2) if not self._are_bound(*pair)]
        if strangers:
            one, other = strangers[0]
            question = story.information_request(story.case_of(one, 3), "Invented: a fourth number.")
            title = f"{tell.name(one)} wants to ask {tell.name(other)}; these two have no agreement."
            await tell.refused(one, other, question, "agreement.unknown", title)

    async def _suspend(self, one: str, other: str) -> None:
        """One party stops an agreement at once; the other's node knows it before its next message."""
        if not self._have_own(one, other):
            return
        tell = self.told
        ident = next(ident for group, ident in self.agreed.items() if set(group) == {one, other})
        reason: JsonObject = {"en": "Invented: a list of names was found in the wrong hands."}
        args: JsonObject = {"agreement": ident, "action": "suspend", "reason": reason}
        await tell.nodes[one].call("notice", {**args, "others_continue": True, "sign": True})
        tell.say(
            f"{tell.name(one)} suspends {ident}, alone and at once; its node signs and sends the notice.",
            f"Reason: {reason['en']}",
        )
        heard = await self._comes(other, "agreements", {}, id=ident, state="suspended")
        tell.outcome.hold(heard, f"{other} did not hear that {ident} is suspended")
        await tell.refused(
            other,
            one,
            story.suspect_notice(other, story.case_of(other, 10)),
            "agreement.suspended",
            f"{tell.name(other)} wants to send another suspect under it.",
        )

    async def _comes(self, country: str, op: str, args: JsonObject, **wanted: str) -> bool:
        """Whether a node comes to list something like this."""
        for _ in range(TRIES):
            listed = await self.told.nodes[country].call(op, args)
            if any(all(item[name] == value for name, value in wanted.items()) for item in listed):
                return True
            await asyncio.sleep(0.05)  # it comes from another process, which tells nobody here
        return False
