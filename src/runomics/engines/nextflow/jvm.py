"""How a JVM for Nextflow is started: options, class path, environment. Runs where the JVM is started: launcher, run process, installer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from runomics.engines.nextflow.installation import PLUGINS, Installation

MAIN = "org.runomics.nextflow.Main"

_OPENED = (
    "java.lang",
    "java.io",
    "java.nio",
    "java.net",
    "java.util",
    "java.util.concurrent.locks",
    "java.util.concurrent.atomic",
    "java.util.regex",
    "java.nio.file.spi",
    "sun.nio.ch",
    "sun.nio.fs",
    "sun.net.www.protocol.http",
    "sun.net.www.protocol.https",
    "sun.net.www.protocol.ftp",
    "sun.net.www.protocol.file",
    "jdk.internal.misc",
    "jdk.internal.vm",
)
"""Packages of the JDK that Nextflow and Groovy reach into by reflection. Source: observed (Nextflow's own launcher opens them)."""

_FLAGS = (
    # Runs are short and mostly wait: the second compiler never pays, one collector thread is enough, heaps shrink.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xms16m",
    "-XX:MinHeapFreeRatio=5",
    "-XX:MaxHeapFreeRatio=15",
    "-XX:MaxMetaspaceSize=256m",
    "-XX:ReservedCodeCacheSize=64m",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Xshare:auto",
    "-Dfile.encoding=UTF-8",
    "-Djava.awt.headless=true",
)

DEFAULT_HEAP_MIB = 512


def command(
    installation: Installation,
    *,
    arguments: Sequence[str],
    options: Sequence[str] = (),
    heap_mib: int = DEFAULT_HEAP_MIB,
) -> list[str]:
    """The command line. With an archive of classes the class path must be spelled jar by jar, as it was when the archive was made."""
    archive: list[str] = []
    if installation.archive is not None:
        archive = [
            f"-XX:SharedArchiveFile={installation.archive}",
            "-XX:+UnlockDiagnosticVMOptions",
            # Mapped where it was made: what need not be relocated stays shared between all JVMs, 25 MiB of each.
            "-XX:ArchiveRelocationMode=0",
        ]
    return [
        str(installation.java),
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
        *_FLAGS,
        f"-Xmx{heap_mib}m",
        *archive,
        *options,
        "-cp",
        ":".join(map(str, installation.jars)),
        MAIN,
        *arguments,
    ]


def environment(installation: Installation, *, plugins: Path | None = None) -> dict[str, str]:
    """All that Nextflow's JVM inherits, but for the run's own variables."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own
        "JAVA_HOME": str(installation.java.parent.parent),
        "NXF_HOME": str(installation.home),
        "NXF_OFFLINE": "true",
        "NXF_DISABLE_CHECK_LATEST": "true",
        "NXF_PLUGINS_DEFAULT": "false",
        "NXF_PLUGINS_DIR": str(plugins or installation.plugins),
        "NXF_ANSI_LOG": "false",
    }


def gather_plugins(installation: Installation, into: Path) -> Path:
    """A directory of links to our plugins and the operator's, who goes first; Nextflow looks into one directory only."""
    into.mkdir(exist_ok=True)
    for source in (PLUGINS, installation.plugins):
        for directory in sorted(source.iterdir()) if source.is_dir() else ():
            link = into / directory.name
            if not os.path.lexists(link):
                link.symlink_to(directory)
    return into
