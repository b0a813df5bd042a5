"""Which network a configuration means, and which networks cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from runomics.domain.network import DEFAULT_POOL, InvalidNetwork, Network, check, meant_by

ACCOUNT, OTHER = "123456789012", "210987654321"


def meant(*networks: Network, account: str = ACCOUNT, name: str = "c", **vpc_config: Any) -> str:
    """The name of the network, or what is said in its place."""
    found = meant_by(networks, account=account, configuration_name=name, vpc_config=vpc_config)
    return found if isinstance(found, str) else found.name


def test_subnets_decide_all_of_them_and_security_groups_where_a_network_lists_some() -> None:
    wide = Network("wide", "host", subnet_ids=("a", "b", "c"))
    strict = Network("strict", "host", subnet_ids=("d",), security_group_ids=("g",))
    assert meant(wide, strict, subnetIds=["a", "c"]) == "wide"
    assert meant(wide, strict, subnetIds=["d"], securityGroupIds=["g"]) == "strict"
    assert meant(wide, strict, subnetIds=["a", "d"]).startswith("No network of this server")
    assert meant(wide, strict, subnetIds=["d"], securityGroupIds=["g", "h"]).startswith("No network of this server")


def test_a_network_without_subnets_is_meant_by_its_name_alone() -> None:
    lab, listed = Network("lab", "host"), Network("listed", "host", subnet_ids=("a",))
    assert meant(lab, listed, name="lab", subnetIds=["z"]) == "lab"
    assert meant(lab, listed, name="lab", subnetIds=["a"]) == "listed"
    assert meant(lab, listed, name="listed", subnetIds=["z"]).startswith("No network of this server stands for it (z).")
    assert meant(lab, listed, name="other").startswith("No network of this server stands for it (no ids).")


def test_a_network_of_some_accounts_is_nothing_to_others() -> None:
    own = Network("lab", "host", accounts=(ACCOUNT,))
    assert meant(own, name="lab") == "lab"
    assert meant(own, name="lab", account=OTHER).startswith("No network of this server")


def test_ids_that_stand_for_two_networks_stand_for_none() -> None:
    networks = Network("one", "host", subnet_ids=("a",)), Network("two", "host", subnet_ids=("a", "b"))
    assert meant(*networks, subnetIds=["a"]) == "Its ids (a) stand for more than one network of this server: one, two."


def test_addresses_are_given_or_a_slice_of_the_pool_that_goes_with_the_name() -> None:
    assert str(Network("lab", "bridge", subnet="10.1.0.0/24").addresses) == "10.1.0.0/24"
    slices = [Network(name, "bridge").addresses for name in ("lab", "lab", "other")]
    assert slices[0] == slices[1] != slices[2]
    assert all(each.subnet_of(DEFAULT_POOL) and each.prefixlen == 22 for each in slices)


@pytest.mark.parametrize(
    ("networks", "says"),
    [
        ([Network("a", "host", allow=("10.0.0.0/8",))], "network a has mode host, where allow means nothing"),
        ([Network("a", "bridge", allow=("10.0.0.1/8",))], "network a: allow '10.0.0.1/8' is no IPv4 range"),
        ([Network("a", "bridge", allow=("::/0",))], "network a: allow '::/0' is no IPv4 range"),
        ([Network("a", "bridge", dns=("ns.example",))], "network a: dns 'ns.example' is no IPv4 address"),
        ([Network("a", "bridge", subnet="10.0.0.0/30")], "network a: subnet 10.0.0.0/30 is too small"),
        (
            [Network("a", "bridge", subnet="10.0.0.0/24"), Network("b", "bridge", subnet="10.0.0.0/16")],
            "networks a and b have overlapping subnets",
        ),
    ],
)
def test_what_cannot_be_is_said(networks: list[Network], says: str) -> None:
    with pytest.raises(InvalidNetwork, match=says):
        check(networks)
