"""Makes configurations ACTIVE. A worker thread of the server.

Deviation: a configuration becomes ACTIVE at once, whatever its subnets and security groups: there are no networks to look them up in.
"""

from __future__ import annotations

import structlog

from runomics.domain.configuration import ConfigurationEvent, ConfigurationStatus, accepts, advance
from runomics.store import configurations
from runomics.store.database import Store, Tx

log = structlog.get_logger()


class Configurations:
    """Moves configurations. One is a row and nothing else, so a step is one unit."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def step(self, configuration_id: int) -> None:
        """Make the configuration with this row id ACTIVE. Idempotent.

        Raises:
            StoreUnavailable: nothing was written; the configuration still waits.
        """
        if self._store.write(lambda tx: _activate(tx, configuration_id)):
            log.info("configuration.moved", configuration_id=configuration_id, status=str(ConfigurationStatus.ACTIVE))


def _activate(tx: Tx, configuration_id: int) -> bool:
    configuration = configurations.load_configuration(tx, configuration_id)
    if configuration is None:
        return False
    status = ConfigurationStatus(configuration.status)
    if not accepts(status, ConfigurationEvent.ACTIVATED):
        return False
    return configurations.apply_configuration(tx, configuration, advance(status, ConfigurationEvent.ACTIVATED))
