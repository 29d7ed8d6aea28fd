"""``exchange audit`` and ``exchange verify``: what can be proved, to others and to oneself.

Rules:
1. Exporting and checking an export need no passphrase, and exporting works beside a running node.
2. ``verify`` writes nothing; with the passphrase it opens every stored message as well. It never asks for it: a
   check that runs at night has nobody to ask.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from exchange.cli import output
from exchange.cli.settings import Settings, common, passphrase_source, read_passphrase, settings

if TYPE_CHECKING:
    from exchange.adapters.config import Config
    from exchange.adapters.home import Home
    from exchange.adapters.keyring import Keyring
    from exchange.adapters.snapshot import Snapshot
    from exchange.core.auditpack import Report
    from exchange.core.checkpoint import LogKeys
    from exchange.core.keys import Card
    from exchange.node.verifying import Review

EXIT_INTEGRITY: Final = 4


@click.group()
@common
def audit() -> None:
    """Export the audit log for an oversight body; check an export."""


@audit.command("export")
@common
@click.option("--out", required=True, metavar="DIR", help="A new folder.")
def export(out: str) -> int:
    """Write the signed log as a folder.

    Anybody can check it, also without this program.
    """
    from exchange.adapters.audit_folder import write_export
    from exchange.adapters.snapshot import Snapshot
    from exchange.core.errors import LocalError

    said = settings()
    home, config = said.open_home()
    with Snapshot(home.database) as snapshot:
        keys = log_keys_of(own_card(snapshot, config))
        newest = snapshot.rows("checkpoint")
        if not newest:
            raise LocalError("node.card", "no checkpoint was signed yet")
        size, time, note = newest[0]
        write_export(Path(out), checkpoint=note, entries=snapshot.leaves(), keys=keys)
    if said.as_json:
        output.emit_json(said, {"ok": True, "folder": out, "node": config.node, "size": size, "signed": time})
        return 0
    output.banner(said)
    output.line(f"{size} entries, signed at {time}, written to {out}.")
    output.line(f"Anybody can check it: exchange audit verify {out}")
    return 0


def own_card(snapshot: Snapshot, config: Config) -> Card:
    """The card in force of the home's node. Raises ``LocalError`` node.card, ``IntegrityError`` store.corrupt."""
    from exchange.core.errors import IntegrityError, LocalError, PeerError
    from exchange.core.keys import read_card
    from exchange.core.wire import DocumentType, parse_signed_document

    rows = snapshot.rows("documents", DocumentType.CARD)
    own = [data for _, subject, _, state, _, data in rows if (subject, state) == (config.node, "current")]
    if not own:
        raise LocalError("node.card", config.node)
    try:
        return read_card(parse_signed_document(own[-1], DocumentType.CARD))
    except PeerError as error:
        raise IntegrityError("store.corrupt", f"own card, {error.code}") from None


def log_keys_of(card: Card) -> LogKeys:
    """The log keys of a card, with their dates. Raises ``PeerError`` audit.bad_checkpoint, key.unknown."""
    from exchange.core.checkpoint import log_keys, parse_origin
    from exchange.core.errors import PeerError
    from exchange.core.keys import Alg, Use

    held = [item for item in card.keys if item.use is Use.LOG]
    found = {item.key.alg: item.key.raw for item in held}
    if set(found) != {Alg.ED25519, Alg.MLDSA44}:
        raise PeerError("key.unknown", f"log keys in the card of {card.node}")
    return log_keys(
        parse_origin(card.log_origin),
        found[Alg.ED25519],
        found[Alg.MLDSA44],
        valid_from=max(item.valid_from for item in held),
        valid_until=min(item.valid_until for item in held),
    )


# -- checking an export ----------------------------------------------------------------------------


@audit.command("verify")
@common
@click.argument("folder", metavar="DIR")
@click.option("--card", metavar="FILE", help="The node's card: proves whose log it is, not only that it is whole.")
def verify_folder(folder: str, card: str | None) -> int:
    """Check an exported log, from its folder alone. Exit code 1 where anything is wrong."""
    from exchange.adapters.audit_folder import verify_export
    from exchange.cli.documents import show_fingerprint

    said = settings()
    held = None if card is None else _card_in(said, card)
    keys = None if held is None else log_keys_of(held)
    report = verify_export(Path(folder), card_keys=keys)
    if report.checkpoint is not None:
        said.network = report.checkpoint.head.origin.network
    if said.as_json:
        output.emit_json(said, report.to_json())
    else:
        output.banner(said)
        if held is not None:
            show_fingerprint(held.authority.fingerprint)
        _show_report(report)
    return 0 if report.ok else 1


def _card_in(said: Settings, name: str) -> Card:
    from exchange.cli.documents import know_network, read_input
    from exchange.core import wire
    from exchange.core.errors import PeerError
    from exchange.core.keys import read_card

    document = wire.parse_signed_document(read_input(name, wire.MAX_DOCUMENT_BYTES), wire.DocumentType.CARD)
    held = read_card(document)
    if not held.authority.approves(document):
        raise PeerError("key.threshold", Path(name).name)
    know_network(said, held.network)
    return held


def _show_report(report: Report) -> None:
    facts = report.to_json()
    output.pairs(
        [
            ("result", "whole and unaltered" if report.ok else "NOT IN ORDER"),
            ("node", output.text_of(facts["node"])),
            ("log", output.text_of(facts["origin"])),
            ("size", output.text_of(facts["size"])),
            ("root", output.text_of(facts["root"])),
            ("signed", output.text_of(facts["signed"])),
            ("first entry", output.text_of(facts["first"])),
            ("last entry", output.text_of(facts["latest"])),
            ("clock set back", output.text_of(facts["clock_steps"])),
            ("log restarts", output.text_of(facts["log_restarts"])),
        ]
    )
    if report.events:
        output.line()
        output.table(["event", "entries"], [[name, str(count)] for name, count in report.events.items()])
    for finding in report.findings:
        output.note("")
        output.print_error(finding.code, finding.where)
    for text in report.notes:
        output.note(f"note: {text}")


# -- the whole store -------------------------------------------------------------------------------


@click.command()
@common
def verify() -> int:
    """Read the whole store and log again; exit code 4 where they contradict each other. Works beside a running node."""
    from exchange.cli.session import run

    said = settings()
    home, config = said.open_home()
    keyring = _keyring(said, home, config)
    review = run(_review(home, config, keyring))
    if said.as_json:
        output.emit_json(said, review.to_json())
    else:
        output.banner(said)
        _show_review(review)
    return EXIT_INTEGRITY if review.total else 0


def _keyring(said: Settings, home: Home, config: Config) -> Keyring | None:
    """The keys, where the passphrase is at hand without asking."""
    from exchange.cli.unlock import unlock_home

    if passphrase_source(said, config)[1] is None:
        return None
    return unlock_home(home, read_passphrase(said, config))


async def _review(home: Home, config: Config, keyring: Keyring | None) -> Review:
    from functools import partial

    from exchange.adapters.blobs import hash_blob
    from exchange.adapters.snapshot import Snapshot
    from exchange.core.wire import NodeId
    from exchange.node.verifying import Verifier

    with Snapshot(home.database) as snapshot:
        keys = log_keys_of(own_card(snapshot, config))
        digest_of = partial(hash_blob, home.blobs)
        return await Verifier(snapshot, NodeId(config.node), keys, digest_of, keyring).run()


def _show_review(review: Review) -> None:
    names = {
        "entries": "log entries", "checkpoints": "checkpoints", "documents": "documents", "cases": "cases",
        "outgoing": "sent", "incoming": "received", "answers": "answers", "envelopes": "envelopes",
        "opened": "opened", "evidence": "evidence files",
    }  # fmt: skip
    output.line("Store and log agree." if review.total == 0 else "STORE AND LOG DO NOT AGREE.")
    output.pairs([(shown, str(review.counts[name])) for name, shown in names.items() if review.counts[name]])
    output.pairs([("root", review.root)])
    if not review.opened:
        output.note("note: without the passphrase messages were checked sealed, not opened")
    for code, where in review.findings:
        output.note("")
        output.print_error(code, where)
    if review.total > len(review.findings):
        output.note(f"and {review.total - len(review.findings)} more")
