"""The agreements of the demo: eight of two countries and one of three, each different. All of it is invented.

Rules:
1. Each agreement is what its name promises and no more, so that the story can show what a clause withholds, asks for,
   lets go further, or forbids.
2. The first two countries that play have ``agreement_between``, whoever they are: the case they exchange needs it.
3. Some pairs have none: default refuses.

What it does not do: sign (``demo_nodes``), or be a model for anybody's law: see docs/agreements.md.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exchange.cli.templates import make_clause, new_agreement
from exchange.core import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from exchange.core.keys import Card
    from exchange.core.wire import JsonObject, JsonValue

YEAR: Final = 2026
POLICE: Final = ("investigation", "prosecution", "mutual_legal_assistance")
PEOPLE: Final = ("victim_identification", "victim_protection", "repatriation")
HOURS: Final = {"urgent_8h": 8, "urgent_3d": 72, "normal_7d": 168}  # the classes of Directive (EU) 2023/977
EVERY_HANDLING: Final = ("H0", "H1", "H2", "H3")
TITLES: Final = {
    "en": "Training agreement on the exchange of information on cases of trafficking in persons",
    "km": "កិច្ចព្រមព្រៀងហ្វឹកហ្វឺន ស្តីពីការផ្លាស់ប្តូរព័ត៌មានករណីជួញដូរមនុស្ស",
    "lo": "ຂໍ້ຕົກລົງຝຶກອົບຮົມ ກ່ຽວກັບການແລກປ່ຽນຂໍ້ມູນຄະດີຄ້າມະນຸດ",
    "my": "လူကုန်ကူးမှု အမှုအချက်အလက် ဖလှယ်ရေး လေ့ကျင့်ရေး သဘောတူစာချုပ်",
    "th": "ข้อตกลงฝึกอบรมว่าด้วยการแลกเปลี่ยนข้อมูลคดีค้ามนุษย์",
    "vi": "Thỏa thuận tập huấn về trao đổi thông tin vụ án mua bán người",
    "zh": "关于交换人口贩运案件信息的培训协议",
}
LANGUAGES: Final = {"CN": "zh", "KH": "km", "LA": "lo", "MM": "my", "TH": "th", "VN": "vi"}


def agreement_between(ident: str, cards: Sequence[Card], valid_from: datetime) -> JsonObject:
    """An agreement of two or three nodes: cases and questions, victims only for their own sake, receipts."""
    nodes = _nodes(cards)
    clauses = [
        make_clause(
            "art-1",
            "Cases, suspects, evidence, questions and answers may be sent to investigate and to prosecute.",
            kinds=("case-referral", "suspect", "evidence", "information-request", "information-response"),
            sender=nodes,
            to=nodes,
            purposes=POLICE,
            consent=True,
            respond_within=HOURS,
        ),
        _victims_by_name("art-2", nodes),
        _acknowledgements("art-3", nodes),
    ]
    return _agreement(ident, cards, valid_from, clauses)


def _nodes(cards: Sequence[Card]) -> list[JsonValue]:
    return [card.node for card in cards]


def _agreement(
    ident: str,
    cards: Sequence[Card],
    valid_from: datetime,
    clauses: Sequence[JsonObject],
    prohibitions: Sequence[JsonObject] = (),
) -> JsonObject:
    languages = ("en", *sorted(LANGUAGES[card.country] for card in cards))
    basis: JsonObject = {
        "title": {"en": "Invented for training; no government signed this."},
        "article": "1",
        "date": wire.encode_time(valid_from)[:10],
    }
    payload = new_agreement(
        ident, cards, valid_from=valid_from, clauses=clauses, prohibitions=prohibitions, legal_basis=[basis]
    )
    return {**payload, "title": {language: TITLES[language] for language in languages}}


# -- clauses that several agreements have ----------------------------------------------------------


def _victims_by_name(ident: str, nodes: Sequence[JsonValue]) -> JsonObject:
    return make_clause(
        ident,
        "Victims may be named to find them, to protect them and to bring them home, with their consent.",
        kinds=("victim",),
        sender=nodes,
        to=nodes,
        purposes=PEOPLE,
        handling=EVERY_HANDLING,
        tlp="AMBER+STRICT",
        consent=True,
    )


def _acknowledgements(ident: str, nodes: Sequence[JsonValue]) -> JsonObject:
    return make_clause(
        ident,
        "Whatever is received is acknowledged.",
        kinds=("acknowledgement",),
        sender=nodes,
        to=nodes,
        purposes=("coordination",),
        max_blobs=0,
        max_blob_bytes=0,
    )


def _questions(ident: str, nodes: Sequence[JsonValue], text: str, **more: Any) -> JsonObject:  # noqa: ANN401 - of make_clause
    return make_clause(
        ident,
        text,
        kinds=("information-request", "information-response"),
        sender=nodes,
        to=nodes,
        purposes=("investigation",),
        respond_within=HOURS,
        **more,
    )


# -- each pair's own -------------------------------------------------------------------------------


def _without_names(ident: str, cards: Sequence[Card], valid_from: datetime) -> JsonObject:
    """Facts cross the border, names do not: whoever receives a case sees it redacted, under the same root."""
    nodes = _nodes(cards)
    clauses = [
        make_clause(
            "art-4",
            "The facts of a case may be sent. Who the persons are is withheld; it is told under article 5 alone.",
            kinds=("case-referral", "suspect"),
            sender=nodes,
            to=nodes,
            purposes=("investigation", "prevention"),
            withhold=("identity", "narrative"),
            retention_days=730,
        ),
        _victims_by_name("art-5", nodes),
        _acknowledgements("art-6", nodes),
    ]
    return _agreement(ident, cards, valid_from, clauses)


def _questions_and_victims(ident: str, cards: Sequence[Card], valid_from: datetime) -> JsonObject:
    """Questions with legal clocks, and victims only to protect and to bring home; children with safeguards."""
    nodes = _nodes(cards)
    clauses = [
        _questions("art-1", nodes, "Questions are answered within 8 hours, 3 days or 7 days, as they are urgent."),
        _victims_by_name("art-2", nodes),
        make_clause(
            "art-3",
            "Children may be named where it is said who speaks for them and how they are kept safe.",
            kinds=("victim",),
            sender=nodes,
            to=nodes,
            purposes=("victim_protection",),
            consent=True,
            child_safeguards=True,
            checks=("risk_to_person", "risk_to_family"),
        ),
    ]
    return _agreement(ident, cards, valid_from, clauses)


def _onward_by_consent(ident: str, cards: Sequence[Card], valid_from: datetime) -> JsonObject:
    """Cases and suspects, fifty a day; whoever received them may ask to send them on."""
    nodes = _nodes(cards)
    clauses = [
        make_clause(
            "art-1",
            "Cases and suspects may be sent, fifty a day; they go further only if whoever sent them agrees.",
            kinds=("case-referral", "suspect"),
            sender=nodes,
            to=nodes,
            purposes=POLICE,
            onward="with_consent",
            consent=True,
            quota_per_day=50,
        ),
        _acknowledgements("art-2", nodes),
    ]
    return _agreement(ident, cards, valid_from, clauses)


def _dual_criminality(ident: str, cards: Sequence[Card], valid_from: datetime) -> JsonObject:
    """Suspects only, where the act is an offence in both countries."""
    nodes = _nodes(cards)
    clauses = [
        make_clause(
            "art-2",
            "Suspects may be sent where it is stated that the act is an offence in both countries.",
            kinds=("suspect",),
            sender=nodes,
            to=nodes,
            purposes=("investigation", "mutual_legal_assistance"),
            tlp="GREEN",
            dual_criminality=True,
            max_blobs=0,
            max_blob_bytes=0,
        ),
    ]
    return _agreement(ident, cards, valid_from, clauses)


def _questions_only(ident: str, cards: Sequence[Card], valid_from: datetime) -> JsonObject:
    """Questions and answers, and nothing else."""
    nodes = _nodes(cards)
    clauses = [_questions("art-1", nodes, "Questions may be asked and answered.", tlp="GREEN", max_blobs=2)]
    return _agreement(ident, cards, valid_from, clauses)


def _small_cases(ident: str, cards: Sequence[Card], valid_from: datetime) -> JsonObject:
    """Suspects and questions on few persons; victims are never named."""
    nodes = _nodes(cards)
    few: JsonObject = {"type": "object", "properties": {"entities": {"type": "array", "maxItems": 5}}}
    clauses = [
        make_clause(
            "art-1",
            "Suspects may be sent, at most five entities in a message.",
            kinds=("suspect", "information-request", "information-response"),
            sender=nodes,
            to=nodes,
            purposes=("investigation",),
            retention_days=1_000,
            content=few,
        ),
    ]
    forbidden: JsonObject = {
        "id": "never-1",
        "text": {"en": "No victim is named between these two, for whatever purpose."},
        "when": {"kinds": ["victim"]},
    }
    return _agreement(ident, cards, valid_from, clauses, [forbidden])


def _one_way_home(ident: str, cards: Sequence[Card], valid_from: datetime) -> JsonObject:
    """Suspects in both directions; victims for repatriation, kept for a year."""
    nodes = _nodes(cards)
    clauses = [
        make_clause(
            "art-1",
            "Suspects may be sent to investigate.",
            kinds=("suspect",),
            sender=nodes,
            to=nodes,
            purposes=("investigation",),
        ),
        make_clause(
            "art-2",
            "Victims may be named to bring them home; what is known of them is erased after a year.",
            kinds=("victim",),
            sender=nodes,
            to=nodes,
            purposes=("repatriation",),
            handling=("H2", "H3"),
            tlp="AMBER+STRICT",
            consent=True,
            retention_days=365,
        ),
        _acknowledgements("art-3", nodes),
    ]
    return _agreement(ident, cards, valid_from, clauses)


def _along_the_route(ident: str, cards: Sequence[Card], valid_from: datetime) -> JsonObject:
    """Three countries of one route: what one of them sends may go on to each of them."""
    nodes = _nodes(cards)
    clauses = [
        make_clause(
            "art-1",
            "What concerns the common route may be sent to each of the three, and go on among them.",
            kinds=("case-referral", "suspect", "information-request", "information-response"),
            sender=nodes,
            to=nodes,
            purposes=("investigation", "prosecution"),
            onward="parties",
            onward_parties=nodes,
            consent=True,
        ),
        _victims_by_name("art-2", nodes),
    ]
    return _agreement(ident, cards, valid_from, clauses)


Writer: TypeAlias = "Callable[[str, Sequence[Card], datetime], JsonObject]"
OWN: Final[Mapping[frozenset[str], Writer]] = {
    frozenset({"KH", "TH"}): agreement_between,
    frozenset({"LA", "TH"}): _without_names,
    frozenset({"MM", "TH"}): _questions_and_victims,
    frozenset({"TH", "VN"}): _onward_by_consent,
    frozenset({"CN", "TH"}): _dual_criminality,
    frozenset({"KH", "VN"}): _questions_only,
    frozenset({"CN", "MM"}): _small_cases,
    frozenset({"CN", "VN"}): _one_way_home,
    frozenset({"LA", "TH", "VN"}): _along_the_route,
}


def plan(countries: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Which of these countries agreed, with each agreement's id: the first two always, the others as in ``OWN``."""
    groups = [group for size in (2, 3) for group in combinations(countries, size)]
    return {group: _name(group) for group in groups if group == tuple(countries[:2]) or frozenset(group) in OWN}


def _name(group: Sequence[str]) -> str:
    """A node tries its agreements in the order of their ids: the one of three is named to come after those of two."""
    names = sorted(country.lower() for country in group)
    return "-".join([*(["trio"] if len(group) > 2 else []), *names, str(YEAR)])  # noqa: PLR2004 - a pair


def writer_of(group: Sequence[str], countries: Sequence[str]) -> Writer:
    """What writes the agreement of ``group`` where ``countries`` play."""
    return agreement_between if group == tuple(countries[:2]) else OWN[frozenset(group)]
