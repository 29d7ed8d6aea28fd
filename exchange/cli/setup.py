"""``exchange init`` and ``exchange authority``: what exists before a node runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from exchange.cli import output
from exchange.cli.settings import Settings, common, read_new_passphrase, read_passphrase, settings
from exchange.core.errors import LocalError

if TYPE_CHECKING:
    from exchange.cli.provision import AuthorityKeys
    from exchange.core.keys import Authority
    from exchange.core.wire import JsonObject, UnverifiedDocument

DEFAULT_NETWORK: Final = "training-local"
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_KEY: Final = re.compile(r"\[\w+\] (?P<key>\w+): (?P<fault>.*)")
_OPTIONS: Final = {"id": "node", "host": "listen", "port": "listen"}  # the others are called as their keys are
_ANYWHERE: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - refused as an address for others, never bound here


def _country(_: click.Context, __: click.Parameter, value: str) -> str:
    if not _COUNTRY.fullmatch(value.upper()):
        message = "two letters, as in ISO 3166-1: TH"
        raise click.BadParameter(message)
    return value.upper()


def _network(_: click.Context, __: click.Parameter, value: str) -> str:
    from exchange.core.wire import NETWORK_ID

    if not NETWORK_ID.fullmatch(value):
        message = "1 to 32 small letters, digits and hyphens"
        raise click.BadParameter(message)
    return value


def _split_listen(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65_535 or not host:  # noqa: PLR2004 - TCP's largest
        message = "--listen is HOST:PORT, for example 192.0.2.1:8443 or [2001:db8::1]:8443"
        raise click.UsageError(message)
    return host.strip("[]"), int(port)


network_option = click.option(
    "--network",
    default=DEFAULT_NETWORK,
    show_default=True,
    callback=_network,
    help="The network's name; one that begins with training- marks everything as training.",
)
country_option = click.option("--country", required=True, callback=_country, help="ISO 3166-1, for example TH.")


# -- init ------------------------------------------------------------------------------------------


@click.command()
@common
@country_option
@click.option("--agency", required=True, help="Name of the agency, as others will read it.")
@click.option("--node", "node_id", help="Node id; default: country and -fp1, for example th-fp1.")
@network_option
@click.option("--listen", default="127.0.0.1:8443", show_default=True, metavar="HOST:PORT", help="Where to listen.")
@click.option("--url", help="Where other nodes find this one; default: https:// and the address to listen on.")
@click.option("--duty-desk", help="How to reach a person, for example a telephone number; default: the agency.")
def init(
    *, country: str, agency: str, node_id: str | None, network: str, listen: str, url: str | None, duty_desk: str | None
) -> int:
    """Make a node's home: keys, TLS, store, and a card for the authority to sign."""
    from exchange.adapters.config import Config, encode_config, parse_config
    from exchange.cli import provision, session
    from exchange.core.wire import NetworkId, NodeId

    said = settings()
    path = said.home_path()
    host, port = _split_listen(listen)
    if url is None and (host in _ANYWHERE or port == 0):
        message = "--url is needed: others cannot be told to connect to this --listen"
        raise click.UsageError(message)
    shown = f"[{host}]" if ":" in host else host
    config = Config(
        node=NodeId(node_id or f"{country.lower()}-fp1"),
        country=country,
        agency=agency,
        network=NetworkId(network),
        url=url or f"https://{shown}:{port}",
        host=host,
        port=port,
    )
    try:
        parse_config(encode_config(config), Path("config.toml"))
    except LocalError as error:
        raise click.UsageError(_as_option(error.where)) from None
    said.network = network
    made = session.run(provision.create_home(path, config, read_new_passphrase(said), duty_desk=duty_desk))
    draft = made.home.path / "card.unsigned.json"
    if said.as_json:
        facts: JsonObject = {"ok": True, "home": str(path), "node": config.node, "country": country}
        output.emit_json(said, {**facts, "url": config.url, "card_draft": str(draft)})
        return 0
    output.banner(said)
    output.line(f"Home of {config.node} made in {path}.")
    output.line("Next:")
    output.line(f"  1. take {draft} to your authority: exchange authority sign {draft.name}")
    output.line("  2. exchange card import the signed card, here and at every partner")
    output.line("  3. exchange agreement install, then exchange node run")
    return 0


def _as_option(place: str) -> str:
    """A fault of the configuration that would be written, by the option that it came from."""
    found = _KEY.search(place)
    return place if found is None else f"--{_OPTIONS.get(found['key'], found['key'])}: {found['fault']}"


# -- authority -------------------------------------------------------------------------------------


@click.group()
@common
def authority() -> None:
    """The offline home of a country's authority; it signs cards and agreements."""


@authority.command("create")
@common
@country_option
@network_option
@click.option("--keys", default=1, show_default=True, type=click.IntRange(1, 9), help="How many keys there are.")
@click.option("--threshold", type=click.IntRange(1, 9), help="How many of them must sign; default: all.")
def create(*, country: str, network: str, keys: int, threshold: int | None) -> int:
    """Make an authority's keys, one file each.

    Where there are several, give them to different people.
    """
    from exchange.cli import provision
    from exchange.core.wire import NetworkId

    said = settings()
    path = said.home_path()
    needed = keys if threshold is None else threshold
    if needed > keys:
        message = "--threshold cannot be above --keys"
        raise click.UsageError(message)
    said.network = network
    passphrase = read_new_passphrase(said)
    made = provision.create_authority(
        path, country, NetworkId(network), keys=keys, threshold=needed, passphrase=passphrase
    )
    return _show_authority(said, path, made)


@authority.command("show")
@common
def show() -> int:
    """The authority's fingerprint; needs no passphrase."""
    from exchange.cli import provision

    said = settings()
    path = said.home_path()
    held = provision.load_authority(path)
    said.network = held.network
    return _show_authority(said, path, held)


def _show_authority(said: Settings, path: Path, held: AuthorityKeys) -> int:
    from exchange.cli.documents import show_fingerprint

    digest = held.authority.fingerprint
    if said.as_json:
        facts: JsonObject = {"ok": True, "home": str(path), "country": held.country, "fingerprint": digest}
        output.emit_json(said, {**facts, "keys": len(held.authority.keys), "threshold": held.authority.threshold})
        return 0
    output.banner(said)
    output.line(
        f"Authority of {held.country}: {held.authority.threshold} of {len(held.authority.keys)} keys must sign."
    )
    show_fingerprint(digest)
    return 0


@authority.command("sign")
@common
@click.argument("file")
@click.option("--out", metavar="FILE", help="Where to write; default: beside FILE, without .unsigned or .draft.")
@click.option("--before", multiple=True, metavar="FILE", help="An earlier version, signed elsewhere; repeatable.")
def sign(*, file: str, out: str | None, before: tuple[str, ...]) -> int:
    """Sign a card, an agreement or a notice about one.

    FILE is a draft, or a document that others have signed already.
    """
    return sign_file(file, out, before)


def sign_file(file: str, out: str | None, before: tuple[str, ...] = (), kind: str = "authority") -> int:
    """``authority sign``, ``agreement sign`` and ``officer sign``: the same, at the home of the keys of that kind."""
    from exchange.cli import documents, provision, signed
    from exchange.cli.agreement_faults import refuse_faulty
    from exchange.core import wire

    said = settings()
    folder = said.home_path()
    holder = provision.load_authority(folder, kind)
    said.network = holder.network
    data = documents.read_input(file, wire.MAX_DOCUMENT_BYTES)
    if (refused := refuse_faulty(said, data)) is not None:
        return refused
    unsigned = provision.document_to_sign(holder, data)
    is_agreement = unsigned.payload_type == wire.DocumentType.AGREEMENT
    if is_agreement:
        earlier = [documents.parse_signed(name, wire.DocumentType.AGREEMENT)[1] for name in before]
        signed.check_signing(unsigned, folder, holder.authority, earlier, provision.utc_now())
    _show_first(said, unsigned)
    made = provision.sign_document(provision.unlock_authority(folder, read_passphrase(said, None), kind), data)
    document = wire.parse_signed_document(made)
    if is_agreement:
        signed.remember(folder, document)
    path = _write_signed(Path(file), None if out is None else Path(out), made, was_draft=not unsigned.signatures)
    return _tell_signed(said, path, document, holder.authority)


def _write_signed(source: Path, target: Path | None, data: bytes, *, was_draft: bool) -> Path:
    """A draft's document beside it; a document that gained a signature in its own place, which loses nothing."""
    from exchange.adapters.home import write_file
    from exchange.cli.documents import write_output

    if target is None and not was_draft:
        write_file(source, data)
        return source
    if target is None:
        stem = source.name.removesuffix(".json").removesuffix(".unsigned").removesuffix(".draft")
        name = f"{stem}.json"
        target = source.with_name(name if name != source.name else f"{stem}.signed.json")
    write_output(target, data)
    return target


def _show_first(said: Settings, document: UnverifiedDocument) -> None:
    """At a terminal nobody signs what was not on the screen. Raises input.declined."""
    if said.as_json or not sys.stdin.isatty():
        return
    output.banner(said)
    _show(document, _facts(document)[1])
    if not click.confirm("Sign this?", err=True):
        raise LocalError("input.declined")


def _facts(document: UnverifiedDocument) -> tuple[str, JsonObject]:
    from exchange.cli import documents
    from exchange.core.agreements import read_agreement
    from exchange.core.keys import read_card
    from exchange.core.officers import read_officers
    from exchange.core.suspensions import read_suspension
    from exchange.core.wire import DocumentType

    if document.payload_type == DocumentType.CARD:
        return "card", documents.card_to_json(read_card(document), len(document.signatures))
    if document.payload_type == DocumentType.SUSPENSION:
        return "notice", documents.notice_to_json(read_suspension(document), len(document.signatures))
    if document.payload_type == DocumentType.OFFICERS:
        return "officers", documents.officers_to_json(read_officers(document), len(document.signatures))
    return "agreement", documents.agreement_to_json(read_agreement(document), len(document.signatures))


def _show(document: UnverifiedDocument, facts: JsonObject) -> None:
    from exchange.cli import documents, officers
    from exchange.core.agreements import read_agreement
    from exchange.core.officers import read_officers
    from exchange.core.wire import DocumentType

    if document.payload_type == DocumentType.CARD:
        documents.show_card(facts)
    elif document.payload_type == DocumentType.SUSPENSION:
        documents.show_notice(facts)
    elif document.payload_type == DocumentType.OFFICERS:
        officers.show_list(read_officers(document), {})
    else:
        documents.show_agreement(read_agreement(document), facts)


def _tell_signed(said: Settings, path: Path, document: UnverifiedDocument, authority: Authority) -> int:
    """What was signed, so that whoever signed sees it, and how many more keys of this authority must sign."""
    kind, facts = _facts(document)
    count = len(document.signatures)
    ours = {key.id for key in authority.keys} & {signature.keyid for signature in document.signatures}
    missing = max(0, authority.threshold - len(ours))
    if said.as_json:
        output.emit_json(said, {"ok": True, "file": str(path), "type": kind, "missing_here": missing, **facts})
        return 0
    output.banner(said)
    output.line(f"Signed: {path} ({count} signature{'s' * (count != 1)})")
    if missing:
        output.line(f"{missing} more key{'s' * (missing != 1)} of this authority must sign.")
    if not sys.stdin.isatty():  # at a terminal it was shown before
        _show(document, facts)
    return 0
