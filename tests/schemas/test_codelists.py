"""Code lists: complete labels, true mappings, and one truth where the code repeats a list."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any

import pytest

from exchange.core.agreements import HANDLING, ONWARD, TLP_ORDER, URGENCY
from tests.schemas import samples
from tests.schemas.samples import book

if TYPE_CHECKING:
    from pathlib import Path

LISTS = book().code_lists
NEEDED = {
    *("acts", "means", "purposes", "exploitation", "means_of_control", "recruitment", "perpetrator_roles", "relations"),
    *("handling", "tlp", "source_grading", "information_grading", "message_purposes", "consent_exceptions", "urgency"),
    *("document_types", "refusal_grounds", "calendars", "scripts", "romanisation", "genders", "languages"),
}

# "Field Definitions.md" of HTCDS 2.0 defines these two means of control; its field list forgets them.
DEFINED_BUT_NOT_LISTED = {"RestrictsMovement", "UsesChildren"}


def document(name: str) -> dict[str, Any]:
    return samples.load(samples.SCHEMAS / "codelists" / f"{name}.json")


def annotated(node: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON value
    """List every subschema that names a code list."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    found = [place for item in inner for place in annotated(item)]
    return [*found, node] if isinstance(node, dict) and "x-codelist" in node else found


def test_the_lists_needed_are_there() -> None:
    """Every list that the main job needs exists."""
    assert set(LISTS) >= NEEDED


@pytest.mark.parametrize("name", LISTS)
def test_every_code_is_explained_in_english(name: str) -> None:
    """Every code has an English label and an English definition that ends as a sentence does."""
    for entry in book().codes(name).values():
        assert entry.label["en"].strip()
        assert name == "languages" or entry.definition["en"].endswith((".", ")", "?"))


@pytest.mark.parametrize("name", LISTS)
def test_every_list_is_used(name: str) -> None:
    """No list lies about that no schema names."""
    schemas = [samples.load(samples.SCHEMAS / path) for path in samples.files() if "codelists/" not in path]
    assert any(node["x-codelist"] == name for schema in schemas for node in annotated(schema))


def test_every_code_fits_where_it_is_used() -> None:
    """A listed code matches the pattern of every member that takes it."""
    for schema_id in book().kinds:
        for node in annotated(book().schema(schema_id)):
            for code in book().codes(node["x-codelist"]):
                assert re.fullmatch(node.get("pattern", ".*"), code), (node["x-codelist"], code)


def test_forced_criminality_has_the_online_scam_below_it() -> None:
    """The form of exploitation that HTCDS lacks is there, with the region's main form below it."""
    assert book().codes("exploitation")["online_scam"].parent == "forced_criminality"


def test_both_forgotten_means_of_control_are_there() -> None:
    """The two means that HTCDS defines but leaves out of its picklist, and CTDC has, are listed."""
    assert {"restricts_movement", "uses_children"} <= set(book().codes("means_of_control"))


def test_palermo_elements_are_complete() -> None:
    """Acts, means and purposes are those of Article 3 (a) of the Palermo Protocol."""
    palermo = {name: [entry for entry in book().codes(name).values() if "palermo" in entry.maps] for name in LISTS}
    assert [len(palermo[name]) for name in ("acts", "means", "purposes")] == [5, 9, 7]


def test_rules_in_code_repeat_the_closed_lists() -> None:
    """Handling, TLP, onward and urgency codes that agreements know are those of the lists."""
    assert set(book().codes("handling")) == HANDLING
    assert sorted(book().codes("tlp")) == sorted(TLP_ORDER)
    assert sorted(book().codes("onward")) == sorted(ONWARD)
    assert tuple(book().codes("urgency")) == URGENCY


@pytest.mark.parametrize("name", LISTS)
def test_htcds_mapping_is_true(name: str, shared: Path) -> None:
    """Every HTCDS value that a list maps to is in the picklist of the field that the list names."""
    with (shared / "data" / "htcds-2.0-fields.csv").open(encoding="utf-8-sig", newline="") as table:
        rows = {
            row["Field Name including Prefix"]: row["Value Names (if picklist)"].split()
            for row in csv.DictReader(table)
        }
    fields = [field.strip() for field in document(name).get("fields", {}).get("htcds", "").split(",") if field]
    assert set(fields) <= set(rows)
    values = {value for field in fields for value in rows[field]} | set(fields) | DEFINED_BUT_NOT_LISTED
    mapped = {entry.maps["htcds"] for entry in book().codes(name).values() if "htcds" in entry.maps}
    assert mapped <= values
