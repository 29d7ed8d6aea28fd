"""``exchange.adapters.tls``: keys that a card pins."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from exchange.adapters.home import write_file
from exchange.adapters.tls import PinnedKey, client_context, new_tls, server_context, spki_pin
from exchange.core.errors import LocalError
from exchange.core.wire import Digest
from tests.adapters import wires

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_key_is_encrypted_and_its_certificate_is_its_own() -> None:
    """A new key opens with its password alone, is on P-256, and signs a certificate that never ends."""
    key_pem, cert_pem = new_tls("kh-fp1", ["kh.example", "10.0.0.7", "[::1]"], "a password")
    assert b" ENCRYPTED " in key_pem.splitlines()[0]
    with pytest.raises(ValueError, match="password"):
        load_pem_private_key(key_pem, b"another")
    key = load_pem_private_key(key_pem, b"a password")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    cert = x509.load_pem_x509_certificate(cert_pem)
    cert.verify_directly_issued_by(cert)
    assert cert.public_key() == key.public_key()
    assert cert.not_valid_before_utc < datetime(2001, 1, 1, tzinfo=UTC)
    assert cert.not_valid_after_utc.year == 9999
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["kh.example", "10.0.0.7", "::1"]


def test_a_key_needs_no_host() -> None:
    """A certificate without host names is a certificate."""
    assert x509.load_pem_x509_certificate(new_tls("kh-fp1", [], "pw")[1]).subject.rfc4514_string() == "CN=kh-fp1"


def test_the_pin_is_that_of_the_key() -> None:
    """The pin is SHA-256 of the public key's SubjectPublicKeyInfo, whether the certificate is PEM or DER."""
    key_pem, cert_pem = new_tls("kh-fp1", [], "pw")
    key = load_pem_private_key(key_pem, b"pw")
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki_pin(cert_pem) == hashlib.sha256(spki).hexdigest()
    assert spki_pin(x509.load_pem_x509_certificate(cert_pem).public_bytes(Encoding.DER)) == spki_pin(cert_pem)
    assert spki_pin(new_tls("kh-fp1", [], "pw")[1]) != spki_pin(cert_pem)


@pytest.mark.parametrize("cert", [b"", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", b"\x30\x00"])
def test_a_broken_certificate_is_told(cert: bytes) -> None:
    """A certificate that cannot be read is told by its file."""
    with pytest.raises(LocalError) as caught:
        spki_pin(cert)
    assert (caught.value.code, caught.value.where) == ("node.key", "tls.crt")


def test_a_key_file_that_does_not_open_is_told(tmp_path: Path) -> None:
    """A wrong password, a key of another certificate, and an absent file are told, and no password is asked for."""
    key, cert = new_tls("kh-fp1", [], "pw")
    write_file(tmp_path / "key", key)
    write_file(tmp_path / "crt", cert)
    write_file(tmp_path / "other", new_tls("kh-fp1", [], "pw")[1])
    server_context(tmp_path / "crt", tmp_path / "key", "pw")
    for name, file, password in (("crt", "key", "wp"), ("other", "key", "pw"), ("crt", "no", "pw")):
        with pytest.raises(LocalError) as caught:
            server_context(tmp_path / name, tmp_path / file, password)
        assert caught.value.code == "node.key"


async def connect(port: int, context: ssl.SSLContext) -> str | None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        await reader.read(1)  # in TLS 1.3 the client learns of a refusal with its first read
        version: str | None = writer.get_extra_info("ssl_object").version()
        return version
    finally:
        writer.close()


async def test_both_sides_speak_the_newest_version_alone(tmp_path: Path) -> None:
    """Server and client speak TLS 1.3 and refuse whoever speaks an older version."""
    identity = wires.make_identity(tmp_path)
    old_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old_server.load_cert_chain(tmp_path / "kh-fp1.crt", tmp_path / "kh-fp1.key", "a password")
    old_server.maximum_version = ssl.TLSVersion.TLSv1_2
    old_client = client_context()
    old_client.minimum_version = old_client.maximum_version = ssl.TLSVersion.TLSv1_2

    async def say(_: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(b"!")
        await writer.drain()

    async with wires.raw_server(say, identity.context) as new, wires.raw_server(say, old_server) as old:
        assert await connect(new.port, client_context()) == "TLSv1.3"
        for port, context in ((new.port, old_client), (old.port, client_context())):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await connect(port, context)


class Wire(asyncio.Transport):
    """A transport that has what it is told to have."""

    def __init__(self, **extra: object) -> None:
        super().__init__(extra)


class Tls:
    """The TLS object of a connection on which the server showed ``cert``."""

    def __init__(self, cert: bytes | None) -> None:
        self._cert = cert

    def getpeercert(self, *, binary_form: bool) -> bytes | None:
        assert binary_form
        return self._cert


def test_a_pin_fails_closed() -> None:
    """A connection passes with a key of the card alone: not with another, none, a broken one, or without TLS."""
    mine, other = (x509.load_pem_x509_certificate(new_tls(n, [], "pw")[1]).public_bytes(Encoding.DER) for n in "ab")
    pinned = PinnedKey([spki_pin(other), spki_pin(mine)])
    pinned.check(Wire(ssl_object=Tls(mine), peername=("127.0.0.1", 1)))
    pinned = PinnedKey([spki_pin(mine)])
    for extra in ({"ssl_object": Tls(other)}, {"ssl_object": Tls(None)}, {"ssl_object": Tls(b"\x30\x00")}, {}):
        with pytest.raises(aiohttp.ServerFingerprintMismatch):
            pinned.check(Wire(peername=("127.0.0.1", 1), **extra))


@pytest.mark.parametrize("version", [0, 1, 3, 0x7F])
def test_a_certificate_that_no_parser_reads_is_a_mismatch(version: int) -> None:
    """A stranger's certificate of another version is refused as one with another key, and nothing else happens."""
    cert = x509.load_pem_x509_certificate(new_tls("kh-fp1", [], "pw")[1]).public_bytes(Encoding.DER)
    changed = cert.replace(b"\xa0\x03\x02\x01\x02", bytes((0xA0, 3, 2, 1, version)), 1)
    assert changed != cert
    with pytest.raises(aiohttp.ServerFingerprintMismatch):
        PinnedKey([Digest("0" * 64)]).check(Wire(ssl_object=Tls(changed), peername=("127.0.0.1", 1)))
    with pytest.raises(LocalError, match=r"node\.key"):
        spki_pin(changed)
