"""`runomics engines`: which workflow engines this installation has, and how the one that is not a Python package is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runomics.engines import installed

engines = typer.Typer(help="The workflow engines of this installation.", no_args_is_help=True)


class EngineNotInstalled(Exception):
    """An engine could not be installed. The message says what to do."""


@engines.command("list")
def list_engines() -> None:
    """Print every engine, and why it cannot run where it cannot."""
    for name, why_not in installed.engines().items():
        print(f"{name.lower()}\t{'ready' if not why_not else f'not here: {why_not}'}")


@engines.command("install")
def install(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help="nextflow; the others come with runomics.")],
    plugin: Annotated[
        list[Path] | None,
        typer.Option(metavar="ZIP", help="Also add this plugin of Nextflow, <id>-<version>.zip. May be given again."),
    ] = None,
    only_when_changed: Annotated[
        bool, typer.Option("--only-when-changed", help="Do nothing when this version is there already.")
    ] = False,
) -> None:
    """Install an engine: needs maven and a JDK of version 17 to 24, and fetches about 35 MB from Maven Central."""
    # The other commands do not pay for it.
    from runomics.engines.nextflow import install as nextflow  # noqa: PLC0415

    if engine.lower() != "nextflow":
        raise EngineNotInstalled(f"{engine} cannot be installed by this command; only nextflow can")
    try:
        found = nextflow.install(print, only_when_changed=only_when_changed)
        for archive in plugin or ():
            print(f"added plugin {nextflow.add_plugin(archive)}")
    except nextflow.InstallFailed as error:
        raise EngineNotInstalled(str(error)) from None
    print(f"Nextflow is ready in {found.directory}")
