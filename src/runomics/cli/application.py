"""The commands of `runomics` and their options; each is a few lines that call the module of its name. Runs in the user's process."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from runomics import __version__
from runomics.cli import accounts as account_commands
from runomics.cli import doctor as doctor_module
from runomics.cli import engines as engine_commands
from runomics.cli import events as event_commands
from runomics.cli import run as run_module
from runomics.cli import run_logs, server
from runomics.cli.connection import (
    Connection,
    NoServer,
    RequestFailed,
    connect,
    data_given,
    environment,
    export_lines,
    merged_environment,
    read_endpoint,
)
from runomics.cli.cwl import is_cwl, load_cwl
from runomics.cli.definition import BadDefinition, Definition, load_wdl
from runomics.cli.inputs import BadInputs
from runomics.cli.nextflow import is_nextflow, load_nextflow
from runomics.cli.objects import buckets_of
from runomics.cli.server import StopFailed, connect_or_start, wait_until
from runomics.domain.run import ENDED
from runomics.ports import ObjectForbidden, ObjectMissing
from runomics.settings import SettingsError, load, parse_flags

CANCEL_SECONDS = 120.0

application = typer.Typer(
    name="runomics",
    help="The AWS HealthOmics workflow API on machines you own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="The server's directory. Default: RUNOMICS_DATA, else as `serve` has it."
    ),
]

EXPECTED = (
    BadDefinition,
    BadInputs,
    engine_commands.EngineNotInstalled,
    NoServer,
    ObjectForbidden,
    ObjectMissing,
    RequestFailed,
    SettingsError,
    StopFailed,
    run_logs.NoSuchTask,
    run_module.WorkflowRefused,
)
"""Errors whose message says all that a user needs."""


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. Expected errors become one message on stderr, without a traceback."""
    try:
        application(args=list(arguments), prog_name="runomics")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else run_module.EXIT_COMPLETED
    except EXPECTED as error:
        print(f"runomics: {error}", file=sys.stderr)
        return run_module.EXIT_FAILED
    except ClientError as error:
        details = error.response["Error"]
        print(f"runomics: {error.operation_name}: {details['Code']}: {details['Message']}", file=sys.stderr)
        return run_module.EXIT_FAILED
    except BotoCoreError as error:
        print(f"runomics: {error}", file=sys.stderr)
        return run_module.EXIT_FAILED
    return run_module.EXIT_COMPLETED


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"runomics {__version__}")
        raise typer.Exit


application.add_typer(account_commands.accounts, name="accounts")
application.add_typer(account_commands.keys, name="keys")
application.add_typer(account_commands.buckets, name="buckets")
application.add_typer(event_commands.events, name="events")
application.add_typer(engine_commands.engines, name="engines")


@application.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


@application.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
)
def serve(context: typer.Context) -> None:
    """Start the service; every setting is an option: runomics serve --help."""
    from runomics import app  # noqa: PLC0415  (the other commands do not pay for the service)

    raise typer.Exit(app.serve(parse_flags(context.args)))


@application.command()
def env(
    data: Data = None,
    account: Annotated[
        str | None, typer.Option(metavar="ID", help="The account whose key to print. Default: the operator's.")
    ] = None,
) -> None:
    """Print the export lines that turn AWS SDKs and the AWS CLI towards the server: eval "$(runomics env)"."""
    print(export_lines(environment(connect(data_given(data), account))))


@application.command()
def doctor(data: Data = None) -> None:
    """Try everything the service needs by doing it; say what works, what is missing, what to install."""
    raise typer.Exit(doctor_module.examine(load({"data": data}), Console()))


@application.command()
def run(
    wdl: Annotated[
        Path,
        typer.Argument(
            metavar="MAIN",
            help="The workflow, .wdl, .cwl or .nf; or a folder that holds main.wdl, main.cwl or main.nf.",
        ),
    ],
    inputs: Annotated[
        Path | None, typer.Option("--inputs", "-i", metavar="FILE", help="JSON of inputs; local files are uploaded.")
    ] = None,
    outputs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to put outputs. Default: ./<run id>.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's name. Default: the workflow's.")] = None,
    storage_type: Annotated[str | None, typer.Option(help="STATIC or DYNAMIC.")] = None,
    storage_capacity: Annotated[int | None, typer.Option(metavar="GIB", help="GiB of STATIC storage.")] = None,
    output_uri: Annotated[str | None, typer.Option(metavar="S3_URI", help="Where the service exports to.")] = None,
    role_arn: Annotated[
        str | None, typer.Option(metavar="ARN", help="The run's role. Default: one of this account.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    log_level: Annotated[str | None, typer.Option(help="OFF, FATAL, ERROR or ALL.")] = None,
    data: Data = None,
) -> None:
    """Run a WDL, CWL or Nextflow workflow to its end and fetch its outputs; starts a server if none runs.

    Exit code: 0 completed, 1 failed, 130 cancelled or left alone.
    """
    definition = _load(wdl)
    members = {
        "storageType": storage_type and storage_type.upper(),
        "storageCapacity": storage_capacity,
        "priority": priority,
        "logLevel": log_level and log_level.upper(),
    }
    order = run_module.Order(
        definition=definition,
        inputs=_read_inputs(inputs),
        inputs_folder=inputs.parent if inputs else Path(),
        outputs=outputs,
        name=name,
        output_uri=output_uri,
        role_arn=role_arn,
        members={key: value for key, value in members.items() if value is not None},
    )
    console = Console()
    connection, started = connect_or_start(data_given(data))
    if started:
        console.print(
            f"started a server at {connection.endpoint.url}; it stays until: runomics stop",
            highlight=False,
            soft_wrap=True,
        )
    buckets = buckets_of(load({"data": connection.data}))
    session = run_module.Session(connection, connection.client(), buckets, console)
    raise typer.Exit(run_module.carry_out(session, order))


@application.command()
def logs(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    task: Annotated[str | None, typer.Option(metavar="TASK", help="A task's output, by id or name.")] = None,
    engine: Annotated[bool, typer.Option("--engine", help="The engine's log.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the log has ended.")] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="The time before each line.")] = False,
    data: Data = None,
) -> None:
    """Print the log of a run, of its engine, or of a task."""
    connection = connect(data_given(data))
    if task is not None and engine:
        raise typer.BadParameter("--task and --engine exclude each other")
    stream = run_logs.task_stream(connection.client(), run_id, task) if task else "engine" if engine else "run"
    for time_ms, text in run_logs.lines(connection, run_id, stream, follow=follow):
        print(f"{run_logs.time_text(time_ms)} {text}" if timestamps else text, flush=follow)


@application.command()
def stop(
    runs: Annotated[bool, typer.Option("--runs", help="Cancel all open runs first; without it they go on.")] = False,
    data: Data = None,
) -> None:
    """Stop the server. Runs go on, and the next server finds them."""
    directory = data_given(data)
    endpoint = read_endpoint(directory)
    if endpoint is None:
        raise NoServer(f"no server runs on {directory}")
    if runs:
        _cancel_runs(connect(directory))
    server.stop(endpoint)
    print(f"stopped the server at {endpoint.url}")


@application.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
def aws(arguments: Annotated[list[str] | None, typer.Argument(metavar="...")] = None) -> None:
    """Run the AWS CLI against the server: runomics aws omics list-runs. RUNOMICS_DATA chooses the server."""
    connection = connect(data_given(None))
    beside = Path(sys.executable).with_name("aws")
    program = str(beside) if beside.is_file() else shutil.which("aws")
    if program is None:
        raise NoServer("the AWS CLI is not installed; install it with: pip install awscli (or your system's package)")
    inherited = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ended = subprocess.run([program, *(arguments or [])], env=merged_environment(connection), check=False)
    finally:
        signal.signal(signal.SIGINT, inherited)
    raise typer.Exit(ended.returncode)


def _load(path: Path) -> Definition:
    """By its language, which its name tells."""
    if is_cwl(path):
        return load_cwl(path)
    return load_nextflow(path) if is_nextflow(path) else load_wdl(path)


def _read_inputs(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInputs(f"{path}: {error}") from None
    if not isinstance(document, dict):
        raise BadInputs(f"{path} is not a JSON object of inputs")
    return document


def _cancel_runs(connection: Connection) -> None:
    client = connection.client()

    def open_runs() -> list[str]:
        pages = client.get_paginator("list_runs").paginate()
        return [item["id"] for page in pages for item in page["items"] if item["status"] not in ENDED]

    for run_id in open_runs():
        try:
            client.cancel_run(id=run_id)
            print(f"cancelled run {run_id}")
        except client.exceptions.ConflictException:
            continue
    if not wait_until(lambda: not open_runs(), CANCEL_SECONDS, interval_seconds=0.25):
        raise StopFailed(
            f"runs are still open after {CANCEL_SECONDS:.0f} s: {', '.join(open_runs())}; the server was not stopped"
        )
