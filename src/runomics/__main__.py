"""The entry of `runomics` and `python -m runomics`: `serve` starts the service, everything else is the command line."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["serve"]:
        return serve(given[1:])
    # typer, rich and boto3 cost 0.2 s and 30 MB that a server must not pay.
    from runomics.cli.application import run_command  # noqa: PLC0415

    return run_command(given)


def serve(flags: Sequence[str]) -> int:
    """Read the settings and hand over to the service; returns when it has stopped."""
    # A restart is to be short. What is loaded stays: looking through it for garbage, again and again, costs 40 ms (wire.server.settle
    # turns the collector on). structlog draws tracebacks with rich where it finds it, which is 20 ms more, and a server draws none.
    gc.disable()
    sys.modules["rich"] = None  # type: ignore[assignment]
    # The command line does not load the service.
    from runomics.settings import SettingsError, parse_flags  # noqa: PLC0415

    try:
        settings = parse_flags(flags)
    except SettingsError as error:
        print(f"runomics serve: {error}", file=sys.stderr)
        return EXIT_USAGE
    from runomics import app  # noqa: PLC0415  (--help and a wrong setting do not load the service)

    return app.serve(settings)


if __name__ == "__main__":
    sys.exit(main())
