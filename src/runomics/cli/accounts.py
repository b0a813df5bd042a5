"""Accounts, access keys and buckets for the operator: asked of the running server, or done on DATA itself while none runs. Runs in the
user's process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from runomics.cli.connection import (
    Connection,
    RequestFailed,
    data_given,
    export_lines,
    is_listening,
    read_endpoint,
    read_keys,
)
from runomics.domain.policy import managed_name

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="The server's directory. Default: RUNOMICS_DATA, else as `serve` has it."
    ),
]

accounts = typer.Typer(help="Accounts of this server.", no_args_is_help=True, rich_markup_mode=None)
keys = typer.Typer(help="Access keys, and what they may do.", no_args_is_help=True, rich_markup_mode=None)
buckets = typer.Typer(
    help="Buckets of the folder store, and whose they are.", no_args_is_help=True, rich_markup_mode=None
)


# ---- accounts ----------------------------------------------------------------------------------------------------


@accounts.command("add")
def add_account(
    account: Annotated[str, typer.Argument(metavar="ID", help="12 digits.")],
    name: Annotated[str, typer.Option(help="What you call it. Default: its id.")] = "",
    data: Data = None,
) -> None:
    """Add an account. It has no keys yet."""
    ask(data_given(data), "POST", "accounts", {"account": account, "name": name})
    print(f"added account {account}; make its first key with: runomics keys create --account {account}")


@accounts.command("list")
def list_accounts(data: Data = None) -> None:
    """List all accounts."""
    found = ask(data_given(data), "GET", "accounts")["accounts"]
    print_table(("ACCOUNT", "NAME", "SINCE"), [(row["account"], row["name"], _day(row["created_ms"])) for row in found])


# ---- keys --------------------------------------------------------------------------------------------------------


@keys.command("create")
def create_key(
    account: Annotated[str, typer.Option(metavar="ID", help="Whose requests it signs.")],
    policy: Annotated[
        str,
        typer.Option(
            metavar="FILE|NAME",
            help="An IAM policy document, or AmazonOmicsFullAccess or AmazonOmicsReadOnlyAccess. Without: everything.",
        ),
    ] = "",
    name: Annotated[str, typer.Option(metavar="USER", help="The user who holds it. Without: the account's root.")] = "",
    data: Data = None,
) -> None:
    """Make an access key and print it as export lines. The secret is shown this once.

    The first key of an account is kept in DATA/credentials.d, for `runomics env --account ID`.
    """
    directory = data_given(data)
    made = ask(directory, "POST", "keys", {"account": account, "policy": _policy(policy), "name": name})
    kept = f"; kept for: runomics env --account {account}" if made["kept"] else ""
    print(f"key {made['access_key_id']} of {made['principal_arn']} may do: {made['policy']}{kept}", file=sys.stderr)
    variables = {
        "AWS_ACCESS_KEY_ID": made["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": made["secret_access_key"],
    }
    print(export_lines(variables))


@keys.command("list")
def list_keys(data: Data = None) -> None:
    """List all keys of all accounts, without their secrets."""
    print_table(
        ("KEY", "ACCOUNT", "PRINCIPAL", "MAY DO", "STATUS", "SINCE"),
        [
            (
                row["access_key_id"],
                row["account"],
                row["principal_arn"],
                row["policy"],
                row["status"],
                _day(row["created_ms"]),
            )
            for row in ask(data_given(data), "GET", "keys")["keys"]
        ],
    )


@keys.command("disable")
def disable_key(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Begins with AKIA.")], data: Data = None
) -> None:
    """Disable a key, for good. Requests signed with it are refused from now on."""
    ask(data_given(data), "POST", f"keys/{quote(key_id, safe='')}/disable")
    print(f"disabled {key_id}")


# ---- buckets -----------------------------------------------------------------------------------------------------


@buckets.command("list")
def list_buckets(data: Data = None) -> None:
    """List all buckets, their owners and who else may read them."""
    print_table(
        ("BUCKET", "OWNER", "READERS"),
        [
            (row["bucket"], row["account"] or "nobody yet", ", ".join(row["readers"]).replace("*", "everyone"))
            for row in ask(data_given(data), "GET", "buckets")["buckets"]
        ],
    )


@buckets.command("make")
def make_bucket(
    bucket: Annotated[str, typer.Argument(metavar="BUCKET")],
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="Whose it is. Default: the account of DATA/credentials.")
    ] = None,
    data: Data = None,
) -> None:
    """Make a bucket for an account, or give it one that nobody has used."""
    directory = data_given(data)
    owner = account or read_keys(directory).account
    ask(directory, "POST", "buckets", {"bucket": bucket, "account": owner})
    print(f"bucket {bucket} belongs to account {owner}")


@buckets.command("open")
def open_bucket(
    bucket: Annotated[str, typer.Argument(metavar="BUCKET")],
    account: Annotated[str, typer.Option(metavar="ID", help="Who may read it. Default: everyone.")] = "",
    data: Data = None,
) -> None:
    """Let other accounts read a bucket. Only its owner writes to it."""
    made = ask(data_given(data), "POST", f"buckets/{quote(bucket, safe='')}/open", {"account": account})
    print(f"bucket {bucket} is open to {', '.join(made['readers']).replace('*', 'everyone')}")


# ---- asking ------------------------------------------------------------------------------------------------------


def ask(data: Path, method: str, path: str, document: Mapping[str, str] | None = None) -> Any:
    """Have the server manage something, or do it here while none runs.

    Raises:
        RequestFailed: it was refused. NoServer: DATA cannot be used.
    """
    endpoint = read_endpoint(data)
    if endpoint is not None and is_listening(endpoint):
        return Connection(data, endpoint, read_keys(data)).manage(method, path, document)
    # The store costs 60 ms that a command to a running server need not pay.
    from runomics.cli.without_server import manage  # noqa: PLC0415

    return manage(data, method, path, document or {})


def _policy(given: str) -> str:
    """A managed policy's name as it is; else the text of the file."""
    if not given or managed_name(given) is not None:
        return given
    try:
        return Path(given).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestFailed(f"{given} is neither a managed policy nor a file that can be read: {error}") from None


def _day(epoch_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(epoch_ms / 1000))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Lines of columns, each as wide as its widest text."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
