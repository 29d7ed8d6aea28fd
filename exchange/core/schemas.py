"""The agreed message schemas: what a statement may say, and the parts it falls into.

Implements docs/protocol.md section 5.2 (schemas) and step R17. A ``SchemaBook`` is built once from the
files of schemas/ and never changes; its validators are jsonschema-rs, its explanations jsonschema.

Rules:
1. Schemas are checked before use: metaschema, ``core.schema_lint``, code lists, parts. A bad one stops the start.
2. Nothing is ever fetched: references are put in place when the book is built, and both validators are given an
   empty registry; jsonschema-rs is told to stay offline besides, as it reads files and URLs by default.
3. A refusal names the place and the rule, never a value. A step of the path that is no member name of our schemas
   and no entity id is shown as ``*``, because the sender chose it.
4. Content is cut into parts by the annotation ``x-parts``; each part has a piece of the schema of its own, so that a
   withheld part leaves the rest checkable. ``join`` is the exact inverse of ``split``.
5. An unknown code of an open list is a warning (``unknown_codes``); of a closed list, which decides rules, a refusal.

What it does not do: decide whether an agreement permits what is valid (``core.agreements``).

Length: one class, which builds, cuts and judges by the same pieces.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import jsonschema_rs

from exchange.core.errors import LocalError, PeerError
from exchange.core.schema_codes import CodeEntry, CodeList, check_codes, parse_code_list
from exchange.core.schema_explain import Problem, explain, show_place
from exchange.core.schema_lint import (
    bundle_digest,
    bundle_paths,
    inline_schema,
    parse_object,
    parse_schema,
    subschemas,
)
from exchange.core.schema_parts import Cut, cut_schema, join_content, parse_cuts, split_content
from exchange.core.schema_rules import EXPECTED, find_breaches
from exchange.core.wire import Digest, JsonObject, JsonValue, SchemaId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CodeEntry", "Problem", "SchemaBook", "compile_schema", "parse_schema_book"]

HEADER: Final = SchemaId("header/v1")
ATTACHMENTS: Final = SchemaId("attachments/v1")
DRAFT: Final = SchemaId("draft/v1")
CODE_LIST: Final = SchemaId("codelist/v1")

_DOCUMENT: Final = re.compile(r"(?:common/[a-z0-9-]{1,48}|[a-z][a-z-]{0,47}/v[1-9][0-9]{0,3})\.json")
_LIST: Final = re.compile(r"codelists/[a-z0-9_]{1,64}\.json")
_EXAMPLE: Final = re.compile(r"[a-z][a-z-]{0,47}/examples/[a-z0-9-]{1,64}\.json")
_NO_REGISTRY: Final = jsonschema_rs.Registry([])


def compile_schema(schema: JsonObject) -> jsonschema_rs.Draft202012Validator:
    """The validator exactly as the path of the node uses it. Raises ``ValueError`` on what it cannot compile.

    Offline with an empty registry (left alone it would read URLs and files), the regular-expression engine that is
    linear by construction, formats as annotations only, values masked in messages that nobody reads anyway.
    """
    return jsonschema_rs.Draft202012Validator(
        schema,
        validate_formats=False,
        offline=True,
        registry=_NO_REGISTRY,
        pattern_options=jsonschema_rs.RegexOptions(),
        mask="*",
    )


class _Piece:
    """A schema with its references in place, and its validator."""

    __slots__ = ("_validate", "names", "schema", "validator")

    def __init__(self, schema: JsonObject, names: frozenset[str]) -> None:
        self.schema = schema
        self.names = names
        self.validator = compile_schema(schema)
        self._validate = self.validator.validate

    def refusal(self, value: JsonValue, where: str) -> PeerError | None:
        """None, or the first fault.

        The first alone: to list them, jsonschema-rs makes them all before it gives one, which for a mebibyte of faults
        takes seconds and a gigabyte. It is returned, not raised here: an exception raised while jsonschema-rs's own is
        handled would carry that one, and with it the value, as its context.
        """
        fault: jsonschema_rs.ValidationError | None = None
        try:
            self._validate(value)
        except jsonschema_rs.ValidationError as error:
            fault = error
        if fault is None:
            return None
        rule = fault.kind.name
        code = "schema.code" if rule == "enum" and self._is_code(fault.schema_path) else "schema.invalid"
        return PeerError(code, f"{where}{show_place(fault.instance_path, self.names)} ({rule})")

    def _is_code(self, schema_path: Sequence[str | int]) -> bool:
        node: Any = self.schema
        for step in schema_path[:-1]:
            node = node[step]
        return "x-codelist" in node


class _Kind(NamedTuple):
    cuts: tuple[Cut, ...]
    pieces: Mapping[str, _Piece]


class SchemaBook:
    """All agreed schemas and code lists of one node. Immutable; safe to share between tasks and threads.

    ``kinds``: the schemas of statements. ``code_lists``: the names of the lists.
    """

    __slots__ = ("_digests", "_kinds", "_lists", "_newest", "_roots", "code_lists", "kinds")

    def __init__(
        self,
        roots: Mapping[SchemaId, _Piece],
        kinds: Mapping[SchemaId, _Kind],
        digests: Mapping[SchemaId, Digest],
        lists: Mapping[str, CodeList],
    ) -> None:
        self._roots = roots
        self._kinds = kinds
        self._digests = digests
        self._lists = lists
        self.kinds = tuple(sorted(kinds, key=_by_version))
        self._newest = {kind.split("/")[0]: kind for kind in self.kinds}
        self.code_lists = tuple(sorted(lists))

    # -- what there is -----------------------------------------------------------------------------

    def newest(self, kind: str) -> SchemaId:
        """The newest schema of a kind, for example ``case-referral/v1``. Raises schema.unknown."""
        if kind not in self._newest:
            raise PeerError("schema.unknown", "kind")
        return self._newest[kind]

    def digest(self, schema_id: SchemaId) -> Digest:
        """The digest that headers and agreements pin: of the schema and all it references.

        SHA-256 over what ``sha256sum`` prints for the schema's file and every file that it reaches by ``$ref``,
        sorted by path from schemas/: anybody can recompute it without our program.

        Code lists are left out: a new content code, or a label in another language, must not break an agreement, and
        an unknown content code survives anyway. Closed lists are in, because the schemas repeat their codes.
        """
        self._root(schema_id)
        return self._digests[schema_id]

    def schema(self, schema_id: SchemaId, part: str | None = None) -> JsonObject:
        """The schema with its references in place, or the piece of it that judges one part."""
        return self._root(schema_id).schema if part is None else self._piece(schema_id, part).schema

    def part_names(self, schema_id: SchemaId) -> tuple[str, ...]:
        """The parts that a statement of this kind may fall into, in their order, ``attachments`` last."""
        return (*self._kind(schema_id).pieces, "attachments")

    def codes(self, list_name: str) -> Mapping[str, CodeEntry]:
        """The codes of a list, in its order. ``KeyError`` on a list that is not ours."""
        return self._lists[list_name].codes

    def part_fields(self, schema_id: SchemaId, part: str) -> tuple[str, ...]:
        """The members of the content that a part takes out of it, for example ``entities[].identity``."""
        cuts = [cut for cut in self._kind(schema_id).cuts if cut.part == part]
        return tuple(cut.member if cut.each is None else f"{cut.each}[].{cut.member}" for cut in cuts) or (part,)

    def _root(self, schema_id: SchemaId) -> _Piece:
        if schema_id not in self._roots:
            raise PeerError("schema.unknown", "schema")
        return self._roots[schema_id]

    def _kind(self, schema_id: SchemaId) -> _Kind:
        if schema_id not in self._kinds:
            raise PeerError("schema.unknown", "schema")
        return self._kinds[schema_id]

    def _piece(self, schema_id: SchemaId, part: str) -> _Piece:
        pieces = self._kind(schema_id).pieces
        if part not in pieces:
            raise PeerError("schema.parts", "part")
        return pieces[part]

    # -- parts -------------------------------------------------------------------------------------

    def split(self, schema_id: SchemaId, content: JsonObject) -> tuple[tuple[str, JsonValue], ...]:
        """Cut content into (part, value), ``main`` first; a part that would be empty is not there.

        Raises schema.parts where the cut would not be reversible: an entity without id, or an id used twice.
        """
        return split_content(self._kind(schema_id).cuts, content)

    def join(
        self, schema_id: SchemaId, parts: Mapping[str, JsonValue | None], attachments: int | None = None
    ) -> JsonObject:
        """Put content together again from valid parts, and judge what lies between them (``core.schema_rules``).

        A part that is None or missing is withheld and leaves its members out. ``attachments`` is their number by the
        header, withheld or not; None where it is not known. The attachments part itself may be among ``parts``: then
        digests are compared. Raises schema.rule, and schema.parts: no main part, a part of another name, one that
        says what main says already or speaks of an entity that main does not have, another number of attachments.
        """
        files = parts.get("attachments")
        if isinstance(files, list) and len(files) != attachments:
            raise PeerError("schema.parts", "attachments")
        content = join_content(
            self._kind(schema_id).cuts, {name: value for name, value in parts.items() if name != "attachments"}
        )
        for breach in find_breaches(schema_id.split("/")[0], parts, attachments):
            raise PeerError("schema.rule", f"{breach.part}{breach.path} ({breach.rule})")
        return content

    def check_parts(self, schema_id: SchemaId, names: Sequence[str], attachments: int) -> None:
        """Hold the parts that a header names against its schema. Raises schema.parts.

        They must be parts of the schema in its order, with every part that content of this kind cannot be without
        (withheld or not), and ``attachments`` last exactly where there are some.
        """
        kind = self._kind(schema_id)
        required = {"main", *(cut.part for cut in kind.cuts if cut.required)}
        allowed = list(kind.pieces)
        if attachments:
            required.add("attachments")
            allowed.append("attachments")
        if list(names) != [part for part in allowed if part in names] or not required <= set(names):
            raise PeerError("schema.parts", "header/parts")

    # -- judging -----------------------------------------------------------------------------------

    def validate(self, schema_id: SchemaId, value: JsonValue, where: str = "") -> None:
        """Judge a whole value: a kind's uncut content, a header, an agreement. Raises schema.invalid, schema.code."""
        if refusal := self._root(schema_id).refusal(value, where):
            raise refusal

    def validate_part(self, schema_id: SchemaId, part_name: str, value: JsonValue) -> None:
        """Judge one part by its piece of the schema. Raises schema.invalid, schema.code, schema.parts."""
        if refusal := self._piece(schema_id, part_name).refusal(value, part_name):
            raise refusal

    def validate_attachments(self, value: JsonValue) -> tuple[JsonObject, ...]:
        """Judge the attachments part and return its items. Raises schema.invalid."""
        self.validate(ATTACHMENTS, value, "attachments")
        return tuple(cast("list[JsonObject]", value))

    def validate_header(self, value: JsonValue) -> None:
        """Judge the form of part 0. Raises schema.invalid, schema.code.

        Whether its schema is known and of the digest named, and whether its parts fit (``check_parts``), is asked at
        a later step, by ``digest``.
        """
        self.validate(HEADER, value, "header")

    def cut_draft(
        self, value: JsonValue, attachments: int | None = None
    ) -> tuple[SchemaId, tuple[tuple[str, JsonValue], ...]]:
        """Judge what an officer wrote, frame, content and rules; the schema of its kind, and its content's parts.

        ``attachments`` is the number of files that go with it, None where that is not known yet.
        Raises schema.invalid, schema.code, schema.unknown, schema.rule.
        """
        self.validate(DRAFT, value)
        draft = cast("dict[str, Any]", value)
        schema_id = self.newest(draft["kind"])
        content = draft["content"]
        self.validate(schema_id, content, "/content")
        parts = self._cut(schema_id, content)
        for problem in self._breaches(schema_id, content, parts, attachments):
            raise PeerError("schema.rule", f"/content{problem.path} ({problem.rule})")
        return schema_id, parts

    def explain(self, schema_id: SchemaId, value: JsonValue) -> tuple[Problem, ...]:
        """Every fault of a whole value, for a person: of a kind's content with its rules, of a draft with both.

        Milliseconds to seconds, by the size of the value: not for the path of the node.
        """
        root = self._root(schema_id)
        if problems := explain(root.schema, value, root.names):
            return problems
        if schema_id in self._kinds:
            content = cast("JsonObject", value)
            return self._breaches(schema_id, content, self._cut(schema_id, content), None)
        if schema_id == DRAFT:
            draft = cast("dict[str, Any]", value)
            if draft["kind"] not in self._newest:
                return (Problem("/kind", "kind", f"one of {', '.join(self._newest)}"),)
            inner = self.explain(self._newest[draft["kind"]], draft["content"])
            return tuple(problem._replace(path=f"/content{problem.path}") for problem in inner)
        return ()

    def _cut(self, schema_id: SchemaId, content: JsonObject) -> tuple[tuple[str, JsonValue], ...]:
        """The parts of valid content, broken rules or not."""
        try:
            return self.split(schema_id, content)
        except PeerError:  # an id used twice, so that the parts could not be joined again: the rule names it
            return (("main", content),)

    def _breaches(
        self,
        schema_id: SchemaId,
        content: JsonObject,
        parts: tuple[tuple[str, JsonValue], ...],
        attachments: int | None,
    ) -> tuple[Problem, ...]:
        """The rules that valid content breaks, at their places in the content."""
        breaches = tuple(find_breaches(schema_id.split("/")[0], dict(parts), attachments))
        if not breaches:
            return ()
        entities = cast("list[dict[str, Any]]", content["entities"])
        index = {entity["id"]: str(position) for position, entity in enumerate(entities)}
        cuts = {cut.part: cut for cut in self._kind(schema_id).cuts}
        problems: list[Problem] = []
        for breach in breaches:
            path = breach.path
            if breach.part != "main":
                cut = cuts[breach.part]
                _, _, rest = path[1:].partition("/")
                owner = index.get(path.split("/")[1], "*")
                path = f"/{cut.member}{path}" if cut.each is None else f"/{cut.each}/{owner}/{cut.member}/{rest}"
            problems.append(Problem(path.rstrip("/"), breach.rule, EXPECTED[breach.rule]))
        return tuple(problems)

    def unknown_codes(self, schema_id: SchemaId, value: JsonValue) -> tuple[tuple[str, str], ...]:
        """(JSON Pointer, list) of every code that our list does not have, in a valid whole value; warnings only.

        The annotations are collected by the validator, so that ``if`` and ``$ref`` are followed as the standard says.
        """
        unknown: list[tuple[str, str]] = []
        for item in self._root(schema_id).validator.evaluate(value).annotations():
            annotation = item["annotations"]
            if isinstance(annotation, dict) and "x-codelist" in annotation:
                name = str(annotation["x-codelist"])
                if _at(value, item["instanceLocation"]) not in self._lists[name].codes:
                    unknown.append((item["instanceLocation"], name))
        return tuple(unknown)


def _at(value: JsonValue, pointer: str) -> JsonValue:
    """The value at a JSON Pointer that the validator gave, so it exists; member names of ours need no unescaping."""
    node: Any = value
    for step in pointer.split("/")[1:]:
        node = node[int(step)] if isinstance(node, list) else node[step]
    return cast("JsonValue", node)


# -- building the book -----------------------------------------------------------------------------


def parse_schema_book(files: Mapping[str, bytes]) -> SchemaBook:
    """Read and check all schemas and code lists, by path from schemas/ (examples are passed over).

    Raises ``LocalError`` schema.unsafe with the file, the place in it and the rule broken: a node whose schemas are
    damaged does not start.
    """
    for path in files:
        if not (_DOCUMENT.fullmatch(path) or _LIST.fullmatch(path) or _EXAMPLE.fullmatch(path)):
            raise LocalError("schema.unsafe", f"{path} (file)")
    documents = {path: parse_schema(path, files[path]) for path in sorted(files) if _DOCUMENT.fullmatch(path)}
    names = frozenset(
        name for schema in documents.values() for node in subschemas(schema) for name in node.get("properties", ())
    )
    roots: dict[SchemaId, _Piece] = {}
    kinds: dict[SchemaId, _Kind] = {}
    digests: dict[SchemaId, Digest] = {}
    for path in documents:
        if path.startswith("common/"):
            continue
        schema_id = SchemaId(path.removesuffix(".json"))
        digests[schema_id] = bundle_digest(bundle_paths(path, documents), files)
        schema = inline_schema(path, documents)
        roots[schema_id] = _compile(path, schema, names)
        if "x-parts" in schema:
            cuts = parse_cuts(path, schema)
            pieces = cut_schema(path, schema, cuts)
            kinds[schema_id] = _Kind(cuts, {part: _compile(path, piece, names) for part, piece in pieces.items()})
    for needed in (HEADER, ATTACHMENTS, DRAFT, CODE_LIST):
        if needed not in roots:
            raise LocalError("schema.unsafe", f"{needed}.json (missing)")
    lists = _parse_lists(files, roots[CODE_LIST])
    for path, schema in documents.items():
        check_codes(path, schema, lists)
    return SchemaBook(roots, kinds, digests, lists)


def _compile(path: str, schema: JsonObject, names: frozenset[str]) -> _Piece:
    try:
        return _Piece(schema, names)
    except ValueError:  # for example a range in a pattern that runs backwards
        raise LocalError("schema.unsafe", f"{path} (compile)") from None


def _parse_lists(files: Mapping[str, bytes], judge: _Piece) -> dict[str, CodeList]:
    lists: dict[str, CodeList] = {}
    for path in sorted(files):
        if _LIST.fullmatch(path):
            document = parse_object(path, files[path])
            if refusal := judge.refusal(document, f"{path}#"):
                raise LocalError("schema.unsafe", refusal.where)
            lists[path.removeprefix("codelists/").removesuffix(".json")] = parse_code_list(path, document)
    return lists


def _by_version(schema_id: SchemaId) -> tuple[str, int]:
    kind, _, version = schema_id.partition("/v")
    return kind, int(version)
