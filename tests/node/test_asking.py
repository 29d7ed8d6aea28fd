"""Onward use among three real nodes: Thailand sends, Cambodia asks and passes on, Viet Nam receives."""

from __future__ import annotations

import json
from datetime import UTC, timedelta
from typing import Any, Final

import pytest

from exchange.core.audit import Event
from exchange.core.errors import LocalError, PeerError
from tests.node.pair import until
from tests.node.stopping import stop
from tests.node.trio import CONSENT, KH, LA, PLAIN, REASON, TH, VN, Trio, clauses
from tests.simulation.drafts import draft, evidence_file
from tests.simulation.loop import run_virtually
from tests.simulation.people import person

UNDECIDED: Final = ("onward.not_permitted", "the originator has not decided: exchange onward request", "cases")
REFUSED: Final = ("onward.not_permitted", "the originator refused", "cases")
OVER: Final = ("onward.not_permitted", "the originator's consent is over", "cases")


def test_message_is_passed_on_with_its_originators_consent_alone() -> None:
    """Before a decision and after a refusal it is not passed on; after a consent it is, and the originator is told."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident = await trio.case()
        assert await trio.refusal(ident) == UNDECIDED
        await trio.decide(await trio.ask(ident), grant=False)
        assert await trio.refusal(ident) == REFUSED
        assert trio.hosts[VN].connection.execute("SELECT count(*) FROM incoming").fetchone() == (0,)
        await trio.decide(await trio.ask(ident), grant=True)
        done = await trio.forward(ident)
        passed, original = await trio.shown(VN, str(done["id"])), await trio.shown(KH, ident)
        assert passed["content"] == original["content"]
        header = passed["header"]
        assert (header["purpose"], header["onward"], header["from"]) == ("prosecution", "never", person(KH).node)
        assert (header["origin"]["node"], header["origin"]["id"]) == (person(TH).node, ident)
        assert header["origin"]["root"] == original["root"] == (await trio.shown(TH, ident))["root"]
        assert header["retention"] == done["retention_days"] == original["header"]["retention"] - 1
        assert [header[name] for name in ("handling", "tlp")] == [
            original["header"][name] for name in ("handling", "tlp")
        ]
        assert trio.kinds(TH) == ["onward-request", "onward-request", "onward-notice"]
        assert trio.kinds(KH) == ["onward-decision", "onward-decision"]
        (entry,) = trio.leaves(KH, Event.FORWARDED)
        (came,) = trio.leaves(KH, Event.RECEIVED)[:1]
        assert (entry.subject, entry.commitment, entry.agreement) == (came.subject, came.commitment, "th-kh/1")
        assert (entry.actor, entry.peer, entry.clause) == ("officer", person(VN).node, "cases")
        codes = [(leaf.code, leaf.clause, leaf.peer) for leaf in trio.leaves(KH, Event.REFUSED)]
        assert codes == [("onward.not_permitted", "cases", person(VN).node)] * 2

    run_virtually(main)


def test_notice_says_what_went_where() -> None:
    """The originator reads to whom its message was passed on, for what, which parts, and by which decision."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident = await trio.case()
        await trio.decide(await trio.ask(ident), grant=True)
        done = await trio.forward(ident)
        notice = await trio.shown(TH, str(done["notice"]))
        said = notice["content"]
        assert (said["to"], said["purpose"], said["parts"]) == (
            person(VN).node,
            "prosecution",
            ["main", "identity", "narrative"],
        )
        assert notice["header"]["refers_to"] == [ident]
        (decision,) = trio.hosts[KH].connection.execute("SELECT id FROM incoming WHERE duty = 'onward-decision'")
        assert notice["in_reply_to"] == decision[0]

    run_virtually(main)


def test_consent_ends_with_its_day_and_can_be_taken_back() -> None:
    """On the day after its last a consent is over; a later decision of the originator counts instead of it."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident = await trio.case()
        today = trio.hosts[KH].now().astimezone(UTC).date()
        asked = await trio.ask(ident)
        await trio.decide(asked, grant=True, last=today - timedelta(days=1))
        assert await trio.refusal(ident) == OVER
        await trio.decide(asked, grant=True, last=today)
        await trio.forward(ident)
        trio.hosts[KH].skew = 86_400
        assert await trio.refusal(ident) == OVER
        trio.hosts[KH].skew = 0
        await trio.decide(asked, grant=True)
        await trio.forward(ident)
        await trio.decide(asked, grant=False)
        assert await trio.refusal(ident) == REFUSED

    run_virtually(main)


def test_consent_is_for_one_message_and_one_recipient() -> None:
    """A consent for Viet Nam serves neither Laos nor another message of the same case."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        first, second = await trio.case(), await trio.case()
        await trio.decide(await trio.ask(first), grant=True)
        assert await trio.refusal(second) == UNDECIDED
        assert await trio.refusal(first, LA) == UNDECIDED

    run_virtually(main)


def test_never_is_never() -> None:
    """Where the message says never, nobody asks in vain, and no consent is given that would not help."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident = await trio.case("never")
        why = "onward use: the message says never, the clause with_consent"
        assert await trio.refusal(ident) == ("onward.not_permitted", why, "cases")
        with pytest.raises(PeerError, match=r"onward\.not_permitted"):
            await trio.ask(ident)
        content = {"kind": "onward-request", "to": [person(VN).node], "purpose": "prosecution", "reason": REASON}
        asked = await trio.say(
            KH, TH, {**draft("suspect", 1), "kind": "onward-request", "refers_to": [ident], "content": content}
        )
        with pytest.raises(PeerError, match=r"onward\.not_permitted"):
            await trio.decide(asked, grant=True)
        await trio.decide(asked, grant=False)
        assert trio.kinds(KH) == ["onward-decision"]

    run_virtually(main)


def test_named_parties_receive_without_asking() -> None:
    """Where message and clause name parties, these receive it for its own purpose, and others do not."""

    async def main() -> None:
        trio = Trio(clauses("parties", person(VN).node), PLAIN, together=True)
        await trio.start()
        ident = await trio.case("parties")
        done: Any = await trio.forward(ident)
        assert (await trio.shown(VN, done["id"]))["purpose"] == "investigation"
        assert (await trio.shown(TH, done["notice"]))["in_reply_to"] is None
        why = f"onward use: only {person(VN).node}"
        assert await trio.refusal(ident, LA) == ("onward.not_permitted", why, "cases")
        careful = await trio.case("parties", handling=["H1", "H2"])
        assert await trio.refusal(careful) == UNDECIDED

    run_virtually(main)


def test_what_was_withheld_stays_withheld() -> None:
    """A part that this node was not given is passed on as its digest, and the originator's root still follows."""

    async def main() -> None:
        trio = Trio(clauses("with_consent", withhold=["identity"]), PLAIN)
        await trio.start()
        ident = await trio.case()
        await trio.decide(await trio.ask(ident), grant=True)
        done = await trio.forward(ident)
        passed = await trio.shown(VN, str(done["id"]))
        assert [item["part"] for item in passed["withheld"]] == ["identity"]
        assert passed["header"]["origin"]["withheld"] == ["identity"]
        assert passed["header"]["origin"]["root"] == (await trio.shown(TH, ident))["root"]
        assert "identity" not in json.dumps(passed["content"])

    run_virtually(main)


def test_new_clause_withholds_as_well() -> None:
    """What the new recipient's clause withholds is withheld from it, under that clause, and the origin still holds."""

    async def main() -> None:
        trio = Trio(CONSENT, clauses("never", withhold=["identity"]))
        await trio.start()
        ident = await trio.case()
        await trio.decide(await trio.ask(ident), grant=True)
        done: Any = await trio.forward(ident)
        assert done["recipients"][0]["withheld"] == ["identity"]
        passed = await trio.shown(VN, done["id"])
        assert [item["part"] for item in passed["withheld"]] == ["identity"]
        assert passed["header"]["origin"]["withheld"] == []

    run_virtually(main)


def test_what_was_passed_on_is_not_passed_on_again() -> None:
    """Viet Nam cannot pass on what Cambodia passed on to it: it asks the originator, whom the header names."""

    async def main() -> tuple[str, str, str | None]:
        trio = Trio(CONSENT, CONSENT)
        await trio.start()
        ident = await trio.case()
        await trio.decide(await trio.ask(ident), grant=True)
        done = await trio.forward(ident)
        return await trio.refusal(str(done["id"]), KH, by=VN)

    why = "it was forwarded to this node: ask its originator"
    assert run_virtually(main) == ("onward.not_permitted", why, "cases")


def test_agreement_with_the_new_recipient_must_permit_it() -> None:
    """A consent is no permit: without an agreement or a clause nothing leaves, and the originator hears nothing."""

    async def main() -> None:
        trio = Trio(CONSENT, json.dumps({"talk": {"kinds": ["information-request"]}}))
        await trio.start()
        ident = await trio.case()
        await trio.decide(await trio.ask(ident, VN, LA), grant=True)
        assert (await trio.refusal(ident))[0] == "agreement.no_clause"
        assert (await trio.refusal(ident, LA))[0] == "agreement.unknown"
        assert trio.kinds(TH) == ["onward-request"]
        assert [leaf.code for leaf in trio.leaves(KH, Event.REFUSED)] == ["agreement.no_clause", "agreement.unknown"]

    run_virtually(main)


def test_nothing_is_passed_on_where_the_originator_cannot_be_told() -> None:
    """While the originator's node is blocked here, its messages are not passed on."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident = await trio.case()
        await trio.decide(await trio.ask(ident), grant=True)
        await trio.node(KH).block(person(TH).node, blocked=True, actor="operator")
        assert (await trio.refusal(ident))[0] == "envelope.blocked"
        assert trio.hosts[VN].connection.execute("SELECT count(*) FROM incoming").fetchone() == (0,)

    run_virtually(main)


def test_what_needs_approvals_is_not_passed_on() -> None:
    """Where the clause of the new recipient asks for approvals nothing is passed on: consent could end meanwhile."""

    async def main() -> tuple[str, str, str | None]:
        plain = {"consent": False, "checks": [], "dual_criminality": False, "child_safeguards": False}
        approved = clauses("never", requires={**plain, "approvals": {"count": 1, "supervisors": 0}})
        trio = Trio(CONSENT, approved)
        await trio.start()
        ident = await trio.case()
        await trio.decide(await trio.ask(ident), grant=True)
        return await trio.refusal(ident)

    assert run_virtually(main)[0] == "envelope.approval"


def test_nothing_is_passed_on_while_its_agreement_is_suspended() -> None:
    """A consent does not outlive the agreement: once that is suspended, what came under it goes no further."""

    async def main() -> tuple[str, str, str | None]:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident = await trio.case()
        await trio.decide(await trio.ask(ident), grant=True)
        await stop(trio.hosts[KH], ident="th-kh")
        return await trio.refusal(ident)

    why = f"the agreement that it came under: suspended by {person(KH).node}"
    assert run_virtually(main) == ("onward.not_permitted", why, "cases")


def test_dry_run_passes_nothing_on() -> None:
    """A dry run says who would receive what, and writes nothing, refused or not."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident = await trio.case()
        with pytest.raises(PeerError, match=r"onward\.not_permitted"):
            await trio.forward(ident, dry_run=True)
        await trio.decide(await trio.ask(ident), grant=True)
        plan: Any = await trio.forward(ident, dry_run=True)
        assert plan["recipients"][0]["allowed"]
        assert trio.leaves(KH, Event.REFUSED, Event.FORWARDED) == []
        assert trio.kinds(TH) == ["onward-request"]
        assert trio.hosts[VN].connection.execute("SELECT count(*) FROM incoming").fetchone() == (0,)

    run_virtually(main)


def test_evidence_goes_on_once_it_is_whole() -> None:
    """Files are passed on with their message, as they came; before they are whole nothing is passed on."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        attachment, sealed = evidence_file(trio.stage.rng.randbytes, 1)
        h = str(attachment["blob"]["h"])  # type: ignore[index,call-overload] # an attachment has a blob
        trio.hosts[TH].blobs[h] = sealed
        ident = await trio.say(TH, KH, draft("evidence", 1, onward="with_consent"), [attachment])
        await trio.decide(await trio.ask(ident), grant=True)
        await until(lambda: h in trio.hosts[KH].blobs)
        del trio.hosts[KH].blobs[h]
        assert (await trio.refusal(ident))[0] == "blob.incomplete"
        trio.hosts[KH].blobs[h] = sealed
        done = await trio.forward(ident)
        await until(lambda: h in trio.hosts[VN].blobs)
        assert trio.hosts[VN].blobs[h] == sealed
        assert (await trio.shown(VN, str(done["id"])))["attachments"][0]["h"] == h

    run_virtually(main)


def test_decision_that_comes_meanwhile_is_read() -> None:
    """A consent that is taken back between the reading and the commit is not acted upon."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident = await trio.case()
        asked = await trio.ask(ident)
        await trio.decide(asked, grant=True)
        onward = trio.node(KH).onward
        read = type(onward)._consents  # noqa: SLF001 - the moment between reading and commit
        once: list[bool] = []

        async def slow(self: Any, found: Any) -> Any:  # noqa: ANN401 - as the method
            consents = await read(self, found)
            if not once:
                once.append(True)
                await trio.decide(asked, grant=False)
            return consents

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(onward), "_consents", slow)
            assert await trio.refusal(ident) == REFUSED

    run_virtually(main)


def test_unknown_message_is_told() -> None:
    """What was never received, was sent, or is a duty itself is not asked about, decided on or passed on."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident = await trio.case()
        asked = await trio.ask(ident)
        onward = trio.node(TH).onward
        for call in (
            onward.forward(ident, person(KH).node, "officer", dry_run=False),
            onward.forward(asked, person(KH).node, "officer", dry_run=False),
            onward.decide(ident, grant=False, until=None, texts={}, actor="chief"),
        ):
            with pytest.raises(LocalError, match=r"input\.unknown_id"):
                await call

    run_virtually(main)
