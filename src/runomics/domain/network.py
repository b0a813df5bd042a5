"""Networks that an operator defines for runs with networkingMode VPC, and which of them a configuration means. Pure; server side.

A configuration names subnets and security groups of a VPC that is not here. So an operator says in settings which of these ids stand
for which network; a network that lists no subnets stands for the configurations of its own name.
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

DEFAULT_POOL = ipaddress.IPv4Network("10.212.0.0/14")
"""Where bridges get their own addresses when nobody says; a /22 each, as a bridge of the kernel takes 1,024 tasks."""
_DEFAULT_PREFIX = 22
_SMALLEST_PREFIX = 29


class InvalidNetwork(ValueError):
    """A network that cannot be. The message names the member."""


@dataclass(frozen=True, slots=True)
class Network:
    """One network of the operator's. `host`: tasks share the host's own. `bridge`: tasks reach `allow` and nothing else.

    `allow`: IPv4 ranges. `dns`: IPv4 addresses of resolvers, reachable on port 53 besides; none: the host's. `subnet`: what the tasks' own
    addresses are taken from. `accounts`: who may use it, empty = all. `subnet_ids`, `security_group_ids`: the configurations that mean it.
    """

    name: str
    mode: Literal["host", "bridge"]
    allow: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    subnet: str | None = None
    accounts: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()

    @property
    def addresses(self) -> ipaddress.IPv4Network:
        """The subnet, or the slice of the pool that belongs to this name."""
        if self.subnet is not None:
            return ipaddress.IPv4Network(self.subnet)
        slices = 1 << (_DEFAULT_PREFIX - DEFAULT_POOL.prefixlen)
        first = int(DEFAULT_POOL.network_address) + (zlib.crc32(self.name.encode()) % slices << (32 - _DEFAULT_PREFIX))
        return ipaddress.IPv4Network((first, _DEFAULT_PREFIX))


class Table(Protocol):
    """One table of the operator's settings."""

    def model_dump(self) -> dict[str, Any]: ...


def networks_of(tables: Mapping[str, Table]) -> tuple[Network, ...]:
    """The networks that settings define.

    Raises:
        InvalidNetwork: as `check`.
    """
    networks = tuple(Network(name=name, **table.model_dump()) for name, table in tables.items())
    check(networks)
    return networks


def check(networks: Sequence[Network]) -> None:
    """Look at all networks of a server together.

    Raises:
        InvalidNetwork: a member is no IPv4 range or address, a range has bits behind its prefix, or two networks overlap.
    """
    bridges: list[Network] = []
    for network in networks:
        if network.mode == "host":
            _check_host(network)
            continue
        _check_bridge(network)
        for other in bridges:
            if network.addresses.overlaps(other.addresses):
                raise InvalidNetwork(
                    f"networks {other.name} and {network.name} have overlapping subnets, {other.addresses} and {network.addresses}: "
                    "give one of them another subnet"
                )
        bridges.append(network)


def _check_host(network: Network) -> None:
    named = [member for member in ("allow", "dns", "subnet") if getattr(network, member)]
    if named:
        raise InvalidNetwork(
            f"network {network.name} has mode host, where {named[0]} means nothing: leave it out, or take mode bridge"
        )


def _check_bridge(network: Network) -> None:
    for member, values in (("allow", network.allow), ("subnet", () if network.subnet is None else (network.subnet,))):
        for value in values:
            try:
                ipaddress.IPv4Network(value)
            except ValueError as error:
                raise InvalidNetwork(f"network {network.name}: {member} {value!r} is no IPv4 range ({error})") from None
    for value in network.dns:
        try:
            ipaddress.IPv4Address(value)
        except ValueError:
            raise InvalidNetwork(f"network {network.name}: dns {value!r} is no IPv4 address") from None
    if network.addresses.prefixlen > _SMALLEST_PREFIX:
        raise InvalidNetwork(
            f"network {network.name}: subnet {network.subnet} is too small, take a /{_SMALLEST_PREFIX} or larger"
        )


def meant_by(
    networks: Sequence[Network], *, account: str, configuration_name: str, vpc_config: Mapping[str, Any]
) -> Network | str:
    """The network that a configuration of `account` stands for; a text, when none or several are, says what to do about it.

    Its subnets decide, and its security groups where a network lists some; a network without subnets is meant by its name.
    """
    open_to_account = [network for network in networks if not network.accounts or account in network.accounts]
    subnets, groups = set(vpc_config.get("subnetIds") or ()), set(vpc_config.get("securityGroupIds") or ())
    meant = [
        network
        for network in open_to_account
        if network.subnet_ids
        and subnets
        and subnets <= set(network.subnet_ids)
        and (not network.security_group_ids or groups <= set(network.security_group_ids))
    ]
    meant = meant or [
        network for network in open_to_account if not network.subnet_ids and network.name == configuration_name
    ]
    if len(meant) == 1:
        return meant[0]
    ids = ", ".join([*sorted(subnets), *sorted(groups)]) or "no ids"
    if meant:
        return f"Its ids ({ids}) stand for more than one network of this server: {', '.join(network.name for network in meant)}."
    return (
        f"No network of this server stands for it ({ids}). The operator of the server defines one in runomics.toml: "
        f"[networks.{configuration_name}], or any with these ids among its subnet_ids and security_group_ids."
    )
