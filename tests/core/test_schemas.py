"""The book of schemas: what it refuses to be built from, and how it judges statements.

Length: the book is one class; what is built, cut and judged here shares one set of samples.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jsonschema_rs
import pytest

from exchange.core.duties import is_duty
from exchange.core.errors import LocalError, PeerError
from exchange.core.schemas import ATTACHMENTS, DRAFT, HEADER, compile_schema, parse_schema_book
from exchange.core.wire import SchemaId
from tests.schemas import samples
from tests.schemas.samples import REFERRAL, book, content

UNKNOWN = SchemaId("rumour/v1")


def where_of(refused: pytest.ExceptionInfo[PeerError], code: str) -> str:
    assert refused.value.code == code
    assert refused.value.__context__ is None
    return refused.value.where


def built_with(**changed: Any) -> LocalError:  # noqa: ANN401 - a file's text, document, or None to leave it out
    """Return the refusal to build the book with files changed; a name is a path without its slashes."""
    files = dict(samples.files())
    for path, value in changed.items():
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        files[path] = data
        if value is None:
            del files[path]
    with pytest.raises(LocalError) as refused:
        parse_schema_book(files)
    assert refused.value.code == "schema.unsafe"
    return refused.value


def document(path: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(samples.files()[path])
    return value


# -- building --------------------------------------------------------------------------------------


def test_kinds_of_the_main_job() -> None:
    """The book has the kinds of case work, in one order, and beside them those of duties."""
    assert tuple(kind for kind in book().kinds if not is_duty(kind.split("/")[0])) == (
        "acknowledgement/v1",
        "case-referral/v1",
        "evidence/v1",
        "information-request/v1",
        "information-response/v1",
        "suspect/v1",
        "victim/v1",
    )
    assert "acts" in book().code_lists


def test_newest_version_of_a_kind() -> None:
    """A kind's newest schema is that of the highest number, not of the last name; an unknown kind is refused."""
    files = {**samples.files()}
    for version in ("v2", "v10"):
        files[f"suspect/{version}.json"] = files["suspect/v1.json"]
    grown = parse_schema_book(files)
    assert [kind for kind in grown.kinds if kind.startswith("suspect")] == ["suspect/v1", "suspect/v2", "suspect/v10"]
    assert grown.newest("suspect") == "suspect/v10"
    with pytest.raises(PeerError) as refused:
        book().newest("rumour")
    assert where_of(refused, "schema.unknown") == "kind"


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("README.md", b"{}", "README.md (file)"),
        ("common/../x.json", b"{}", "common/../x.json (file)"),
        ("common/name.json", b"{", "common/name.json (wire.not_json)"),
        ("common/name.json", [], "common/name.json (object)"),
        ("common/name.json", {"type": "boolean"}, "common/name.json ($schema)"),
        ("codelists/acts.json", [], "codelists/acts.json (object)"),
        ("codelists/acts.json", {"list": "acts"}, "codelists/acts.json# (required)"),
        ("header/v1.json", None, "header/v1.json (missing)"),
        ("attachments/v1.json", None, "attachments/v1.json (missing)"),
        ("draft/v1.json", None, "draft/v1.json (missing)"),
        ("codelist/v1.json", None, "codelist/v1.json (missing)"),
    ],
)
def test_unusable_file_stops_the_start(path: str, value: object, where: str) -> None:
    """A file that does not belong, cannot be read, is of another dialect or is missing stops the start by its name."""
    assert built_with(**{path: value}).where == where


def test_bad_schemas_stop_the_start() -> None:
    """A schema that breaks the metaschema or our rules, or that does not compile, stops the start by place and rule."""
    tlp = document("common/tlp.json")
    assert built_with(**{"common/tlp.json": {**tlp, "minLength": "long"}}).where == "common/tlp.json (metaschema)"
    assert built_with(**{"common/tlp.json": {**tlp, "maxlength": 9}}).where == "common/tlp.json# (keyword)"
    backwards = {"$schema": tlp["$schema"], "type": "string", "pattern": "^[z-a]$"}
    assert built_with(**{"rumour/v1.json": backwards}).where == "rumour/v1.json (compile)"


def test_code_list_that_a_schema_contradicts_stops_the_start() -> None:
    """A closed list with one code more than the schemas repeat stops the start."""
    tlp = document("codelists/tlp.json")
    tlp["codes"].append({"code": "GREY", "label": {"en": "Grey"}, "definition": {"en": "Grey."}})
    assert built_with(**{"codelists/tlp.json": tlp}).where == "common/tlp.json (x-codelist)"


# -- looking up ------------------------------------------------------------------------------------


def test_unknown_schema_is_refused_everywhere() -> None:
    """A schema that is not in the book is refused by name, whatever is asked of it."""
    for ask in (
        lambda: book().digest(UNKNOWN),
        lambda: book().schema(UNKNOWN),
        lambda: book().part_names(UNKNOWN),
        lambda: book().part_names(HEADER),
        lambda: book().split(UNKNOWN, {}),
        lambda: book().join(UNKNOWN, {"main": {}}),
        lambda: book().check_parts(UNKNOWN, ["main"], 0),
        lambda: book().validate(UNKNOWN, {}),
        lambda: book().validate_part(UNKNOWN, "main", {}),
        lambda: book().explain(UNKNOWN, {}),
        lambda: book().unknown_codes(UNKNOWN, {}),
    ):
        with pytest.raises(PeerError) as refused:
            ask()
        assert where_of(refused, "schema.unknown") == "schema"


def test_digest_is_that_of_all_files_reached() -> None:
    """A digest changes with any byte of the schema or of a file it reaches, and with no other."""
    assert len(book().digest(REFERRAL)) == 64
    for path, changes in (
        ("case-referral/v1.json", True),
        ("common/country.json", True),
        ("victim/v1.json", False),
        ("codelists/acts.json", False),
    ):
        files = {**samples.files(), path: samples.files()[path] + b"\n"}
        assert (parse_schema_book(files).digest(REFERRAL) != book().digest(REFERRAL)) is changes


def test_parts_of_a_kind() -> None:
    """A kind's parts come in the order of its schema, main first and attachments last."""
    assert book().part_names(SchemaId("victim/v1")) == ("main", "identity", "safety", "narrative", "attachments")


def test_codes_of_a_list() -> None:
    """A list gives its codes with labels, definitions and mappings, in its order."""
    acts = book().codes("acts")
    assert list(acts)[:2] == ["recruitment", "transportation"]
    assert acts["recruitment"].label["en"] == "Recruitment"
    assert acts["recruitment"].maps["palermo"] == "recruitment"
    with pytest.raises(KeyError):
        book().codes("rumours")


# -- parts -----------------------------------------------------------------------------------------


def thirteen() -> dict[str, Any]:
    return content("case-referral", "thirteen-persons")


def test_split_and_join() -> None:
    """Content falls into its parts, the original stays as it was, and the parts give it again."""
    original = thirteen()
    parts = dict(book().split(REFERRAL, original))
    assert original == thirteen()
    assert list(parts) == ["main", "identity", "narrative"]
    assert parts["narrative"] == original["summary"]
    identity = parts["identity"]
    assert isinstance(identity, dict)
    assert identity["p1"] == original["entities"][0]["identity"]
    assert book().join(REFERRAL, parts, attachments=0) == original


def test_join_leaves_out_what_is_withheld() -> None:
    """A part that is withheld, as None or by its absence, leaves its members out and the rest in."""
    parts = dict(book().split(REFERRAL, thirteen()))
    joined = book().join(REFERRAL, {"main": parts["main"], "identity": None})
    assert joined == parts["main"]


def test_join_judges_attachments() -> None:
    """The number of attachments in the part is that of the header, and digests that are told twice agree."""
    schema_id = SchemaId("evidence/v1")
    parts: dict[str, Any] = dict(book().split(schema_id, content("evidence", "bank-statement")))
    files: Any = [*samples.attachments(), *samples.attachments()]
    assert book().join(schema_id, {**parts, "attachments": files}, attachments=2)
    assert book().join(schema_id, {**parts, "attachments": None}, attachments=2)
    with pytest.raises(PeerError) as refused:
        book().join(schema_id, {**parts, "attachments": files}, attachments=3)
    assert where_of(refused, "schema.parts") == "attachments"
    files[0]["sha256"] = "0" * 64
    with pytest.raises(PeerError) as refused:
        book().join(schema_id, {**parts, "attachments": files}, attachments=2)
    assert where_of(refused, "schema.rule") == "main/entities/0/sha256 (digests-match)"
    with pytest.raises(PeerError) as refused:
        book().join(schema_id, parts, attachments=1)
    assert where_of(refused, "schema.rule") == "main/entities/4/scan (attachments-exist)"


@pytest.mark.parametrize(
    ("names", "attachments", "fits"),
    [
        (["main", "identity", "narrative"], 0, True),
        (["main", "narrative"], 0, True),
        (["main", "narrative", "attachments"], 2, True),
        (["main", "identity"], 0, False),  # a referral cannot be without its narrative
        (["identity", "narrative"], 0, False),
        (["identity", "main", "narrative"], 0, False),
        (["main", "narrative", "narrative"], 0, False),
        (["main", "safety", "narrative"], 0, False),
        (["main", "narrative", "attachments"], 0, False),
        (["main", "narrative"], 2, False),
        (["main", "attachments", "narrative"], 1, False),
        (["header", "main", "narrative"], 0, False),
    ],
)
def test_parts_that_a_header_names(names: list[str], attachments: int, fits: bool) -> None:  # noqa: FBT001
    """A header names the parts of its schema in order, with all that are required, and attachments where there are."""
    if fits:
        book().check_parts(REFERRAL, names, attachments)
        return
    with pytest.raises(PeerError) as refused:
        book().check_parts(REFERRAL, names, attachments)
    assert where_of(refused, "schema.parts") == "header/parts"


# -- judging ---------------------------------------------------------------------------------------


def test_part_by_its_own_piece() -> None:
    """A part is judged by its piece, with place and rule; one of another name is refused."""
    parts: dict[str, Any] = dict(book().split(REFERRAL, thirteen()))
    for name, value in parts.items():
        book().validate_part(REFERRAL, name, value)
    parts["identity"]["p3"]["birth"] = {"value": "last year", "calendar": "gregorian"}
    with pytest.raises(PeerError) as refused:
        book().validate_part(REFERRAL, "identity", parts["identity"])
    assert where_of(refused, "schema.invalid") == "identity/p3/birth/value (pattern)"
    with pytest.raises(PeerError) as refused:
        book().validate_part(REFERRAL, "safety", {})
    assert where_of(refused, "schema.parts") == "part"


def test_nothing_cut_out_is_smuggled_in_main() -> None:
    """The main part with a member that makes a part of its own is refused."""
    whole = thirteen()
    main: Any = dict(book().split(REFERRAL, whole))["main"]
    with pytest.raises(PeerError) as refused:
        book().validate_part(REFERRAL, "main", {**main, "summary": whole["summary"]})
    assert where_of(refused, "schema.invalid") == "main (additionalProperties)"
    main["entities"][0]["identity"] = whole["entities"][0]["identity"]
    with pytest.raises(PeerError) as refused:
        book().validate_part(REFERRAL, "main", main)
    assert where_of(refused, "schema.invalid") == "main/entities/0 (additionalProperties)"


def test_freely_chosen_names_are_not_told() -> None:
    """A member name that the sender made up does not appear in the refusal."""
    with pytest.raises(PeerError) as refused:
        book().validate_part(REFERRAL, "identity", {"Sommut Tuayang": {"gender": 7}})
    assert where_of(refused, "schema.invalid") in {"identity (propertyNames)", "identity/*/gender (type)"}


@pytest.mark.parametrize("name", sorted(samples.HEADER))
def test_header_without_a_member(name: str) -> None:
    """A header passes; without any one of its members it does not, save the three that may be left out."""
    header = samples.header()
    book().validate_header(header)
    del header[name]
    if name in {"grading", "legal_basis", "assurances"}:
        book().validate_header(header)
        return
    with pytest.raises(PeerError) as refused:
        book().validate_header(header)
    assert where_of(refused, "schema.invalid") == "header (required)"


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        ({"purpose": "curiosity"}, "schema.code", "header/purpose (enum)"),
        ({"handling": ["H1", "H7"]}, "schema.code", "header/handling/1 (enum)"),
        ({"tlp": "WHITE"}, "schema.code", "header/tlp (enum)"),
        ({"urgency": "soon"}, "schema.code", "header/urgency (enum)"),
        ({"onward": "always"}, "schema.code", "header/onward (enum)"),
        ({"handling": []}, "schema.invalid", "header/handling (minItems)"),
        ({"assurances": {}}, "schema.invalid", "header/assurances (minProperties)"),
        ({"assurances": {"checks": []}}, "schema.invalid", "header/assurances/checks (minItems)"),
        ({"assurances": {"dual_criminality": True}}, "schema.invalid", "header/assurances/dual_criminality (type)"),
        ({"to": ["kh-fp1", "kh-fp1"]}, "schema.invalid", "header/to (uniqueItems)"),
        ({"in_reply_to": "yes"}, "schema.invalid", "header/in_reply_to (pattern)"),
        ({"written": "2026-11-23"}, "schema.invalid", "header/written (pattern)"),
        ({"note": "x"}, "schema.invalid", "header (additionalProperties)"),
        ({"retention": 0}, "schema.invalid", "header/retention (minimum)"),
        ({"attachments": 65}, "schema.invalid", "header/attachments (maximum)"),
        ({"case": ""}, "schema.invalid", "header/case (minLength)"),
    ],
)
def test_header_with_a_fault(change: dict[str, Any], code: str, where: str) -> None:
    """A header's fault is refused at its place; an unknown code that decides a rule has a code of its own."""
    with pytest.raises(PeerError) as refused:
        book().validate_header(samples.header(**change))
    assert where_of(refused, code) == where


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": "../../etc/passwd"}, "attachments/0/name (pattern)"),
        ({"name": ".bashrc"}, "attachments/0/name (pattern)"),
        ({"name": "a\nb"}, "attachments/0/name (pattern)"),
        ({"media_type": "image"}, "attachments/0/media_type (pattern)"),
        ({"len": -1}, "attachments/0/len (minimum)"),
        ({"custody": {}}, "attachments/0/custody (minProperties)"),
        ({"blob": {"h": "0" * 64, "key": "A" * 42 + "B=", "len": 1}}, "attachments/0/blob/key (pattern)"),
    ],
)
def test_attachments(change: dict[str, Any], where: str) -> None:
    """Attachments pass and are returned; a path for a name, a key with stray bits and the like are refused."""
    part: Any = samples.attachments()
    assert book().validate_attachments(part) == tuple(part)
    with pytest.raises(PeerError) as refused:
        book().validate_attachments([{**samples.attachments()[0], **change}])
    assert where_of(refused, "schema.invalid") == where
    with pytest.raises(PeerError):
        book().validate(ATTACHMENTS, [])


def draft(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - a draft with any member made wrong
    path = samples.SCHEMAS / "case-referral" / "examples" / "online-scam-compound.json"
    return {**samples.load(path), **changes}


def test_draft_with_one_handling_code_or_several() -> None:
    """An officer writes one handling code as a text, or several as a list."""
    assert book().cut_draft(draft(handling="H1"))[0] == REFERRAL
    assert book().cut_draft(draft(handling=["H0", "H3"], in_reply_to=None))[0] == REFERRAL
    with pytest.raises(PeerError) as refused:
        book().cut_draft(draft(handling="H9"))
    assert where_of(refused, "schema.code") == "/handling (enum)"


def test_draft_of_an_unknown_kind() -> None:
    """A draft of a kind that is not known is refused, and explained with the kinds there are."""
    with pytest.raises(PeerError) as refused:
        book().cut_draft(draft(kind="rumour"))
    assert where_of(refused, "schema.unknown") == "kind"
    (problem,) = book().explain(DRAFT, draft(kind="rumour"))
    assert (problem.path, problem.rule) == ("/kind", "kind")
    assert "case-referral" in problem.expected


def test_draft_with_too_few_attachments() -> None:
    """An index is judged against the number of files once it is known, at its place in the uncut content."""
    schema_id = SchemaId("victim/v1")
    path = samples.SCHEMAS / "victim" / "examples" / "exception-danger-to-life.json"
    assert book().cut_draft(samples.load(path))[0] == schema_id
    assert book().cut_draft(samples.load(path), attachments=1)[0] == schema_id
    with pytest.raises(PeerError) as refused:
        book().cut_draft(samples.load(path), attachments=0)
    assert where_of(refused, "schema.rule") == "/content/entities/0/identity/photos/0 (attachments-exist)"


def test_id_used_twice_is_told_as_such() -> None:
    """Content in which an id is used twice cannot be cut, and is refused for the id."""
    twice = draft()
    twice["content"]["entities"][1]["id"] = "p1"
    twice["content"]["links"] = []
    with pytest.raises(PeerError) as refused:
        book().cut_draft(twice)
    assert where_of(refused, "schema.rule") == "/content/entities/1/id (ids-unique)"
    (problem,) = book().explain(DRAFT, twice)
    assert (problem.path, problem.rule) == ("/content/entities/1/id", "ids-unique")


def test_explanation_of_whole_values() -> None:
    """Content is explained with its rules, a frame without, and what is valid needs no explanation."""
    whole = thirteen()
    assert book().explain(REFERRAL, whole) == ()
    whole["links"][0]["to"] = "p99"
    (problem,) = book().explain(REFERRAL, whole)
    assert problem == ("/links/0/to", "ids-resolve", "the id of an entity of the statement")
    assert book().explain(HEADER, samples.header()) == ()
    assert [item.rule for item in book().explain(HEADER, samples.header(tlp="WHITE"))] == ["enum"]


def test_narrative_breach_is_told_at_its_member() -> None:
    """A rule broken inside a part of a root member is told at that member of the content."""
    answer = content("information-response", "answered")
    answer["answers"][1]["about"] = ["p99"]
    (problem,) = book().explain(SchemaId("information-response/v1"), answer)
    assert problem.path == "/answers/1/about/0"


# -- codes -----------------------------------------------------------------------------------------


def test_unknown_content_code_warns_and_survives() -> None:
    """A code that an open list does not have is valid, reported with its place and list, and kept as it is."""
    whole = thirteen()
    whole["acts"].append("teleportation")
    whole["entities"][10]["perpetrator_roles"] = ["controlled", "wizard"]
    whole["summary"]["lang"] = "shn"
    book().validate(REFERRAL, whole)
    assert sorted(book().unknown_codes(REFERRAL, whole)) == [
        ("/acts/2", "acts"),
        ("/entities/10/perpetrator_roles/1", "perpetrator_roles"),
        ("/summary/lang", "languages"),
    ]
    assert book().join(REFERRAL, dict(book().split(REFERRAL, whole)))["acts"] == whole["acts"]


# -- nothing is fetched ----------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["file:///etc/hostname", "http://127.0.0.1:9/person.json", "person.json"])
def test_validator_fetches_nothing(ref: str) -> None:
    """The validator refuses a reference that it would have to read from a disk or a network."""
    with pytest.raises(jsonschema_rs.ValidationError, match=r"Retrieval is disabled|No base URI"):
        compile_schema({"$ref": ref})


def test_validator_has_no_backtracking() -> None:
    """The validator's patterns are linear: what needs backtracking is not compiled."""
    with pytest.raises(jsonschema_rs.ValidationError, match="regex"):
        compile_schema({"pattern": "^(?=a)a$"})


def test_a_mebibyte_of_faults_costs_little_memory() -> None:
    """The first fault is told without making them all: a peer's message could otherwise take gigabytes."""
    program = (
        "import resource\n"
        "from exchange.core.errors import PeerError\n"
        "from tests.core.test_schemas import book\n"
        "schemas = book()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for judge, value in ((schemas.validate_header, {'refers_to': [1] * 500_000}),"
        " (schemas.validate_attachments, [{}] * 300_000)):\n"
        "    try:\n"
        "        judge(value)\n"
        "    except PeerError as error:\n"
        "        print(error.code)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second, kibibytes = done.stdout.split()
    assert (first, second) == ("schema.invalid", "schema.invalid")
    assert int(kibibytes) < 256 * 1024


def test_members_that_a_part_takes_out_are_named() -> None:
    """A part of items names list and member, one of the content its member, the files themselves."""
    assert book().part_fields(REFERRAL, "identity") == ("entities[].identity",)
    assert book().part_fields(REFERRAL, "narrative") == ("summary",)
    assert book().part_fields(REFERRAL, "attachments") == ("attachments",)
