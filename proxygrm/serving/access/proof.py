"""A server proves that it holds the job's key before it is shown the key.

Whoever listens at a replica's address is not the replica until it has said so: the server may have died, and another
user of the node may have taken its port. So each new connection begins with a question, `GET /proof` with a random
nonce, and the answer is an HMAC by the key over the nonce and both ends of that very connection. Somebody in between
has other ends, so the proof of a real replica cannot be handed on; and what has proven itself stays at the other end
for as long as the connection lasts. The key is long and random (`secrets.token_urlsafe(32)`): nobody finds it by
trying it on a proof.
"""

from __future__ import annotations

import hmac
import http.client
import re
import secrets
from ipaddress import IPv6Address, ip_address

PATH = "/proof"
NONCE_HEADER = "X-Proxygrm-Nonce"
PROOF_HEADER = "X-Proxygrm-Proof"
_NONCE = re.compile(rb"[0-9a-f]{64}")

End = tuple[str, int]
"""Address and port of one end of a connection."""


def new_nonce() -> str:
    return secrets.token_hex(32)


def is_nonce(given: bytes) -> bool:
    return _NONCE.fullmatch(given) is not None


def proof(key: str, nonce: str, server: End, client: End) -> str:
    """What only a holder of the key can say about the connection between these two ends."""
    said = "\n".join(("proxygrm: this server holds the key", nonce, _written(server), _written(client)))
    return hmac.digest(key.encode(), said.encode(), "sha256").hex()


def is_proof(given: str, key: str, nonce: str, server: End, client: End) -> bool:
    return hmac.compare_digest(given.encode(), proof(key, nonce, server, client).encode())


def proves_key(connection: http.client.HTTPConnection, key: str) -> bool:
    """Does the other end of this connection, kept open, hold the key? Raises OSError and HTTPException."""
    if connection.sock is None:
        connection.connect()
    connection.auto_open = 0  # it must not quietly become another connection
    nonce = new_nonce()
    server, client = connection.sock.getpeername()[:2], connection.sock.getsockname()[:2]
    connection.request("GET", PATH, headers={NONCE_HEADER: nonce})
    answer = connection.getresponse()
    if answer.status != 200 or answer.read(1):
        return False
    return is_proof(answer.getheader(PROOF_HEADER, ""), key, nonce, server, client)


def _written(end: End) -> str:
    """The same on both sides: an IPv4 peer of an IPv6 socket is seen as ::ffff:1.2.3.4."""
    address = ip_address(end[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return f"{mapped or address} {end[1]}"
