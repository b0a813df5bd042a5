"""Which network a run gets: what its configuration means on this server, and whether this machine can give it. In the server.

Asked when a configuration is made, when a run starts and when a server takes a run over: settings and machine may have changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from runomics.domain.network import Network, meant_by


class NoNetwork(Exception):
    """The run cannot have the network it asks for. The message says why and what to do."""


def _able() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Networks:
    """The operator's networks. `bridge_problem()` says why this machine cannot make bridges, None when it can."""

    defined: Sequence[Network] = ()
    bridge_problem: Callable[[], str | None] = _able

    def problem(self, account: str, configuration_name: str, run_configurations: str) -> str | None:
        """Why a configuration (its runConfigurations as JSON text) means no network of this server, None when it does or wants none."""
        vpc_config = orjson.loads(run_configurations).get("vpcConfig")
        if vpc_config is None:
            return None
        found = self._meant(account, configuration_name, vpc_config)
        return found if isinstance(found, str) else None

    def of_run(self, account: str, extra: str) -> Network | None:
        """The network of a run, whose row's `extra` is this JSON text; None: no interface but loopback.

        Raises:
            NoNetwork: no network of this server is meant, or this machine cannot make it.
        """
        kept = orjson.loads(extra)
        if kept.get("networkingMode") != "VPC":
            return None
        name = kept["configuration"]["name"]
        found = self._meant(account, name, kept.get("vpcConfig") or {})
        if isinstance(found, str):
            raise NoNetwork(f"Configuration {name} has no network any more. {found}")
        why = self.bridge_problem() if found.mode == "bridge" else None
        if why is not None:
            raise NoNetwork(f"Network {found.name} cannot be made on this host: {why}")
        return found

    def _meant(self, account: str, configuration_name: str, vpc_config: Mapping[str, Any]) -> Network | str:
        return meant_by(self.defined, account=account, configuration_name=configuration_name, vpc_config=vpc_config)


NONE = Networks()
