"""Whether an agreement permits a message: the same answer at both ends, with the reason.

Implements docs/protocol.md sections 8.3 and 8.4.

Rules:
1. Default refuses. A message passes only by a clause of an agreement in force for its pair, and names that clause.
2. ``decide`` is the same function at both ends, over the same values of the statement and of its envelope's
   ``created``; so sender and receiver cannot disagree about a permit.
3. Prohibitions win over every clause.
4. Policy returns a ``Decision`` and never raises.
5. A refusal names the clause that came nearest, and everything that would have to change for it, not only what
   failed first; to name less would send the officer round once for every condition.

What it does not do: know case content (a clause may narrow it by a JSON Schema of its own, which
core.schemas has checked), verify approvals, or count: what was approved and the quota used are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.core import wire
from exchange.core.agreements import ONWARD, TLP_ORDER, covers
from exchange.core.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from exchange.core.agreements import Agreement, Clause, Prohibition
    from exchange.core.duties import Duty
    from exchange.core.wire import AgreementId, JsonValue, NodeId


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is about to move, as far as rules look at it.

    ``child`` says that a person of the content is a child or may be one; ``approvals`` counts the officers whose
    approvals were verified, ``supervisors`` those among them who are supervisors.
    """

    sender: NodeId
    recipient: NodeId
    kind: str
    purpose: str
    handling: frozenset[str]
    tlp: str
    urgency: str
    onward: str
    retention_days: int
    created: datetime
    content: JsonValue
    withheld: tuple[tuple[str, str], ...] = ()
    present: tuple[str, ...] = ()
    blob_count: int = 0
    blob_bytes: int = 0
    consent: bool = False
    checks: frozenset[str] = frozenset()
    dual_criminality: bool = False
    child_safeguards: bool = False
    child: bool = False
    approvals: int = 0
    supervisors: int = 0
    duty: Duty | None = None  # what it passes under where it is a duty message (protocol 8.6)


class Need(NamedTuple):
    """One thing that would have to change: the code of the condition, and what it allows."""

    code: str
    what: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, by which clause, and for a no the code and what would have to change.

    ``text`` is the wording of the rule named, by language. ``reach`` is how far a refused exchange came in the order
    of protocol 8.4, so that the nearest of several refusals can be told; ``needs`` is all that its clause lacks, the
    first of them being ``code`` and ``reason``.
    """

    allowed: bool
    agreement: AgreementId | None
    version: int | None
    clause: str | None
    code: str | None = None
    reason: str = ""
    reach: int = -4
    needs: tuple[Need, ...] = ()
    text: Mapping[str, str] = field(default_factory=dict)

    def refuse(self) -> PeerError:
        """The refusal as an error."""
        return PeerError(self.code or "agreement.no_clause", self.reason, self.clause)


# What both ends decide by the same function over the same values: whoever is refused for one of these by the other end
# holds another copy of the rules than it, or runs another program.
DISAGREEMENTS: Final = frozenset(
    {
        "agreement.no_clause",
        "agreement.purpose",
        "agreement.handling",
        "agreement.tlp",
        "agreement.urgency",
        "agreement.onward",
        "agreement.retention",
        "agreement.blobs",
        "agreement.consent",
        "agreement.checks",
        "agreement.dual_criminality",
        "agreement.child_safeguards",
        "agreement.withheld",
        "agreement.content",
        "agreement.quota",
        "agreement.prohibited",
        "envelope.approval",
    }
)
_PROHIBITED: Final = 17  # beyond every condition of a clause: nothing that the officer changes there would help


def _obstacles(clause: Clause, exchange: Exchange, used_today: int) -> Iterator[tuple[int, str, str]]:  # noqa: C901, PLR0912 - one line a condition, in the order of protocol 8.3
    """Every condition that fails, in order: (its number, code, what would have to change)."""
    if exchange.sender not in clause.sender or exchange.recipient not in clause.recipients:
        yield 1, "agreement.no_clause", "the direction is not in this clause"
    if not covers(clause.purposes, exchange.purpose):
        yield 2, "agreement.purpose", "permitted: " + ", ".join(clause.purposes)
    if not exchange.handling <= clause.handling:
        yield 3, "agreement.handling", "permitted: " + ", ".join(sorted(clause.handling))
    if TLP_ORDER.index(exchange.tlp) > TLP_ORDER.index(clause.tlp):
        yield 4, "agreement.tlp", "at most " + clause.tlp
    if exchange.urgency not in clause.urgency:
        yield 5, "agreement.urgency", "permitted: " + ", ".join(sorted(clause.urgency))
    if ONWARD.index(exchange.onward) > ONWARD.index(clause.onward.use):
        yield 6, "agreement.onward", "at most " + clause.onward.use
    if exchange.retention_days > clause.retention_days:
        yield 7, "agreement.retention", f"at most {clause.retention_days} days"
    if exchange.blob_count > clause.max_blobs or exchange.blob_bytes > clause.max_blob_bytes:
        yield 8, "agreement.blobs", f"at most {clause.max_blobs} files, {clause.max_blob_bytes} bytes"
    if clause.consent and not exchange.consent:
        yield 9, "agreement.consent", "a consent or a named lawful exception is required of every victim"
    if missing := [check for check in clause.checks if check not in exchange.checks]:
        yield 10, "agreement.checks", "not yet assured: " + ", ".join(missing)
    if clause.dual_criminality and not exchange.dual_criminality:
        yield 11, "agreement.dual_criminality", "the header's assurances must state it"
    if clause.child_safeguards and exchange.child and not exchange.child_safeguards:
        yield 12, "agreement.child_safeguards", "the header's assurances must state them, as a person may be a child"
    if any(part not in clause.withhold or named != clause.id for part, named in exchange.withheld) or any(
        part in clause.withhold for part in exchange.present
    ):
        yield 13, "agreement.withheld", "withheld by this clause: " + (", ".join(clause.withhold) or "nothing")
    if exchange.approvals < clause.approvals.count or exchange.supervisors < clause.approvals.supervisors:
        asked, there = clause.approvals, (exchange.approvals, exchange.supervisors)
        yield (
            14,
            "envelope.approval",
            f"{asked.count} approvals, {asked.supervisors} by supervisors; there: {there[0]}, {there[1]}",
        )
    if clause.content is not None and (place := clause.content.first_problem(exchange.content)) is not None:
        yield 15, "agreement.content", place
    if clause.quota_per_day is not None and used_today >= clause.quota_per_day:
        yield 16, "agreement.quota", f"at most {clause.quota_per_day} a day"


def _matches(rule: Prohibition, exchange: Exchange) -> bool:
    """Whether everything that the prohibition says of kinds, purposes and content holds."""
    if not covers(rule.kinds, exchange.kind) or not covers(rule.purposes, exchange.purpose):
        return False
    return rule.content is None or rule.content.first_problem(exchange.content) is None


def _decide_duty(agreement: Agreement, exchange: Exchange, duty: Duty, only_clause: str | None) -> Decision:
    """A duty message needs no permit and heeds no prohibition: it passes under what its subject passed under."""
    rule = agreement.clause(duty.clause)
    if agreement.digest != duty.agreement or rule is None or only_clause not in {None, duty.clause}:
        return _no(agreement, -1, Need("duty.binding", "the agreement and clause of the message it is about"))
    if exchange.withheld or exchange.blob_count:
        return _no(agreement, 0, Need("duty.form", "nothing withheld, no evidence"), rule=rule)
    return Decision(True, agreement.id, agreement.version, rule.id, text=rule.text)  # noqa: FBT003


def decide(
    agreement: Agreement, exchange: Exchange, used_today: Mapping[str, int], only_clause: str | None = None
) -> Decision:
    """Whether ``agreement`` permits ``exchange``; ``used_today`` counts by clause on the UTC day of ``created``.

    A sender leaves ``only_clause`` out and learns the clause to rely on; a receiver passes the clause that the
    statement relies on, so that both judged the same rule.
    """
    return decide_each(agreement, exchange, lambda _: exchange, used_today, only_clause)


def decide_each(
    agreement: Agreement,
    exchange: Exchange,
    variant: Callable[[Clause], Exchange],
    used_today: Mapping[str, int],
    only_clause: str | None = None,
) -> Decision:
    """As ``decide``, where each clause is judged over what its recipient would get, as one withholds more than another.

    ``variant`` may differ from ``exchange`` in what is withheld and what follows from that, in nothing else.
    """
    if not agreement.names(exchange.sender, exchange.recipient):
        return _no(agreement, -3, Need("agreement.not_party", ""))
    if exchange.duty is not None:
        return _decide_duty(agreement, exchange, exchange.duty, only_clause)
    if not agreement.is_in_force(exchange.created):
        since, until = wire.encode_time(agreement.valid_from), wire.encode_time(agreement.valid_until)
        return _no(agreement, -2, Need("agreement.not_in_force", f"in force from {since} until {until}"))
    return _decide_by_rules(agreement, exchange, variant, used_today, only_clause)


def _decide_by_rules(
    agreement: Agreement,
    exchange: Exchange,
    variant: Callable[[Clause], Exchange],
    used_today: Mapping[str, int],
    only_clause: str | None,
) -> Decision:
    """Prohibitions and clauses of an agreement in force for the pair."""
    forbidden: dict[int, bool] = {}  # by content: clauses that withhold the same share it, and it is looked at once
    nearest, reach, seen = None, (0, 0), exchange
    for clause in agreement.clauses_for(exchange.kind):
        if only_clause is not None and clause.id != only_clause:
            continue
        given = variant(clause)
        if id(given.content) not in forbidden:
            forbidden[id(given.content)] = any(_matches(rule, given) for rule in agreement.prohibitions)
        obstacle = next(_obstacles(clause, given, used_today.get(clause.id, 0)), None)
        if obstacle is None and not forbidden[id(given.content)]:
            return Decision(True, agreement.id, agreement.version, clause.id, text=clause.text)  # noqa: FBT003
        far = _PROHIBITED if obstacle is None else obstacle[0]
        came = (_PROHIBITED if forbidden[id(given.content)] else far, far)
        if came > reach:
            reach, nearest, seen = came, clause, given
    return _explain(agreement, seen, nearest, reach[0], used_today, only_clause)


def _explain(
    agreement: Agreement,
    exchange: Exchange,
    nearest: Clause | None,
    reach: int,
    used_today: Mapping[str, int],
    only_clause: str | None,
) -> Decision:
    """The refusal of an exchange that no clause permits: all that would have to change for the nearest one."""
    broken = [rule for rule in agreement.prohibitions if _matches(rule, exchange)]
    needs = [Need("agreement.prohibited", f"the prohibition {rule.id} matches") for rule in broken]
    if nearest is not None:
        used = used_today.get(nearest.id, 0)
        needs += [Need(code, what) for _, code, what in _obstacles(nearest, exchange, used)]
    if broken:
        return _no(agreement, _PROHIBITED, *needs, rule=broken[0])
    if nearest is not None:
        return _no(agreement, reach, *needs, rule=nearest)
    relied_on = agreement.clause(only_clause)
    if only_clause is not None and relied_on is None:
        return _no(agreement, -1, Need("agreement.no_clause", "no such clause"), named=only_clause)
    # A clause for other kinds has nothing to say about this one: it is not named, save where it was relied on.
    return _no(agreement, 0, Need("agreement.no_clause", "no clause is for this kind"), rule=relied_on)


def _no(
    agreement: Agreement,
    reach: int,
    *needs: Need,
    rule: Clause | Prohibition | None = None,
    named: str | None = None,
) -> Decision:
    """A refusal by the first need, with all of them."""
    clause, text = (named, {}) if rule is None else (rule.id, rule.text)
    code, reason = needs[0]
    return Decision(False, agreement.id, agreement.version, clause, code, reason, reach, needs, text)  # noqa: FBT003
