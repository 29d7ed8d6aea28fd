"""``exchange schema``: what messages look like."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path


def test_list_names_every_kind_with_its_parts(call: homes.Caller) -> None:
    """Every kind is listed with its parts and the digest that both nodes must share; no home is needed."""
    listed = call("schema", "list", "--json").json["schemas"]
    kinds = {item["id"]: item for item in listed}
    assert set(kinds) >= {"case-referral/v1", "suspect/v1", "victim/v1", "evidence/v1", "acknowledgement/v1"}
    assert "safety" in kinds["victim/v1"]["parts"]
    assert all(len(item["digest"]) == 64 for item in listed)
    assert "case-referral/v1" in call("schema", "list").out


def test_show_gives_the_schema_itself(call: homes.Caller) -> None:
    """A kind is shown as JSON Schema, by its name or with its version."""
    shown = json.loads(call("schema", "show", "victim").out)
    assert shown["properties"]["kind"]
    done = call("schema", "show", "victim/v1", "--json")
    assert (done.json["id"], done.json["schema"]) == ("victim/v1", shown)
    assert call("schema", "show", "poem").refused("schema.unknown")


def test_valid_draft_and_valid_content(call: homes.Caller, tmp_path: Path) -> None:
    """An example is valid as a draft, and its content is valid without its frame."""
    assert "is valid: case-referral/v1" in call("schema", "validate", homes.REFERRAL).out
    content = tmp_path / "content.json"
    content.write_text(json.dumps(json.loads(homes.REFERRAL.read_bytes())["content"]))
    assert call("schema", "validate", content, "--json").json == {
        "ok": True,
        "schema": "case-referral/v1",
        "problems": [],
        "warnings": [],
    }


def test_unknown_content_code_is_a_warning(call: homes.Caller, tmp_path: Path) -> None:
    """A code that an open list does not have is told and does no harm."""
    draft = json.loads(homes.REFERRAL.read_bytes())
    draft["content"]["entities"][0]["recruitment"] = ["smoke_signals"]
    path = tmp_path / "draft.json"
    path.write_text(json.dumps(draft))
    done = call("schema", "validate", path)
    assert done.code == 0
    assert "/entities/0/recruitment/0" in done.err
    assert call("schema", "validate", path, "--json").json["warnings"][0]["list"] == "recruitment"


def test_every_fault_is_told_with_place_rule_and_expectation(call: homes.Caller, tmp_path: Path) -> None:
    """Faults are listed by place, rule and what is expected, never with the value; exit code 1."""
    draft = json.loads(homes.REFERRAL.read_bytes())
    draft["content"]["entities"][0]["handling"] = ["top secret name"]
    draft["content"]["surplus"] = 1
    path = tmp_path / "draft.json"
    path.write_text(json.dumps(draft))
    done = call("schema", "validate", path)
    assert done.code == 1
    assert "/content/entities/0/handling/0" in done.out
    assert "top secret name" not in done.out + done.err
    problems = call("schema", "validate", path, "--json").json["problems"]
    assert {item["rule"] for item in problems} >= {"enum", "additionalProperties"}
    assert "H0, H1, H2, H3" in str(problems)


def test_draft_of_an_unknown_kind(call: homes.Caller, tmp_path: Path) -> None:
    """A draft or content of a kind that is not known is refused with what is known."""
    draft = homes.write_draft(tmp_path / "draft.json", kind="poem")
    done = call("schema", "validate", draft)
    assert done.code == 1
    assert "case-referral" in done.out
    content = tmp_path / "content.json"
    content.write_text('{"kind": "poem", "entities": [], "links": []}')
    assert call("schema", "validate", content).refused("schema.unknown")


def test_what_is_no_object_is_no_draft(call: homes.Caller, tmp_path: Path) -> None:
    """A list is told to be no draft."""
    path = tmp_path / "list.json"
    path.write_text("[]")
    done = call("schema", "validate", path)
    assert done.code == 1
    assert "an object" in done.out
