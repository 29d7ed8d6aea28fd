"""Making things: authorities, homes, signatures, agreements; what init, authority, demo and bench have in common.

Implements docs/protocol.md sections 4 (cards) and 8.1, 8.2 (agreements), the side of whoever makes them.

Rules:
1. A draft is readable JSON, so that whoever signs can read it; a member named ``//`` is a comment and is left out.
   Signing turns it into a signed document whose payload never changes again; later signers add their signatures.
2. An authority's keys are one file each, so that each custodian can take their own away; whatever key files are there
   sign. An authority signs for its own country and network only.
3. Installing goes through the node's own path, so that every document has its entry in the log.

What it does not do: ask, print, or choose a passphrase.

Length: whoever makes one of these documents makes the others too.
"""

from __future__ import annotations

import secrets as os_secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from exchange.adapters.config import Config, write_config
from exchange.adapters.home import Home, write_file
from exchange.adapters.keyring import (
    HybridKey,
    Keyring,
    lock_secrets,
    new_hybrid_key,
    new_node_secrets,
    unlock_secrets,
)
from exchange.adapters.sqlite import SqliteStore
from exchange.adapters.tls import new_tls, spki_pin
from exchange.cli.wiring import log_origin, offline_node, schema_book
from exchange.core import wire
from exchange.core.agreement_lint import check_agreement
from exchange.core.agreements import read_agreement
from exchange.core.audit import Event, Leaf, LogBatch
from exchange.core.errors import LocalError, PeerError
from exchange.core.keys import (
    MAX_AUTHORITY_KEYS,
    Authority,
    Card,
    NodeKey,
    Use,
    encode_authority,
    encode_card,
    encode_public_key,
    parse_authority,
    read_card,
)
from exchange.core.merkle import Frontier
from exchange.core.officers import read_officers
from exchange.core.suspensions import read_suspension
from exchange.core.wire import DocumentType, JsonValue, NetworkId, UnverifiedDocument
from exchange.ports import Changes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from exchange.core.agreements import Agreement
    from exchange.core.keys import PublicKey
    from exchange.core.officers import OfficerList
    from exchange.core.suspensions import Suspension

DEFAULT_NETWORK: Final = NetworkId("training-local")  # nothing is real before somebody says so
CARD_LIFE: Final = timedelta(days=730)
KEYS_VALID_BEFORE: Final = timedelta(days=1)  # a peer whose clock is behind must not find a key from the future
COMMENT: Final = "//"
_HEADS: Final = {"authority": "authority.json", "personnel": "personnel.json"}
_KEYS: Final = "keys"


def random_bytes(length: int) -> bytes:
    """From the operating system."""
    return os_secrets.token_bytes(length)


def utc_now() -> datetime:
    """Whole seconds, as documents have them."""
    return datetime.now(UTC).replace(microsecond=0)


# -- authorities -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuthorityKeys:
    """An authority and those of its secret keys that are here."""

    country: str
    network: NetworkId
    authority: Authority
    keys: tuple[HybridKey, ...]
    kind: str = "authority"


def create_authority(
    folder: Path,
    country: str,
    network: NetworkId,
    *,
    keys: int = 1,
    threshold: int = 1,
    passphrase: bytes,
    random: Callable[[int], bytes] = random_bytes,
    kind: str = "authority",
) -> AuthorityKeys:
    """Make a country's authority, or its personnel: ``<kind>.json``, and ``keys/<n>.json`` under the passphrase.

    Raises ``LocalError`` input.exists, input.not_found, node.disk; ``PeerError`` wire.bad_value for the numbers.
    """
    if not 1 <= threshold <= keys <= MAX_AUTHORITY_KEYS:
        raise PeerError("wire.bad_value", f"1 <= threshold <= keys <= {MAX_AUTHORITY_KEYS}")
    made = tuple(new_hybrid_key(random) for _ in range(keys))
    authority = Authority(threshold, tuple(key.public for key in made))
    _new_folder(folder)
    for number, key in enumerate(made, 1):
        secret = {"ed25519": key.ed25519, "mldsa65": key.mldsa65}
        write_file(folder / _KEYS / f"{number}.json", lock_secrets(secret, passphrase, random))
    head: dict[str, object] = {"country": country, "network": network, "authority": encode_authority(authority)}
    write_file(folder / _HEADS[kind], wire.encode_json(head))
    return AuthorityKeys(country, network, authority, made, kind)


def _new_folder(folder: Path) -> None:
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise LocalError("input.exists", folder.name)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        (folder / _KEYS).mkdir(mode=0o700)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise LocalError("input.not_found", "the folder above the authority's home") from None
    except OSError:
        raise LocalError("node.disk", folder.name) from None


def load_authority(folder: Path, kind: str = "authority") -> AuthorityKeys:
    """The public half of an authority's or personnel's home. Raises ``LocalError`` input.not_found, node.key."""
    head = _HEADS[kind]
    try:
        data = (folder / head).read_bytes()
    except OSError:
        raise LocalError("input.not_found", f"{folder.name}/{head}") from None
    try:
        fields = wire.Fields(wire.parse_json(data, max_bytes=wire.MAX_DOCUMENT_BYTES), head)
        country = fields.text("country", max_chars=2)
        network = NetworkId(fields.text("network", pattern=wire.NETWORK_ID))
        return AuthorityKeys(country, network, parse_authority(fields.object("authority")), (), kind)
    except PeerError:
        raise LocalError("node.key", f"{folder.name}/{head}") from None


def unlock_authority(folder: Path, passphrase: bytes, kind: str = "authority") -> AuthorityKeys:
    """An authority with every key whose file is here. Raises ``LocalError`` input.passphrase, node.key."""
    held = load_authority(folder, kind)
    keys: list[HybridKey] = []
    for path in sorted((folder / _KEYS).glob("*.json")):
        try:
            data = path.read_bytes()
        except OSError:
            raise LocalError("node.key", f"{_KEYS}/{path.name}") from None
        secret = unlock_secrets(data, passphrase, f"{_KEYS}/{path.name}")
        key = HybridKey(secret["ed25519"], secret["mldsa65"])
        if key.public.id not in {public.id for public in held.authority.keys}:
            raise LocalError("node.key", f"{_KEYS}/{path.name}")
        keys.append(key)
    if not keys:
        raise LocalError("node.key", f"{folder.name}/{_KEYS}")
    return replace(held, keys=tuple(keys))


# -- drafts and signatures -------------------------------------------------------------------------


def parse_draft(data: bytes) -> UnverifiedDocument:
    """A draft, or a signed document on its way from signer to signer. Raises input.not_document, wire.*."""
    value = wire.parse_json(data, max_bytes=wire.MAX_DOCUMENT_BYTES)
    if not isinstance(value, dict):
        raise PeerError("input.not_document")
    if "payloadType" in value:
        return wire.parse_signed_document(data, min_signatures=0)
    if "tls_pins" in value:
        kind = DocumentType.CARD
    elif "parties" in value:
        kind = DocumentType.AGREEMENT
    elif "others_continue" in value:
        kind = DocumentType.SUSPENSION
    elif "officers" in value:
        kind = DocumentType.OFFICERS
    else:
        raise PeerError("input.not_document")
    return UnverifiedDocument(kind, wire.encode_json(strip_comments(value)), ())


def strip_comments(value: Any) -> Any:  # noqa: ANN401 - a JSON value, the same shape out as in
    """A draft without its comments."""
    if isinstance(value, dict):
        return {name: strip_comments(inner) for name, inner in value.items() if name != COMMENT}
    if isinstance(value, list):
        return [strip_comments(inner) for inner in value]
    return value


def check_draft(data: bytes) -> None:
    """Read an agreement's draft as its signers will. Raises ``PeerError``."""
    check_agreement(read_agreement(parse_draft(data)), schema_book())


def _with_authority(document: UnverifiedDocument, authority: Authority) -> UnverifiedDocument:
    """An unsigned card names the authority that signs it; a home need not know it before."""
    payload = wire.parse_json(document.payload, max_bytes=wire.MAX_DOCUMENT_BYTES)
    if isinstance(payload, dict) and payload.get("authority") is None:
        filled: dict[str, object] = {**payload, "authority": encode_authority(authority)}
        return replace(document, payload=wire.encode_json(filled))
    return document


def document_to_sign(signer: AuthorityKeys, data: bytes) -> UnverifiedDocument:
    """A card, an agreement or a notice about one as this authority, whose keys are not needed yet, would sign it.

    The personnel sign lists of officers, and the authority does not.

    Raises ``PeerError``: wire.*, key.wrong_network, agreement.not_party (also a notice of another country's node),
    agreement.authority where an agreement names another authority for our country, officers.invalid, card.chain where
    the card is of another country or names another authority, and whatever reading it raises.
    """
    document = parse_draft(data)
    if (document.payload_type == DocumentType.OFFICERS) is not (signer.kind == "personnel"):
        raise PeerError("wire.wrong_type", "document.payloadType")  # neither signs what the other answers for
    if document.payload_type == DocumentType.CARD and not document.signatures:
        document = _with_authority(document, signer.authority)
    check = _CHECKS.get(document.payload_type)
    if check is None:
        raise PeerError("wire.wrong_type", "document.payloadType")
    check(signer, document)
    return document


def _check_card(signer: AuthorityKeys, document: UnverifiedDocument) -> None:
    card = read_card(document)
    if card.network != signer.network:
        raise PeerError("key.wrong_network", "card.network")
    if card.country != signer.country:
        raise PeerError("card.chain", "card.country")
    if card.authority.fingerprint != signer.authority.fingerprint:
        raise PeerError("card.chain", "card.authority")


def _check_agreement(signer: AuthorityKeys, document: UnverifiedDocument) -> None:
    agreement = read_agreement(document)
    check_agreement(agreement, schema_book())
    if agreement.network != signer.network:
        raise PeerError("key.wrong_network", "agreement.network")
    if signer.authority.fingerprint not in {party.authority for party in agreement.parties}:
        ours = [party.node for party in agreement.parties if party.node.startswith(f"{signer.country.lower()}-")]
        # Our country is there and somebody else signs for it: another mistake than a wrong file.
        raise PeerError("agreement.authority" if ours else "agreement.not_party", "agreement.parties")


def _check_notice(signer: AuthorityKeys, document: UnverifiedDocument) -> None:
    notice = read_suspension(document)
    if notice.network != signer.network:
        raise PeerError("key.wrong_network", "suspension.network")
    if not notice.party.startswith(f"{signer.country.lower()}-"):
        raise PeerError("agreement.not_party", "suspension.party")


def _check_officers(signer: AuthorityKeys, document: UnverifiedDocument) -> None:
    listed = read_officers(document)
    if listed.network != signer.network:
        raise PeerError("key.wrong_network", "officers.network")
    if not listed.node.startswith(f"{signer.country.lower()}-"):
        raise PeerError("officers.invalid", "officers.node")


_CHECKS: Final[dict[str, Callable[[AuthorityKeys, UnverifiedDocument], None]]] = {
    DocumentType.CARD: _check_card,
    DocumentType.AGREEMENT: _check_agreement,
    DocumentType.SUSPENSION: _check_notice,
    DocumentType.OFFICERS: _check_officers,
}


def sign_document(signer: AuthorityKeys, data: bytes) -> bytes:
    """Sign a card, an agreement or a notice with every key that is here and has not signed yet.

    Raises what ``document_to_sign`` raises.
    """
    document = document_to_sign(signer, data)
    signed = {signature.keyid for signature in document.signatures}
    fresh = [
        key.signature(document.payload_type, document.payload) for key in signer.keys if key.public.id not in signed
    ]
    return wire.encode_signed_document(replace(document, signatures=(*document.signatures, *fresh)))


def with_personnel(data: bytes, personnel: AuthorityKeys) -> tuple[bytes, bool]:
    """The draft of a card that names these personnel keys and no others, and whether ``data`` was a signed card.

    Of a signed card it is the successor, to be signed by the authority like the first. Raises ``PeerError``: wire.*,
    key.wrong_network, card.chain.
    """
    document = parse_draft(data)
    if document.payload_type != DocumentType.CARD:
        raise PeerError("wire.wrong_type", "document.payloadType")
    value = wire.parse_json(document.payload, max_bytes=wire.MAX_DOCUMENT_BYTES)
    draft: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
    if draft.get("network") != personnel.network:
        raise PeerError("key.wrong_network", "card.network")
    if draft.get("country") != personnel.country:
        raise PeerError("card.chain", "card.country")
    now = utc_now()
    if document.signatures:
        held = read_card(document)
        draft |= {"version": held.version + 1, "previous": held.digest, "issued": wire.encode_time(now)}
    dates = {"valid_from": wire.encode_time(now - KEYS_VALID_BEFORE), "valid_until": draft.get("expires")}
    kept = [key for key in draft.get("keys", ()) if isinstance(key, dict) and key.get("use") != Use.PERSONNEL.value]
    named = [{**encode_public_key(key), "use": Use.PERSONNEL.value, **dates} for key in personnel.authority.keys]
    draft |= {"keys": [*kept, *named], "personnel_threshold": personnel.authority.threshold}
    comment = "It names who signs the list of officers. Then: exchange authority sign"
    return encode_readable({COMMENT: comment, **draft}), bool(document.signatures)


# -- homes -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewHome:
    """A home that was just made, unlocked, and its card's draft."""

    home: Home
    keyring: Keyring
    card_draft: bytes


async def create_home(
    path: Path,
    config: Config,
    passphrase: bytes,
    *,
    duty_desk: str | None = None,
    authority: Authority | None = None,
    random: Callable[[int], bytes] = random_bytes,
) -> NewHome:
    """Make a node's home: keys, TLS, store, the card's draft, and ``config.toml`` last.

    Raises ``LocalError`` input.exists, input.not_found, node.disk.
    """
    now = utc_now()
    home = Home.create(path)
    secrets = new_node_secrets(random)
    keyring = Keyring(secrets, home.prekey_files(), random)
    write_file(home.keyring, lock_secrets(secrets, passphrase, random))
    host = config.url.removeprefix("https://")
    pem, cert = new_tls(config.node, [host.rpartition(":")[0] or host], keyring.tls_password)
    write_file(home.tls_key, pem)
    write_file(home.tls_cert, cert)
    draft = card_draft(config, keyring, spki_pin(cert), now, duty_desk=duty_desk, authority=authority)
    write_file(path / "card.unsigned.json", draft)
    await _create_store(home, config, now)
    write_config(home.config, config)
    return NewHome(home, keyring, draft)


async def _create_store(home: Home, config: Config, now: datetime) -> None:
    store = await SqliteStore.open(home.database)
    try:
        home.database.chmod(0o600)
        batch = LogBatch(Frontier())
        batch.record(Leaf(0, now, Event.NODE_INIT, actor="operator"))
        closed = batch.close()
        changes = Changes()
        changes.add("put_meta", "node", config.node)
        changes.add("put_meta", "network", config.network)
        for offset, leaf in enumerate(closed.leaves):
            changes.add("put_leaf", closed.first + offset, leaf)
        changes.add("put_log", closed.frontier.size, closed.frontier.encode(), wire.encode_time(now))
        await store.commit(changes)
    finally:
        await store.close()


def card_draft(
    config: Config,
    keyring: Keyring,
    pin: wire.Digest,
    now: datetime,
    *,
    duty_desk: str | None = None,
    authority: Authority | None = None,
) -> bytes:
    """The first card of a node, to be signed by its authority; readable JSON, ``authority`` null where not known."""
    begin, end = now - KEYS_VALID_BEFORE, now + CARD_LIFE

    def held(key: PublicKey, use: Use) -> NodeKey:
        return NodeKey(key, use, begin, end)

    accepts = (DocumentType.ENVELOPE, DocumentType.ANSWERS, DocumentType.VOID, *schema_book().kinds)
    # An authority of no keys stands for one that is not known yet; it is taken out again below.
    card = Card(
        network=config.network,
        node=config.node,
        country=config.country,
        agency={"en": config.agency},
        version=1,
        previous=None,
        issued=now,
        expires=end,
        authority=authority or Authority(1, ()),
        keys=(
            held(keyring.envelope_key, Use.ENVELOPE),
            held(keyring.bundle_key, Use.BUNDLE),
            *(held(key, Use.LOG) for key in keyring.log_keys),
        ),
        log_origin=str(log_origin(config)),
        tls_pins=(pin,),
        endpoints=(config.url,),
        reach="open",
        accepts=accepts,
        duty_desk=duty_desk or config.agency,
    )
    value = wire.parse_json(encode_card(card), max_bytes=wire.MAX_DOCUMENT_BYTES)
    comment = "Correct agency, endpoints and duty_desk if needed; then: exchange authority sign card.unsigned.json"
    draft: dict[str, Any] = {COMMENT: comment, **(value if isinstance(value, dict) else {})}
    if authority is None:
        draft["authority"] = None
    return encode_readable(draft)


def encode_readable(value: JsonValue | dict[str, Any]) -> bytes:
    """JSON for people to read and correct."""
    import json

    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


async def install_offline(
    home: Home, key: bytes | Keyring, documents: Sequence[bytes]
) -> list[Card | Agreement | OfficerList | Suspension]:
    """Install cards, then the other documents, into the store of a node that does not run; each with its log entry.

    ``key`` is the passphrase, or the keyring that it opened. Raises ``LocalError`` node.locked, input.passphrase, and
    whatever verifying a document raises; those before it stay installed.
    """
    installed: list[Card | Agreement | OfficerList | Suspension] = []
    async with offline_node(home, key, require_card=False) as bundle:
        for data in sorted(documents, key=_cards_first):
            # One by one: an agreement is verified against the cards before it.
            item = await bundle.desk.install(data)
            if isinstance(item, Card) and item.node == bundle.config.node:
                write_file(home.card, data)
            installed.append(item)
    return installed


def _cards_first(data: bytes) -> int:
    return 0 if wire.parse_signed_document(data).payload_type == DocumentType.CARD else 1
