"""Every fault of an agreement, for the people who write and sign it: where, which rule, what is expected.

Rules:
1. First the form, by schemas/agreement; then what only reading finds; then the lint. A later look would mislead while
   an earlier one still finds something.
2. What is found here is refused by the reader and the lint as well: this page only tells all of it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exchange.cli import output
from exchange.core import wire
from exchange.core.agreement_lint import check_agreement, find_faults
from exchange.core.agreements import read_agreement
from exchange.core.errors import CODES, PeerError
from exchange.core.schemas import Problem
from exchange.core.wire import SchemaId

if TYPE_CHECKING:
    from exchange.cli.settings import Settings
    from exchange.core.schemas import SchemaBook
    from exchange.core.wire import UnverifiedDocument

AGREEMENT: Final = SchemaId("agreement/v1")


def find_agreement_problems(book: SchemaBook, document: UnverifiedDocument) -> tuple[Problem, ...]:
    """Every fault of a draft or signed document."""
    payload = wire.parse_json(document.payload, max_bytes=wire.MAX_DOCUMENT_BYTES)
    if problems := book.explain(AGREEMENT, payload):
        return problems
    try:
        agreement = read_agreement(document)
    except PeerError as error:
        return (Problem(error.where, error.code, CODES[error.code].what),)
    return tuple(Problem(fault.clause, fault.rule, fault.what) for fault in find_faults(agreement, book))


def refuse_faulty(said: Settings, data: bytes) -> int | None:
    """Tell every fault of an agreement and give the exit code; None where there is none, or it is no agreement."""
    from exchange.cli.provision import parse_draft
    from exchange.cli.schema import problems_to_json, show_problems
    from exchange.cli.wiring import schema_book

    book = schema_book()
    try:
        document = parse_draft(data)
        if document.payload_type != wire.DocumentType.AGREEMENT:
            return None
        problems = find_agreement_problems(book, document)
    except PeerError:
        return None  # whoever reads it next says what it is not
    if not problems:
        return None
    error = PeerError("agreement.malformed", f"{problems[0].path or '/'} ({problems[0].rule})")
    try:
        check_agreement(read_agreement(document), book)
    except PeerError as first:
        error = first
    code = output.fail(said, error, {"problems": problems_to_json(problems)})
    if not said.as_json:
        show_problems(problems)
    return code
