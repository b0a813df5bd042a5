"""Accounts and their access keys. Used inside a unit, in the server process and by the operator's commands."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from runomics.store import statements
from runomics.store.transaction import Tx


@dataclass(frozen=True, slots=True)
class AccountRow:
    """A tenant. `account` is its 12 digits, `name` what an operator calls it."""

    account: str
    name: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class AccessKeyRow:
    """What signs an account's requests. `secret` is in clear: SigV4 needs it. `status` is ACTIVE or DISABLED.

    `policy` is a managed policy's name or an IAM policy document; with None the key may do everything in its account.
    """

    key_id: str
    account: str
    secret: str
    principal_arn: str
    created_ms: int
    status: str = "ACTIVE"
    policy: str | None = None


SQL = statements.load("accounts", account=AccountRow, access_key=AccessKeyRow)


def add_account(tx: Tx, account: str, name: str, now_ms: int) -> None:
    """Raises: Duplicate (from the store): there is such an account."""
    SQL.add_account(tx, account=account, name=name, created_ms=now_ms)


def find_account(tx: Tx, account: str) -> AccountRow | None:
    """The account with these 12 digits."""
    row = SQL.find_account(tx, account=account)
    return None if row is None else AccountRow(*row)


def list_accounts(tx: Tx) -> list[AccountRow]:
    """All accounts, ascending."""
    return [AccountRow(*row) for row in SQL.list_accounts(tx)]


def add_key(tx: Tx, key: AccessKeyRow) -> None:
    """Raises: Duplicate (from the store): the key id is taken."""
    SQL.add_key(tx, **asdict(key))


def find_key(tx: Tx, key_id: str) -> AccessKeyRow | None:
    """The key, active or not."""
    row = SQL.find_key(tx, key_id=key_id)
    return None if row is None else AccessKeyRow(*row)


def list_keys(tx: Tx) -> list[AccessKeyRow]:
    """All keys of all accounts, active or not, by key id."""
    return [AccessKeyRow(*row) for row in SQL.list_keys(tx)]


def disable_key(tx: Tx, key_id: str) -> bool:
    """Whether there is such a key; it signs nothing any more."""
    return bool(SQL.disable_key(tx, key_id=key_id) == 1)
