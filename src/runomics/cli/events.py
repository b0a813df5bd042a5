"""Webhooks for the operator: who is told of events. Runs in the user's process."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from runomics.cli.accounts import Data, ask, print_table
from runomics.cli.connection import data_given

events = typer.Typer(
    help="Webhooks that are told of each change of status.", no_args_is_help=True, rich_markup_mode=None
)


@events.command("add")
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="http or https; events come by POST.")],
    account: Annotated[str, typer.Option(metavar="ID", help="Whose events. Default: every account's.")] = "",
    kinds: Annotated[
        str,
        typer.Option(metavar="LIST", help="Of run, task, batch, workflow, share, separated by commas. Default: all."),
    ] = "",
    data: Data = None,
) -> None:
    """Add a webhook. It is told of what happens from now on; its secret is shown this once."""
    made = ask(data_given(data), "POST", "webhooks", {"url": url, "account": account, "kinds": kinds})
    print(f"added webhook {made['id']}: {', '.join(made['kinds'])} of {made['account'] or 'every account'}")
    print(f"secret {made['secret']}")


@events.command("list")
def list_(data: Data = None) -> None:
    """List all webhooks, what waits for them, and why."""
    print_table(
        ("ID", "URL", "ACCOUNT", "KINDS", "WAITING", "STATE"),
        [
            (
                str(row["id"]),
                row["url"],
                row["account"] or "every",
                ",".join(row["kinds"]),
                str(row["waiting"]),
                _state(row),
            )
            for row in ask(data_given(data), "GET", "webhooks")["webhooks"]
        ],
    )


@events.command("remove")
def remove(
    webhook: Annotated[int, typer.Argument(metavar="ID", min=1, help="As `runomics events list` shows it.")],
    data: Data = None,
) -> None:
    """Remove a webhook. What it has not been told yet it is not told any more."""
    ask(data_given(data), "POST", f"webhooks/{webhook}/remove")
    print(f"removed webhook {webhook}")


def _state(row: dict[str, Any]) -> str:
    if row["failing_since_ms"] is None:
        return "ok"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["failing_since_ms"] / 1000))
    return f"failing since {since}: {row['failure']}"
