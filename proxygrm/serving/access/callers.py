"""Which callers of a front end need no key. None by default, and never all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

from proxygrm.core.errors import UserError

_THIS_MACHINE = (ip_network("127.0.0.0/8"), ip_network("::1"))
_SHORTEST_PREFIX = {4: 8, 6: 7}
"""Those of the widest private networks, 10.0.0.0/8 and fc00::/7."""


@dataclass(frozen=True)
class Callers:
    """Callers that need no key, by the address of their end of the connection; headers do not count."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def include(self, address: str | None) -> bool:
        """address: of the socket's other end; None (not an IP socket) is never included."""
        try:
            peer = _plain(ip_address((address or "").partition("%")[0]))
        except ValueError:
            return False
        return any(peer in network for network in self.networks)

    def __str__(self) -> str:
        return ", ".join(map(str, self.networks)) or "nobody"


NOBODY = Callers()
THIS_MACHINE = Callers(_THIS_MACHINE)


def parse_callers(texts: Iterable[str]) -> Callers:
    """Of addresses (10.0.0.7) and networks (10.0.0.0/24). UserError for anything else, and for too wide a network."""
    networks: list[IPv4Network | IPv6Network] = []
    for text in texts:
        try:
            network = ip_network(text.strip())
        except ValueError as error:
            reason = str(error) if "host bits" in str(error) else "names are not looked up"
            raise UserError(
                f"--allow {text}: give an address or a network such as 10.0.0.0/24 ({reason})",
                code="proxy.not-an-address",
                text=text,
                reason=reason,
            ) from None
        mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
        if mapped and network.prefixlen >= 96:
            network = ip_network(f"{mapped}/{network.prefixlen - 96}")
        networks.append(network)
    merged: list[IPv4Network | IPv6Network] = [
        *collapse_addresses(network for network in networks if isinstance(network, IPv4Network)),
        *collapse_addresses(network for network in networks if isinstance(network, IPv6Network)),
    ]
    for network in merged:
        if network.prefixlen < _SHORTEST_PREFIX[network.version]:
            raise UserError(
                f"--allow {network} would let in nearly everybody without a key; name the networks of your callers "
                f"(at most a /{_SHORTEST_PREFIX[network.version]})",
                code="proxy.too-many-callers",
                network=str(network),
            )
    return Callers(tuple(merged))


def is_loopback(address: str) -> bool:
    return _plain(ip_address(address.partition("%")[0])).is_loopback


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 peer of an IPv6 socket has an address like ::ffff:1.2.3.4."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
