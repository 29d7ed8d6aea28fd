"""TLS between nodes: version 1.3, trust by the pin of the server's key.

Implements docs/protocol.md section 11.0.

Rules:
1. No certificate authority: the server shows a self-signed certificate, and what counts is that the digest of its
   public key is in the peer's card. Names and dates in a certificate decide nothing.
2. The pin is compared when the handshake has ended and before the first byte of a request is written.
3. TLS authenticates the server alone. Who asks is said by signed documents.

What it does not do: keep secrets from a quantum computer (the envelope does), or choose pins (the card does).
"""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import aiohttp
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from exchange.core.errors import LocalError
from exchange.core.wire import Digest

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from pathlib import Path

_NOT_BEFORE: Final = datetime(2000, 1, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280 4.1.2.5: no end that means anything


def new_tls(node_id: str, hosts: Sequence[str], password: str) -> tuple[bytes, bytes]:
    """A fresh P-256 key and its self-signed certificate, as PEM; the key is encrypted (PKCS #8).

    ``hosts`` are names or addresses for tools that look at them; nodes look at the key alone.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False)
    cert = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
    return pem, cert.public_bytes(Encoding.PEM)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host)


def spki_pin(cert: bytes) -> Digest:
    """The pin of a certificate (PEM or DER): SHA-256 of its SubjectPublicKeyInfo in DER (RFC 7469 2.4).

    Raises ``LocalError`` node.key where it cannot be read.
    """
    try:
        read = x509.load_pem_x509_certificate if cert.startswith(b"-----") else x509.load_der_x509_certificate
        return _pin(read(cert))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise LocalError("node.key", "tls.crt") from None


def _pin(cert: x509.Certificate) -> Digest:
    spki = cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Digest(hashlib.sha256(spki).hexdigest())


def server_context(cert: Path, key: Path, password: str) -> ssl.SSLContext:
    """The server's side, from the two files. Raises ``LocalError`` node.key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(cert, key, password)
    except (OSError, ValueError):  # ssl.SSLError is an OSError: a wrong password, or a key of another certificate
        raise LocalError("node.key", "tls.crt, secrets/tls.key") from None
    return context


def client_context() -> ssl.SSLContext:
    """The client's side. It believes any certificate: use it only together with ``PinnedKey``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class PinnedKey(aiohttp.Fingerprint):
    """The keys that a peer's card allows its server.

    aiohttp asks ``check`` of the connector's fingerprint for each new connection, before it hands the connection to
    a request. It fails closed: a connection without TLS, without a certificate, or with a key that cannot be read
    is a mismatch.
    """

    def __init__(self, pins: Sequence[Digest]) -> None:
        super().__init__(bytes.fromhex(pins[0]))
        self._pins = frozenset(pins)

    def check(self, transport: asyncio.Transport) -> None:
        """Raise ``aiohttp.ServerFingerprintMismatch`` unless the server's key is one of the pins."""
        tls = transport.get_extra_info("ssl_object")
        cert = tls.getpeercert(binary_form=True) if tls is not None else None
        try:
            pin = _pin(x509.load_der_x509_certificate(cert)) if cert else ""
        except Exception:  # noqa: BLE001 - a stranger's bytes: whatever a parser says of them, it is a mismatch
            pin = ""
        if pin not in self._pins:
            host, port, *_ = transport.get_extra_info("peername") or ("", 0)
            raise aiohttp.ServerFingerprintMismatch(self.fingerprint, bytes.fromhex(pin), host, port)
