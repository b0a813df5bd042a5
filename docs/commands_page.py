"""docs/user/cli.md: what each command says of itself, under a hand-written introduction kept here."""

from __future__ import annotations

import typer.main
from typer.testing import CliRunner

from runomics.cli.application import application

HEAD = """\
# The command line

<!-- Generated from the commands' own help by `make docs`; do not edit. The introduction is in docs/commands_page.py. -->

Every command but `serve` talks to a running server as its own user would: it reads `DATA/endpoint.json` and `DATA/credentials`, and speaks
the omics API. `accounts`, `keys` and `buckets` also work while no server runs. `--data DIR` or `RUNOMICS_DATA` chooses the server; the
default is the same as that of `serve`.

Exit codes: 0 done (of `run`: COMPLETED), 1 failed, 2 wrong usage, 130 cancelled or left alone. `aws` gives back the AWS CLI's own.

Ctrl-C during `run` asks whether to cancel the run, to leave it alone, or to go on watching; a second Ctrl-C, or a first one where there is
no terminal, leaves it alone. The server and its runs do not notice that the command line is gone.
"""

SERVE = """\
## serve

```
Usage: runomics serve [--SETTING VALUE]...

  Start the service and serve until SIGTERM or SIGINT. Runs in flight go on
  without the server, and the next one on the same DATA finds them.
```

Every [setting](settings.md) is an option, with dashes: `--host-cpus 8`.
"""


def pages() -> dict[str, str]:
    """The one page."""
    command = typer.main.get_command(application)
    names: list[list[str]] = []
    for name, one in command.commands.items():  # type: ignore[attr-defined]
        if name not in ("serve", "aws"):
            names += [[name, below] for below in getattr(one, "commands", ())] or [[name]]
    return {"user/cli.md": "\n".join([HEAD, SERVE, *(_section(name) for name in names), AWS])}


def _section(name: list[str]) -> str:
    shown = CliRunner().invoke(application, [*name, "--help"], prog_name="runomics", env={"COLUMNS": "80"})
    return f"## {' '.join(name)}\n\n```\n{shown.output.strip()}\n```\n"


AWS = """\
## aws

```
Usage: runomics aws ARGUMENT...

  Run the AWS CLI with the server's endpoint, region and keys in its
  environment: runomics aws omics list-runs.
```

RUNOMICS_DATA chooses the server; all arguments belong to the AWS CLI, which must be installed.
"""
