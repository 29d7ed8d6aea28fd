"""What differs between two versions of an agreement, and whether more or less may pass by it.

Implements docs/protocol.md section 8.3, read as an order: which value of a condition lets more through.

Rules:
1. A difference is wider where something may pass that could not before, narrower where something may not pass any
   more, and changed where it is neither or where nobody can tell by looking.
2. Clauses and prohibitions are compared by their ids; a new clause is wider, a new prohibition narrower.
3. What is gained and what is lost in one list are two differences: neither hides the other.

What it does not do: decide what two clauses together permit; each member is compared with its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from exchange.core.agreements import ANY, ONWARD, TLP_ORDER, URGENCY
from exchange.core.wire import encode_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from exchange.core.agreements import Agreement, Clause, Prohibition
    from exchange.core.narrowing import Narrowing


class Effect(StrEnum):
    """What a difference does to what may pass."""

    WIDER = "wider"
    NARROWER = "narrower"
    CHANGED = "changed"


_OPPOSITE: Final = {Effect.WIDER: Effect.NARROWER, Effect.NARROWER: Effect.WIDER}


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: in which clause or part, in what, and how it read before and reads after; empty where absent."""

    place: str
    what: str
    effect: Effect
    before: str = ""
    after: str = ""


class Rule(Protocol):
    """A clause or a prohibition."""

    @property
    def id(self) -> str:
        """Its name in the agreement."""

    @property
    def text(self) -> Mapping[str, str]:
        """Its wording by language."""


def compare(before: Agreement, after: Agreement) -> tuple[Difference, ...]:
    """Every difference, the agreement's own first, then clause by clause in the order of the later version."""
    return (
        *_whole(before, after),
        *_rules(before.clauses, after.clauses, "clause", Effect.WIDER, _clause),
        *_rules(before.prohibitions, after.prohibitions, "prohibition", Effect.NARROWER, _prohibition),
    )


# -- the agreement ---------------------------------------------------------------------------------


def _whole(before: Agreement, after: Agreement) -> Iterator[Difference]:
    place = "agreement"
    yield from _changed(place, "title", _texts(before.title), _texts(after.title))
    yield from _changed(place, "legal basis", _bases(before), _bases(after))
    # Beginning earlier and ending later both let more through.
    begin = (before.valid_from, after.valid_from)
    yield from _ranked(place, "valid from", encode_time, begin, more=after.valid_from < before.valid_from)
    end = (before.valid_until, after.valid_until)
    yield from _ranked(place, "valid until", encode_time, end, more=after.valid_until > before.valid_until)
    old, new = ({party.node: party.authority for party in item.parties} for item in (before, after))
    yield from _listed(place, "parties", old, new)
    for node in sorted(old.keys() & new.keys()):
        yield from _changed(place, f"authority of {node}", old[node], new[node])


def _bases(agreement: Agreement) -> str:
    return "; ".join(f"{_texts(basis.title)}, {basis.article}, {basis.date}" for basis in agreement.legal_basis)


def _rules(
    before: Sequence[Rule],
    after: Sequence[Rule],
    kind: str,
    effect: Effect,
    compare_two: Callable[..., Iterator[Difference]],
) -> Iterator[Difference]:
    """Rules by their ids; ``effect`` is that of a new one."""
    old, opposite = {rule.id: rule for rule in before}, _OPPOSITE[effect]
    for rule in after:
        if rule.id in old:
            yield from compare_two(f"{kind} {rule.id}", old.pop(rule.id), rule)
        else:
            yield Difference(f"{kind} {rule.id}", kind, effect, "", _texts(rule.text))
    for gone in old.values():
        yield Difference(f"{kind} {gone.id}", kind, opposite, _texts(gone.text), "")


# -- a clause --------------------------------------------------------------------------------------


def _clause(place: str, old: Clause, new: Clause) -> Iterator[Difference]:
    yield from _changed(place, "text", _texts(old.text), _texts(new.text))
    for what, left, right in (
        ("kinds", old.kinds, new.kinds),
        ("from", old.sender, new.sender),
        ("to", old.recipients, new.recipients),
        ("purposes", old.purposes, new.purposes),
        ("handling", sorted(old.handling), sorted(new.handling)),
        ("urgency", _sorted(URGENCY, old.urgency), _sorted(URGENCY, new.urgency)),
        ("onward parties", old.onward.parties, new.onward.parties),
    ):
        yield from _listed(place, what, left, right)
    yield from _allowed(place, "TLP", old.tlp, new.tlp, TLP_ORDER)
    yield from _allowed(place, "onward use", old.onward.use, new.onward.use, ONWARD)
    for what, most, most_now in (
        ("retention days", old.retention_days, new.retention_days),
        ("files", old.max_blobs, new.max_blobs),
        ("bytes of files", old.max_blob_bytes, new.max_blob_bytes),
        ("quota a day", old.quota_per_day, new.quota_per_day),
    ):
        yield from _ranked(place, what, _number, (most, most_now), more=_above(most_now, most))
    for what, least, least_now in (
        ("approvals", old.approvals.count, new.approvals.count),
        ("supervisors", old.approvals.supervisors, new.approvals.supervisors),
        ("consent", old.consent, new.consent),
        ("dual criminality", old.dual_criminality, new.dual_criminality),
        ("child safeguards", old.child_safeguards, new.child_safeguards),
    ):
        yield from _ranked(place, what, _number, (least, least_now), more=least_now < least)
    yield from _listed(place, "checks", old.checks, new.checks, gained=Effect.NARROWER)
    yield from _listed(place, "withheld", old.withhold, new.withhold, gained=Effect.NARROWER)
    yield from _changed(place, "answer within", _hours(old), _hours(new))
    yield from _narrowed(place, old.content, new.content, gained=Effect.NARROWER)


def _prohibition(place: str, old: Prohibition, new: Prohibition) -> Iterator[Difference]:
    yield from _changed(place, "text", _texts(old.text), _texts(new.text))
    yield from _listed(place, "kinds", old.kinds, new.kinds, gained=Effect.NARROWER)
    yield from _listed(place, "purposes", old.purposes, new.purposes, gained=Effect.NARROWER)
    yield from _narrowed(place, old.content, new.content, gained=Effect.WIDER)  # it forbids less than everything


# -- one member ------------------------------------------------------------------------------------


def _changed(place: str, what: str, old: str, new: str) -> Iterator[Difference]:
    if old != new:
        yield Difference(place, what, Effect.CHANGED, old, new)


def _ranked(
    place: str, what: str, show: Callable[[Any], str], values: tuple[Any, Any], *, more: bool
) -> Iterator[Difference]:
    """A value that lets more through, or less, than the one before it."""
    old, new = values
    if old != new:
        yield Difference(place, what, Effect.WIDER if more else Effect.NARROWER, show(old), show(new))


def _allowed(place: str, what: str, old: str, new: str, order: Sequence[str]) -> Iterator[Difference]:
    """The highest value of an order that is allowed."""
    yield from _ranked(place, what, str, (old, new), more=order.index(new) > order.index(old))


def _listed(
    place: str, what: str, old: Iterable[str], new: Iterable[str], *, gained: Effect = Effect.WIDER
) -> Iterator[Difference]:
    """A list in which each entry counts; ``*`` stands for all that can be listed."""
    left, right = tuple(old), tuple(new)
    if ANY in left or ANY in right:
        if not (ANY in left and ANY in right):
            effect = gained if ANY in right else _OPPOSITE[gained]
            yield Difference(place, what, effect, ", ".join(left), ", ".join(right))
        return
    added = [item for item in right if item not in left]
    removed = [item for item in left if item not in right]
    if added:
        yield Difference(place, what, gained, "", ", ".join(added))
    if removed:
        yield Difference(place, what, _OPPOSITE[gained], ", ".join(removed), "")


def _narrowed(place: str, old: Narrowing | None, new: Narrowing | None, *, gained: Effect) -> Iterator[Difference]:
    """A schema that narrows: whether one accepts more than another cannot be told in general."""
    left, right = "" if old is None else old.text, "" if new is None else new.text
    if left != right:
        effect = gained if not left else _OPPOSITE[gained] if not right else Effect.CHANGED
        yield Difference(place, "content", effect, left, right)


def _above(new: int | None, old: int | None) -> bool:
    """Whether a bound is higher; none at all is the highest."""
    return new is None or (old is not None and new > old)


def _number(value: int | None) -> str:
    if value is None:
        return "no limit"
    return {True: "required", False: "not required"}[value] if isinstance(value, bool) else str(value)


def _sorted(order: Sequence[str], values: Iterable[str]) -> list[str]:
    return sorted(values, key=order.index)


def _hours(clause: Clause) -> str:
    return ", ".join(f"{code} {clause.respond_within[code]} h" for code in URGENCY if code in clause.respond_within)


def _texts(by_language: Mapping[str, str]) -> str:
    """A text in all its languages: a difference in one of them must not hide behind another."""
    return " | ".join(f"{tag}: {text}" for tag, text in sorted(by_language.items()))
