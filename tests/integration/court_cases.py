"""Real judgments as case referrals: 91 rows of a table made by hand, with its slips, onto our schemas and code lists.

Rules:
1. Nothing is dropped. The summary holds the source's own summary and, below it, every other column as it is written;
   what is understood is in coded fields besides.
2. A slip is understood and reported: spaces and line ends, other spellings, texts given twice, a purpose in the column
   of sectors, an asterisk nobody explains, "NA" and "?".
3. What is not understood becomes no code: it is reported as unknown and stays in the text.
4. The longest text fits the summary's bound, so nothing is split or attached; one that did not would be refused by the
   schema.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from exchange.core.wire import JsonObject

COLUMNS: Final = (
    "Case", "Court", "Name", "VerdictDate", "Place", "FactSummary", "Link", "Offences", "ExploitationSector",
    "ActsInvolved", "MeansUsed", "ExploitativePurposes", "FormOfTrafficking", "NumberVictims", "MinorsIncluded",
    "FemaleVictim(s)", "MaleVictim(s)", "FemaleDefendant(s)", "MaleDefendant(s)", "AmericanNationality",
    "ForeignNationality",
)  # fmt: skip
ABSENT: Final = frozenset({"", "NA", "?", "YYYY-MM-DD"})
TITLE: Final = "As written in the source"

Table = Mapping[str, tuple[str, ...]]

# What the source writes, in one spelling -> the codes of our lists, by list.
ACTS: Final = {
    "recruitment": ("recruitment",),
    "recruitment/hiring": ("recruitment",),
    "transportation": ("transportation",),
    "transfer": ("transfer",),
    "harbouring": ("harbouring",),
    "receipt": ("receipt",),
}
MEANS: Final = {
    "threat or use of force or other forms of coercion": ("threat_of_force", "use_of_force", "other_coercion"),
    "threat or use of other forms of coercion": ("other_coercion",),
    "threat": ("threat_of_force",),
    "abduction": ("abduction",),
    "fraud": ("fraud",),
    "deception": ("deception",),
    "abuse of power or a position of vulnerability": ("abuse_of_power", "abuse_of_position_of_vulnerability"),
    "giving or receiving payments or benefits to achieve the consent of a person having control over another person": (
        "giving_or_receiving_payments_or_benefits",
    ),
}
PURPOSES: Final = {
    "exploitation of the prostitution of others or other forms of sexual exploitation": (
        "exploitation_of_prostitution_of_others",
        "other_sexual_exploitation",
    ),
    "forced labour or services": ("forced_labour_or_services",),
    "slavery or practices similar to slavery": ("slavery", "practices_similar_to_slavery"),
    "servitude": ("servitude",),
    "other": ("other_exploitation",),
}
SECTORS: Final = {
    "agriculture": ("a_agriculture_forestry_fishing",),
    "construction": ("f_construction",),
    "domestic servitude": ("t_households",),
    "factory/manufacturing": ("c_manufacturing",),
    "hair/beauty salon": ("s_other_services",),
    "hotel/restaurant/bar": ("i_accommodation_food",),
    "other sectors": ("other",),
    "commercial sexual exploitation": (),  # no economic sector; it is a form of exploitation, below
}
EXPLOITATION: Final = {
    "commercial sexual exploitation": ("sexual_exploitation",),
    "domestic servitude": ("servitude",),
}
FORMS: Final = {
    "internal": ("internal",),
    "transnational": ("transnational",),
    "organised criminal group": ("organised_criminal_group",),
}
SPELLINGS: Final = {"labor": "labour", "organized": "organised"}
STATES: Final = frozenset(
    re.findall(
        "..",
        "ALAKAZARCACOCTDEDCFLGAHIIDILINIAKSKYLAMEMDMAMIMNMSMOMTNENVNHNJNMNYNCNDOHOKORPARISCSDTNTXUTVTVAWAWVWIWY",
    )
)
NUMBER: Final = re.compile(r"(?P<low>[0-9]+)(?:-(?P<high>[0-9]+)|(?P<more>\+))?\*?")
PARTS: Final = re.compile(r"(?P<number>[0-9]+)\+? (?P<who>children|adults)")


@dataclass(frozen=True, slots=True)
class Slip:
    """Something in a column that is not as it should be: what kind, and the text."""

    case: str
    column: str
    kind: str
    text: str


@dataclass(slots=True)
class Report:
    """What was found on the way."""

    rows: int = 0
    columns: int = 0
    slips: list[Slip] = field(default_factory=list)
    unknown: list[Slip] = field(default_factory=list)

    def kinds(self) -> dict[str, int]:
        """Slips by kind."""
        counts: dict[str, int] = {}
        for slip in self.slips:
            counts[slip.kind] = counts.get(slip.kind, 0) + 1
        return counts


def load_drafts(path: Path) -> tuple[list[tuple[dict[str, str], JsonObject]], Report]:
    """Every row with its draft, and the report."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        assert tuple(reader.fieldnames or ()) == COLUMNS
    report = Report(columns=len(COLUMNS))
    made = [(row, _Row(row, report).draft()) for row in rows]
    report.rows = len(made)
    return made, report


class _Row:
    """One judgment on its way to a draft."""

    def __init__(self, row: dict[str, str], report: Report) -> None:
        self._row = row
        self._report = report

    # -- reading columns

    def _slip(self, column: str, kind: str, text: str) -> None:
        self._report.slips.append(Slip(self._row["Case"], column, kind, text))

    def _unknown(self, column: str, text: str) -> None:
        self._report.unknown.append(Slip(self._row["Case"], column, "unknown", text))

    def _text(self, column: str) -> str | None:
        """A column without spaces around it, None where it says nothing."""
        text = self._row[column]
        clean = text.strip()
        if clean in ABSENT:
            self._slip(column, "absent", text)
            return None
        if clean != text:
            self._slip(column, "space", text)
        return clean

    def _words(self, column: str, separators: str = ";") -> list[str]:
        """A column's items in one spelling."""
        raw = self._row[column]
        items = re.split(f"[{separators}]", raw)
        found: list[str] = []
        for number, item in enumerate(items):
            clean = " ".join(item.split())
            if clean in ABSENT:
                self._slip(column, "absent", item)
                continue
            if item not in {clean, f" {clean}"[number == 0 :]}:
                self._slip(column, "space", item)
            found.append(clean)
        return found

    def _codes(self, column: str, table: Table, other: Table | None = None) -> list[str]:
        """The codes that a column's items stand for; items of ``other`` belong into another column."""
        codes: dict[str, None] = {}
        for item in self._words(column):
            word = self._spelling(column, item)
            if word in table:
                codes |= dict.fromkeys(table[word])
            elif other is not None and word in other:
                self._slip(column, "other column", item)
            else:
                self._unknown(column, item)
        return list(codes)

    def _spelling(self, column: str, item: str) -> str:
        word = item[0].lower() + item[1:]
        if word != word.lower():
            self._slip(column, "capitals", item)
            word = word.lower()
        for wrong, right in SPELLINGS.items():
            if wrong in word:
                self._slip(column, "spelling", item)
                word = word.replace(wrong, right)
        return word

    def _answer(self, column: str) -> bool | None:
        """A column of yes and no."""
        text = self._text(column)
        if text is None:
            return None
        if text.endswith("*"):
            self._slip(column, "asterisk", text)
        word = text.rstrip("*")
        if word in ABSENT:
            self._slip(column, "absent", text)
            return None
        if word not in {"Yes", "No"}:
            self._slip(column, "capitals", text)
        return word.lower() == "yes"

    # -- making content

    def draft(self) -> JsonObject:
        """The row as an officer would send it: public records, open to prosecution."""
        row = self._row
        acts = self._codes("ActsInvolved", ACTS)
        means = self._codes("MeansUsed", MEANS)
        purposes = self._codes("ExploitativePurposes", PURPOSES)
        sectors = self._codes("ExploitationSector", SECTORS, other=PURPOSES)
        entities, links = self._entities()
        content: dict[str, Any] = {
            "kind": "case-referral",
            "entities": entities,
            "links": links,
            "acts": acts or ["not_established"],
            "means": means or ["not_established"],
            "purposes": list(dict.fromkeys([*purposes, *self._purposes_among_sectors()])) or ["not_established"],
            "sectors": sectors,
            "exploitation": self._exploitation(),
            "forms": self._codes("FormOfTrafficking", FORMS),
            "offences": [{"title": _note(title), "case_number": row["Case"]} for title in self._words("Offences")],
            "summary": self._summary(),
        }
        if count := self._victim_count():
            content["victim_count"] = count
        return {
            "kind": "case-referral",
            "purpose": "prosecution",
            "handling": ["H0"],
            "tlp": "CLEAR",
            "case": row["Case"],
            "grading": {"source": "A", "information": "1"},
            "retention_days": 365,
            "content": content,
        }

    def _purposes_among_sectors(self) -> list[str]:
        words = [" ".join(item.split()).lower() for item in self._row["ExploitationSector"].split(";")]
        return [code for word in words for code in PURPOSES.get(word, ())]

    def _exploitation(self) -> list[str]:
        words = [" ".join(item.split()).lower() for item in self._row["ExploitationSector"].split(";")]
        return list(dict.fromkeys(code for word in words for code in EXPLOITATION.get(word, ())))

    def _summary(self) -> JsonObject:
        row = self._row
        facts = row["FactSummary"]
        if doubled := _doubled(facts.strip()):
            self._slip("FactSummary", "given twice", doubled[:60])
        if facts != facts.strip():
            self._slip("FactSummary", "space", facts[:60])
        others = [f"{column}: {row[column]}" for column in COLUMNS if column != "FactSummary"]
        return {"text": "\n".join([facts, "", f"{TITLE}:", *others]), "lang": "en"}

    def _victim_count(self) -> JsonObject | None:
        text = self._text("NumberVictims")
        if text is None:
            return None
        count: dict[str, Any] = {"as_written": text}
        if "*" in text:
            self._slip("NumberVictims", "asterisk", text)
        if number := NUMBER.fullmatch(text):
            count["at_least"] = int(number["low"])
            if number["high"]:
                count["at_most"] = int(number["high"])
            elif not number["more"]:
                count["at_most"] = count["at_least"]
        elif parts := {part["who"]: int(part["number"]) for part in PARTS.finditer(text)}:
            count |= {"at_least": sum(parts.values()), "children_at_least": parts.get("children", 0)}
        else:
            self._slip("NumberVictims", "words", text)
            count["at_least"] = 1 if text.startswith("Anonymous") else 2
        return count

    def _entities(self) -> tuple[list[JsonObject], list[JsonObject]]:
        row = self._row
        judgment = _entity("ev1", "event", event_type="judgment", description=_note(self._text("Name") or row["Name"]))
        if date := self._date():
            judgment["date"] = date
        court = _entity("o1", "organisation", name=self._text("Court") or row["Court"], organisation_type="court")
        source = _entity("d1", "document", document_type="other", note=_note(self._text("Link") or row["Link"]))
        entities = [judgment, court, source, *self._persons()]
        links: list[JsonObject] = [
            {"from": "o1", "to": "ev1", "relation": "took_part_in"},
            {"from": "d1", "to": "ev1", "relation": "shows"},
        ]
        for number, name in enumerate(self._places(), 1):
            region = {"region": name} if name in STATES else {}
            entities.append(
                _entity(f"pl{number}", "place", place_type="area", name=name, address={"country": "US", **region})
            )
            links.append({"from": "ev1", "to": f"pl{number}", "relation": "located_at"})
        return entities, links

    def _date(self) -> JsonObject | None:
        text = self._text("VerdictDate")
        if text is None:
            return None
        value = datetime.strptime(text, "%m/%d/%y").date()  # noqa: DTZ007 - a day of a calendar, no moment
        return {"value": value.isoformat(), "calendar": "gregorian", "original": text}

    def _places(self) -> list[str]:
        names: list[str] = []
        for item in self._words("Place", ";,"):
            name = item
            if name.endswith("*"):
                self._slip("Place", "asterisk", item)
                name = name.rstrip("* ")
            if name.startswith("? "):
                self._slip("Place", "doubtful", item)
                name = name.removeprefix("? ")
            if name not in STATES:
                self._unknown("Place", name)
            names.append(name)
        return names

    def _persons(self) -> list[JsonObject]:
        minors = self._answer("MinorsIncluded")
        age_group = "adult" if minors is False else "unknown"  # of a group in which some are children
        victims = [sex for sex in ("Female", "Male") if self._answer(f"{sex}Victim(s)")] or ["Unknown"]
        suspects = [sex for sex in ("Female", "Male") if self._answer(f"{sex}Defendant(s)")] or ["Unknown"]
        nationality = "; ".join(
            f"{column}: {self._row[column]}" for column in ("AmericanNationality", "ForeignNationality")
        )
        for column in ("AmericanNationality", "ForeignNationality"):
            self._answer(column)  # whose nationality it is, victims' or defendants', the source does not say
        persons: list[JsonObject] = []
        for role, sexes in (("victim", victims), ("suspect", suspects)):
            for sex in sexes:
                person = _entity(f"p{len(persons) + 1}", "person", roles=[role])
                person["identity"] = {"gender": GENDERS[sex], "remarks": _note(nationality)}
                if role == "victim":
                    person |= {"age_group": age_group, "consent_exception": {"code": "public_record"}}
                persons.append(person)
        return persons


GENDERS: Final = {"Female": "feminine", "Male": "masculine", "Unknown": "not_specified"}


def _doubled(text: str) -> str | None:
    """The text that is given twice, with a semicolon between, or None."""
    for match in re.finditer(r"; ?", text):
        first, second = text[: match.start()].strip(), text[match.end() :].strip()
        if first == second:
            return first
    return None


def _note(text: str) -> JsonObject:
    return {"text": text, "lang": "en"}


def _entity(ident: str, kind: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - the members of an entity
    grading = {"source": "A", "information": "1"}
    return {"id": ident, "type": kind, "handling": ["H0"], "grading": grading, **more}
