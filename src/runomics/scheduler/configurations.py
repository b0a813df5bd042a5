"""Makes configurations ACTIVE, or FAILED when no network of this server is meant by one. A worker thread of the server.

Deviation: subnets and security groups are looked up among the networks that the operator defines, at once; the reason of a FAILED
configuration, which the API has no member for, is said by StartRun and in the server's log.
"""

from __future__ import annotations

import structlog

from runomics.domain.configuration import ConfigurationEvent, ConfigurationStatus, accepts, advance
from runomics.scheduler.networks import NONE, Networks
from runomics.store import configurations
from runomics.store.database import Store, Tx

log = structlog.get_logger()


class Configurations:
    """Moves configurations. One is a row and nothing else, so a step is one unit."""

    def __init__(self, store: Store, networks: Networks = NONE) -> None:
        self._store = store
        self._networks = networks

    def step(self, configuration_id: int) -> None:
        """Make the configuration with this row id ACTIVE or FAILED. Idempotent.

        Raises:
            StoreUnavailable: nothing was written; the configuration still waits.
        """
        moved = self._store.write(lambda tx: self._settle(tx, configuration_id))
        if moved is not None:
            status, why = moved
            log.info("configuration.moved", configuration_id=configuration_id, status=str(status), reason=why)

    def _settle(self, tx: Tx, configuration_id: int) -> tuple[ConfigurationStatus, str | None] | None:
        """The new status, and why it is FAILED; None when there was nothing to do."""
        row = configurations.load_configuration(tx, configuration_id)
        if row is None or not accepts(ConfigurationStatus(row.status), ConfigurationEvent.ACTIVATED):
            return None
        why = self._networks.problem(row.account, row.name, row.run_configurations)
        event = ConfigurationEvent.ACTIVATED if why is None else ConfigurationEvent.NETWORK_MISSING
        status = advance(ConfigurationStatus(row.status), event)
        return (status, why) if configurations.apply_configuration(tx, row, status) else None
