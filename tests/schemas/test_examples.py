"""Every example is what it says: the good ones pass whole and in parts, the bad ones fail at the place they name."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from exchange.core.duties import SENT_BY, is_duty
from exchange.core.errors import PeerError
from exchange.core.schema_explain import reader_for
from exchange.core.schema_lint import subschemas
from exchange.core.schemas import DRAFT, parse_schema_book
from exchange.core.wire import encode_json
from tests.schemas import samples
from tests.schemas.samples import EXAMPLES, INVALID, book, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


MEMBERS = {
    name
    for data in samples.files().values()
    for node in subschemas(json.loads(data))
    for name in node.get("properties", ())
}


def strings(value: object) -> Iterator[str]:
    """Yield every string of a JSON value, member names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from strings(item)


def test_every_kind_has_examples() -> None:
    """Each kind has at least two valid examples and four invalid ones."""
    valid = Counter(path.parent.parent.name for path in EXAMPLES)
    invalid = Counter(path.parent.name for path in INVALID)
    for schema_id in book().kinds:
        kind = schema_id.split("/")[0]
        assert valid[kind] >= 2
        assert invalid[kind] >= 4


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_example_is_valid_whole(path: Path) -> None:
    """An example passes as a draft, breaks no rule and uses listed codes only."""
    draft = samples.load(path)
    schema_id, _ = book().cut_draft(draft, attachments=2)
    assert schema_id == f"{path.parent.parent.name}/v1"
    assert book().explain(DRAFT, draft) == ()
    assert book().unknown_codes(DRAFT, draft) == ()
    assert book().unknown_codes(schema_id, draft["content"]) == ()


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_example_is_valid_in_parts(path: Path) -> None:
    """An example's parts pass one by one, by both validators, and give the content again."""
    draft = samples.load(path)
    schema_id = book().newest(draft["kind"])
    parts = dict(book().split(schema_id, draft["content"]))
    book().check_parts(schema_id, list(parts), attachments=0)
    for part, value in parts.items():
        book().validate_part(schema_id, part, value)
        assert reader_for(book().schema(schema_id, part)).is_valid(value)
    assert book().join(schema_id, parts) == draft["content"]


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_example_without_any_one_part_is_still_checkable(path: Path) -> None:
    """Whichever part is withheld, the others pass, and what is joined lacks that part's members alone."""
    draft = samples.load(path)
    schema_id = book().newest(draft["kind"])
    parts = dict(book().split(schema_id, draft["content"]))
    for withheld in list(parts)[1:]:
        left = {**parts, withheld: None}
        joined = book().join(schema_id, left)
        assert dict(book().split(schema_id, joined)) == {
            name: value for name, value in left.items() if value is not None
        }


@pytest.mark.parametrize("path", INVALID, ids=name_of)
def test_faulty_draft_is_refused_where_it_says(path: Path) -> None:
    """A faulty draft is refused at its place by its rule, and the refusal holds nothing that the draft says."""
    case = samples.load(path)
    with pytest.raises(PeerError) as caught:
        book().cut_draft(case["draft"])
    assert caught.value.where == f"{case['path']} ({case['rule']})"
    assert caught.value.__context__ is None
    said = {text for text in strings(case["draft"]) if len(text) > 2} - MEMBERS
    assert [text for text in said if text in str(caught.value)] == []


@pytest.mark.parametrize("path", INVALID, ids=name_of)
def test_faulty_draft_is_explained(path: Path) -> None:
    """The explanation names the same place and rule, what is expected there, and nothing else."""
    case = samples.load(path)
    problems = book().explain(DRAFT, case["draft"])
    assert (case["path"], case["rule"]) in [(problem.path, problem.rule) for problem in problems]
    assert all(problem.expected for problem in problems)
    assert len({problem.path for problem in problems}) <= 3


def test_one_fault_is_one_problem() -> None:
    """A faulty draft with one fault gives one problem, save where an id that is used twice leaves others dangling."""
    many = [path.stem for path in INVALID if len(book().explain(DRAFT, samples.load(path)["draft"])) > 1]
    assert many == ["id-twice"]


def test_thirteen_persons() -> None:
    """The example that speed is measured with holds thirteen persons in about 4 KB."""
    content = samples.load(samples.THIRTEEN)["content"]
    assert sum(entity["type"] == "person" for entity in content["entities"]) == 13
    assert 3900 <= len(encode_json(content)) <= 4300


def test_persons_in_examples_are_the_same_person() -> None:
    """Every kind judges a person by one and the same schema."""

    def person(schema_id: str) -> object:
        schema: Any = book().schema(book().newest(schema_id.split("/", maxsplit=1)[0]))
        rules = schema["properties"]["entities"]["items"]["allOf"]
        return next(rule["then"] for rule in rules if rule["if"]["properties"]["type"]["const"] == "person")

    first, *others = [person(schema_id) for schema_id in book().kinds if not is_duty(schema_id.split("/")[0])]
    assert all(other == first for other in others)


def test_digest_is_that_of_sha256sum() -> None:
    """The digest of a schema is recomputed from the files alone, as the protocol says, with nothing of ours."""
    seen: dict[str, str] = {}

    def visit(path: str) -> None:
        text = samples.SCHEMAS.joinpath(path).read_bytes()
        seen[path] = hashlib.sha256(text).hexdigest()
        for ref in refs(json.loads(text)):
            target = (
                samples.SCHEMAS.joinpath(path).parent.joinpath(ref).resolve().relative_to(samples.SCHEMAS).as_posix()
            )
            if target not in seen:
                visit(target)

    def refs(node: object) -> Iterator[str]:
        for item in node if isinstance(node, list) else node.values() if isinstance(node, dict) else ():
            yield from refs(item)
        if isinstance(node, dict) and "$ref" in node:
            yield node["$ref"]

    visit("victim/v1.json")
    listing = "".join(f"{seen[path]}  {path}\n" for path in sorted(seen))
    assert book().digest(book().newest("victim")) == hashlib.sha256(listing.encode()).hexdigest()


def test_new_content_code_keeps_the_digest() -> None:
    """A code added to an open list changes no digest; a word in a shared schema changes that of every user."""
    path = "codelists/acts.json"
    acts = json.loads(samples.files()[path])
    acts["codes"].append({"code": "new_act", "label": {"en": "New"}, "definition": {"en": "New."}})
    grown = parse_schema_book({**samples.files(), path: json.dumps(acts).encode()})
    assert [grown.digest(kind) for kind in grown.kinds] == [book().digest(kind) for kind in book().kinds]
    assert "new_act" in grown.codes("acts")
    person = samples.files()["common/person.json"].replace(b"The same person", b"Another person")
    changed = parse_schema_book({**samples.files(), "common/person.json": person})
    same = {kind.split("/")[0] for kind in book().kinds if changed.digest(kind) == book().digest(kind)}
    assert same == set(SENT_BY)  # duties speak of nobody
    assert changed.digest(DRAFT) == book().digest(DRAFT)


@pytest.mark.parametrize(
    "path", sorted(p for p in samples.files() if not p.startswith("codelists/") and "/examples/" not in p)
)
def test_schema_is_a_schema(path: str) -> None:
    """Every schema file passes the metaschema by jsonschema's judgement too."""
    jsonschema.Draft202012Validator.check_schema(json.loads(samples.files()[path]))


def test_names_of_people_stay_in_the_identity() -> None:
    """Only the identity uses the schema of a person's name, so that withholding it withholds every name."""
    users = {path for path, data in samples.files().items() if b'"name.json"' in data or b"common/name.json" in data}
    assert users == {"common/identity.json"}
