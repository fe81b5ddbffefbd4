"""A server proves that it holds the job's key before it is sent the key.

What listens at a replica's address need not be the replica: the server may have died, and another user of the node may
have taken its port. So each new connection starts with `GET /proof` and a random nonce, and the answer is an HMAC with
the key over the nonce and both ends of that very connection. A process in between has other ends, so it cannot pass on
the proof of a real replica; and the other end cannot change while the connection lasts. The key is long and random
(`secrets.token_urlsafe(32)`), so it cannot be found by trying keys on a proof.
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


def is_nonce(text: bytes) -> bool:
    return _NONCE.fullmatch(text) is not None


def proof(key: str, nonce: str, server: End, client: End) -> str:
    """What only a holder of the key can compute for the connection between these two ends."""
    message = "\n".join(("proxygrm: this server holds the key", nonce, _normalized(server), _normalized(client)))
    return hmac.digest(key.encode(), message.encode(), "sha256").hex()


def is_proof(text: str, key: str, nonce: str, server: End, client: End) -> bool:
    return hmac.compare_digest(text.encode(), proof(key, nonce, server, client).encode())


def proves_key(connection: http.client.HTTPConnection, key: str) -> bool:
    """Does the other end of this connection, kept open, hold the key? Raises OSError and HTTPException."""
    if connection.sock is None:
        connection.connect()
    connection.auto_open = 0  # it must not reconnect silently
    nonce = new_nonce()
    server, client = connection.sock.getpeername()[:2], connection.sock.getsockname()[:2]
    connection.request("GET", PATH, headers={NONCE_HEADER: nonce})
    response = connection.getresponse()
    if response.status != 200 or response.read(1):
        return False
    return is_proof(response.getheader(PROOF_HEADER, ""), key, nonce, server, client)


def _normalized(end: End) -> str:
    """The same on both sides: an IPv4 peer of an IPv6 socket has an address like ::ffff:1.2.3.4."""
    address = ip_address(end[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return f"{mapped or address} {end[1]}"
