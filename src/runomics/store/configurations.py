"""Rows of configurations: what CreateConfiguration inserts, what clients read, what the scheduler applies. Used inside a unit."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from runomics.domain.configuration import ConfigurationStatus
from runomics.store import statements
from runomics.store.guard import update_guarded
from runomics.store.pages import Listing, page
from runomics.store.transaction import Tx

KIND = "configuration"
"""What a configuration is called in counters and wakes; the id there is the row's."""


@dataclass(frozen=True, slots=True)
class ConfigurationRow:
    """A row of `configuration` (the migration says what each column is). `run_configurations`, `tags`: JSON text."""

    id: int
    account: str
    name: str
    uuid: str
    description: str | None
    status: str
    run_configurations: str
    tags: str
    revision: int
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConfiguration:
    """What CreateConfiguration decides. It begins as CREATING."""

    id: int
    account: str
    name: str
    uuid: str
    description: str | None = None
    run_configurations: str
    tags: str = "{}"
    created_ms: int


COLUMNS = statements.columns(ConfigurationRow)
SQL = statements.load("configurations", configuration=ConfigurationRow)
_LISTING = Listing(
    table="configuration",
    columns=COLUMNS,
    always="account = :account",
    indexed=frozenset({frozenset()}),
    texts=frozenset(),
)


# ---- for operations ----------------------------------------------------------------------------------------------


def insert_configuration(tx: Tx, new: NewConfiguration) -> None:
    """Insert a CREATING configuration and wake the scheduler for it.

    Raises:
        Duplicate: the account has one of this name.
    """
    SQL.insert_configuration(tx, **asdict(new))
    tx.wake(KIND, new.id)


def find_configuration(tx: Tx, account: str, name: str) -> ConfigurationRow | None:
    """The account's configuration of this name; None when it has none."""
    row = SQL.find_configuration(tx, account=account, name=name)
    return None if row is None else ConfigurationRow(*row)


def list_configurations(
    tx: Tx, account: str, *, after_id: int, limit: int
) -> tuple[list[ConfigurationRow], int | None]:
    """A page of the account's configurations, ascending by id, and the id to go on after, None at the end."""
    rows, next_id = page(tx, _LISTING, scope={"account": account}, filters={}, after_id=after_id, limit=limit)
    return [ConfigurationRow(*row) for row in rows], next_id


def count_configurations(tx: Tx, account: str) -> int:
    """How many configurations the account has, of whatever status."""
    count: int = SQL.count_configurations(tx, account=account)
    return count


def find_open_run(tx: Tx, configuration_id: int) -> int | None:
    """A run that names the configuration and has not ended."""
    run_id: int | None = SQL.open_run_with_configuration(tx, id=configuration_id)
    return run_id


def delete_configuration(tx: Tx, configuration: ConfigurationRow) -> bool:
    """Remove the configuration, if it still is what was read. Its runs keep what they need of it."""
    removed: int = SQL.delete_configuration(tx, id=configuration.id, revision=configuration.revision)
    return removed == 1


# ---- for the scheduler -------------------------------------------------------------------------------------------


def load_configuration(tx: Tx, configuration_id: int) -> ConfigurationRow | None:
    """Any account's configuration."""
    row = SQL.load_configuration(tx, id=configuration_id)
    return None if row is None else ConfigurationRow(*row)


def creating_configurations(tx: Tx) -> list[int]:
    """Ids of the configurations of all accounts that wait for the scheduler, the oldest first."""
    return [row[0] for row in SQL.creating_configurations(tx)]


def apply_configuration(tx: Tx, configuration: ConfigurationRow, status: ConfigurationStatus) -> bool:
    """Give `configuration`, as it was read, its `status`; False, and nothing changed, when it changed meanwhile."""
    return update_guarded(
        tx,
        "configuration",
        {"status": str(status)},
        row_id=configuration.id,
        revision=configuration.revision,
        status=configuration.status,
    )
