"""Code lists: they agree with their names and with the schemas that use them."""

from __future__ import annotations

from typing import Any

import pytest

from exchange.core.errors import LocalError
from exchange.core.schema_codes import CodeEntry, CodeList, check_codes, parse_code_list


def document(*codes: dict[str, Any], **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - members
    rows = [{"label": {"en": "L"}, "definition": {"en": "D."}, **code} for code in codes]
    return {"list": "colours", "version": 1, "closed": False, "title": {"en": "T"}, "codes": rows, **changes}


PATH = "codelists/colours.json"
RED: dict[str, Any] = {"code": "red", "maps": {"htcds": "Red"}}
DARK: dict[str, Any] = {"code": "dark_red", "parent": "red"}


def test_list_is_read() -> None:
    """A list gives its codes in order, with parent and mappings where there are any."""
    colours = parse_code_list(PATH, document(RED, DARK, closed=True))
    assert colours.closed
    assert list(colours.codes) == ["red", "dark_red"]
    assert colours.codes["red"] == CodeEntry("red", {"en": "L"}, {"en": "D."}, {"htcds": "Red"}, None)
    assert colours.codes["dark_red"] == CodeEntry("dark_red", {"en": "L"}, {"en": "D."}, {}, "red")


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (document(RED, list="shapes"), f"{PATH} (list)"),
        (document(RED, RED), f"{PATH} (codes)"),
        (document(DARK), f"{PATH} (codes)"),
    ],
)
def test_list_that_contradicts_itself(value: dict[str, Any], where: str) -> None:
    """Another name than the file's, a code twice and an unknown parent are refused."""
    with pytest.raises(LocalError) as refused:
        parse_code_list(PATH, value)
    assert refused.value.where == where


ENTRY = CodeEntry("red", {}, {}, {})
LISTS = {"open": CodeList(closed=False, codes={"red": ENTRY}), "closed": CodeList(closed=True, codes={"red": ENTRY})}


@pytest.mark.parametrize(
    ("node", "good"),
    [
        ({"$ref": "code.json", "x-codelist": "open"}, True),
        ({"enum": ["red"], "x-codelist": "closed"}, True),
        ({"type": "string", "maxLength": 9}, True),
        ({"enum": ["red"], "x-codelist": "open"}, False),
        ({"$ref": "code.json", "x-codelist": "closed"}, False),
        ({"enum": ["red", "blue"], "x-codelist": "closed"}, False),
        ({"$ref": "code.json", "x-codelist": "absent"}, False),
    ],
)
def test_schema_and_list_agree(node: dict[str, Any], good: bool) -> None:  # noqa: FBT001
    """A closed list is repeated word for word by the schemas that name it, an open one by none."""
    schema: dict[str, Any] = {"properties": {"colour": {"type": "array", "items": node}}}
    if good:
        check_codes("k/v1.json", schema, LISTS)
        return
    with pytest.raises(LocalError) as refused:
        check_codes("k/v1.json", schema, LISTS)
    assert refused.value.where == "k/v1.json (x-codelist)"
