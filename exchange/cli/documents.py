"""Documents as files: read within bounds, shown before they are trusted, written without losing another one.

Rule: reading a card or an agreement here believes nothing; only installing one verifies it.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from exchange.cli import output
from exchange.core import wire
from exchange.core.agreements import URGENCY
from exchange.core.errors import LocalError, PeerError

if TYPE_CHECKING:
    from exchange.cli.settings import Settings
    from exchange.core.agreements import Agreement, Clause
    from exchange.core.keys import Card
    from exchange.core.officers import OfficerList
    from exchange.core.suspensions import Suspension
    from exchange.core.wire import JsonObject, JsonValue, UnverifiedDocument

STANDARD: Final = "-"


# -- files -----------------------------------------------------------------------------------------


def read_input(name: str, max_bytes: int) -> bytes:
    """A file, or standard input for ``-``. Raises ``LocalError`` input.not_found, ``PeerError`` wire.too_large."""
    try:
        if name == STANDARD:
            data = sys.stdin.buffer.read(max_bytes + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(max_bytes + 1)
    except OSError:
        raise LocalError("input.not_found", Path(name).name) from None
    if len(data) > max_bytes:
        raise PeerError("wire.too_large", f"{Path(name).name}: at most {max_bytes} bytes")
    return data


def parse_input(name: str, max_bytes: int) -> JsonValue:
    """The JSON in a file; an error names the file too."""
    data = read_input(name, max_bytes)
    try:
        return wire.parse_json(data, max_bytes=max_bytes)
    except PeerError as error:
        raise PeerError(error.code, f"{Path(name).name}: {error.where}".removesuffix(": ")) from None


def write_output(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """A new file, whole or not at all, never over an existing one. Raises ``LocalError`` input.exists, node.disk."""
    with NewFile(path, mode=mode) as file:
        file.write(data)
        file.keep()


class NewFile:
    """A file that has no name before ``keep``; used in a ``with`` block, it leaves nothing behind otherwise."""

    def __init__(self, path: Path, *, mode: int = 0o600) -> None:
        if path.exists() or path.is_symlink():
            raise LocalError("input.exists", path.name)
        self._path = path
        self._draft: Path | None = None
        folder = path.parent
        try:
            # Unnamed: a crash leaves nothing, and nobody sees evidence that is not whole.
            self._file = os.open(folder, os.O_TMPFILE | os.O_WRONLY, mode)
        except (FileNotFoundError, NotADirectoryError):
            raise LocalError("input.not_found", "the folder above the file") from None
        except OSError:
            self._open_draft(mode)

    def _open_draft(self, mode: int) -> None:
        """Where the file system knows no unnamed files, a hidden one beside the place."""
        self._draft = self._path.with_name(f".{self._path.name}.{os.getpid()}.partial")
        try:
            self._file = os.open(self._draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        except OSError:
            raise LocalError("node.disk", self._path.name) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        if self._draft is not None:
            with suppress(OSError):
                self._draft.unlink()

    def write(self, data: bytes) -> None:
        """Append. Raises ``LocalError`` node.disk."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            raise LocalError("node.disk", self._path.name) from None

    def keep(self) -> None:
        """Give the file its name; on return it is on stable storage. Raises ``LocalError`` input.exists, node.disk."""
        try:
            os.fsync(self._file)
            if self._draft is None:
                # A folder's descriptor makes this linkat(2), which alone can follow the link to an unnamed file.
                unnamed = f"/proc/self/fd/{self._file}"
                os.link(unnamed, self._path, src_dir_fd=self._file, follow_symlinks=True)
            else:
                os.link(self._draft, self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            raise LocalError("input.exists", self._path.name) from None
        except OSError:
            raise LocalError("node.disk", self._path.name) from None


def is_private(path: Path) -> bool:
    """Whether only its owner can read a file."""
    return not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)


# -- cards and agreements --------------------------------------------------------------------------


def parse_signed(name: str, *kinds: str) -> tuple[bytes, UnverifiedDocument]:
    """The signed document of one of these kinds in a file.

    The strict reader knows only that a file is no signed document; here somebody chose the file, perhaps a wrong one.
    Raises ``PeerError``: input.unsigned, input.not_document, wire.*.
    """
    from exchange.cli.provision import parse_draft

    data = read_input(name, wire.MAX_DOCUMENT_BYTES)
    try:
        document = wire.parse_signed_document(data)
    except PeerError:
        if parse_draft(data).signatures:
            raise
        raise PeerError("input.unsigned", Path(name).name) from None
    if document.payload_type not in kinds:
        raise PeerError("wire.wrong_type", "document.payloadType")
    return data, document


def card_to_json(card: Card, signatures: int) -> JsonObject:
    """A card that nobody has verified yet, or its draft."""
    from exchange.node.reports import personnel_of

    return {
        "node": card.node,
        "country": card.country,
        "network": card.network,
        "agency": dict(card.agency),
        "version": card.version,
        "issued": wire.encode_time(card.issued),
        "expires": wire.encode_time(card.expires),
        "fingerprint": card.authority.fingerprint,
        "threshold": card.authority.threshold,
        "authority_keys": len(card.authority.keys),
        "personnel": personnel_of(card),
        "digest": card.digest,
        "endpoints": list(card.endpoints),
        "reach": card.reach,
        "duty_desk": card.duty_desk,
        "signatures": signatures,
    }


def officers_to_json(listed: OfficerList, signatures: int) -> JsonObject:
    """A list of officers that nobody has verified yet, or its draft."""
    return {
        "node": listed.node,
        "network": listed.network,
        "serial": listed.serial,
        "issued": wire.encode_time(listed.issued),
        "officers": [{"id": item.key.id, "roles": [*sorted(item.roles)]} for item in listed.officers],
        "digest": listed.digest,
        "signatures": signatures,
    }


def show_card(card: JsonObject) -> None:
    """A card for people."""
    threshold = f"{output.text_of(card['threshold'])} of {output.text_of(card['authority_keys'])} keys"
    output.pairs(
        [
            ("node", output.text_of(card["node"])),
            ("country", output.text_of(card["country"])),
            ("agency", output.text_of(card["agency"])),
            ("version", output.text_of(card["version"])),
            ("issued", output.text_of(card["issued"])),
            ("expires", output.text_of(card["expires"])),
            ("endpoints", output.text_of(card["endpoints"])),
            ("duty desk", output.text_of(card["duty_desk"])),
            ("authority", threshold),
            ("personnel", output.text_of(card.get("personnel"))),
            ("signatures", output.text_of(card.get("signatures"))),
            ("blocked", "yes" if card.get("blocked") else ""),
        ]
    )
    show_fingerprint(str(card["fingerprint"]))


def show_fingerprint(digest: str, which: str = "") -> None:
    """What two people compare by voice."""
    output.line(f"fingerprint of the authority {which}(compare it by voice):")
    for row in output.fingerprint(digest).splitlines():
        output.line(f"    {row}")


def agreement_to_json(agreement: Agreement, signatures: int) -> JsonObject:
    """An agreement that nobody has verified yet, or its draft."""
    return {
        "id": agreement.id,
        "version": agreement.version,
        "network": agreement.network,
        "title": dict(agreement.title),
        "parties": [party.node for party in agreement.parties],
        "valid_from": wire.encode_time(agreement.valid_from),
        "valid_until": wire.encode_time(agreement.valid_until),
        "clauses": [clause.id for clause in agreement.clauses],
        "prohibitions": [rule.id for rule in agreement.prohibitions],
        "digest": agreement.digest,
        "signatures": signatures,
    }


def show_agreement(agreement: Agreement, facts: JsonObject) -> None:
    """An agreement for people, clause by clause."""
    output.pairs(
        [
            ("agreement", f"{agreement.id}/{agreement.version}"),
            ("title", output.text_of(dict(agreement.title))),
            *(
                ("legal basis", f"{output.text_of(dict(basis.title))}, {basis.article}, {basis.date}")
                for basis in agreement.legal_basis
            ),
            ("parties", ", ".join(party.node for party in agreement.parties)),
            ("in force", f"{wire.encode_time(agreement.valid_from)} to {wire.encode_time(agreement.valid_until)}"),
            ("signatures", output.text_of(facts.get("signatures"))),
            ("digest", agreement.digest),
        ]
    )
    for party in agreement.parties:
        show_fingerprint(party.authority, f"that signs for {party.node} ")
    for clause in agreement.clauses:
        output.line()
        output.paragraph(f"{clause.id}: {output.text_of(dict(clause.text))}")
        output.pairs([(f"    {name}", value) for name, value in _conditions(clause)])
    for rule in agreement.prohibitions:
        output.line()
        output.paragraph(f"{rule.id} (prohibition): {output.text_of(dict(rule.text))}")
        content = f"matches {rule.content.text}" if rule.content else ""
        conditions = (("kinds", ", ".join(rule.kinds)), ("purposes", ", ".join(rule.purposes)), ("content", content))
        output.pairs([(f"    {name}", value) for name, value in conditions])


def notice_to_json(notice: Suspension, signatures: int) -> JsonObject:
    """A notice that nobody has verified yet, or its draft."""
    return {
        "agreement": notice.agreement,
        "party": notice.party,
        "network": notice.network,
        "serial": notice.serial,
        "action": notice.action.value,
        "time": wire.encode_time(notice.time),
        "reason": dict(notice.reason),
        "others_continue": notice.others_continue,
        "digest": notice.digest,
        "signatures": signatures,
    }


def show_notice(facts: JsonObject) -> None:
    """A notice for people."""
    output.pairs(
        [
            ("notice", f"{facts['action']} {facts['agreement']}"),
            ("by", f"{output.text_of(facts['party'])}, number {output.text_of(facts['serial'])}"),
            ("time", output.text_of(facts["time"])),
            ("reason", output.text_of(facts["reason"])),
            ("others", "go on" if facts["others_continue"] else "stop as well"),
            ("signatures", output.text_of(facts["signatures"])),
        ]
    )


def _conditions(clause: Clause) -> list[tuple[str, str]]:
    return [
        ("kinds", ", ".join(clause.kinds)),
        ("from", ", ".join(clause.sender)),
        ("to", ", ".join(clause.recipients)),
        ("purposes", ", ".join(clause.purposes)),
        ("handling", ", ".join(sorted(clause.handling))),
        ("TLP", f"at most {clause.tlp}"),
        ("urgency", ", ".join(_urgency(clause))),
        ("evidence", f"at most {clause.max_blobs} files, {clause.max_blob_bytes} bytes"),
        ("retention", f"at most {clause.retention_days} days"),
        ("consent", "required of every victim, or a named exception" if clause.consent else ""),
        ("checks", ", ".join(clause.checks)),
        ("dual criminality", "must be stated" if clause.dual_criminality else ""),
        ("child safeguards", "must be stated where a person may be a child" if clause.child_safeguards else ""),
        ("approvals", _approvals(clause)),
        ("withheld", ", ".join(clause.withhold)),
        ("onward", " ".join((clause.onward.use, *clause.onward.parties))),
        ("quota", "" if clause.quota_per_day is None else f"{clause.quota_per_day} a day"),
        ("content", f"must match {clause.content.text}" if clause.content else ""),
    ]


def _urgency(clause: Clause) -> list[str]:
    """The urgency classes permitted, in the order of the list, each with the time to answer."""
    return [
        code + (f" (answer within {clause.respond_within[code]} h)" if code in clause.respond_within else "")
        for code in URGENCY
        if code in clause.urgency
    ]


def _approvals(clause: Clause) -> str:
    asked = clause.approvals
    if not asked.count:
        return ""
    return f"{asked.count} officers" + (f", {asked.supervisors} of them supervisors" if asked.supervisors else "")


def know_network(said: Settings, network: str) -> None:
    """Remember the network of a document, where no home told it."""
    said.network = said.network or network
