"""Builds the Nextflow engine with maven: stock jars by their coordinates, our jar, an archive of classes. Runs in the operator's process.

What maven brings is compared with `jars.sha256`, so that an installation is the one that was tested or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from runomics.engines.nextflow import jvm
from runomics.engines.nextflow.installation import PLUGINS, POINTER, VERSION, Installation, read

OLDEST_JAVA, NEWEST_JAVA = 17, 24
"""Source: guide of Nextflow 25.04 (Java 17 to 24)."""

_CHECKOUT = Path(__file__).parents[4] / "nextflow"
_SHARED = Path(sys.prefix) / "share" / "runomics" / "nextflow-source"
_OUR_JAR = "runomics-nextflow.jar"
_MOST_TOLD_CHARACTERS = 2000
_PLUGIN_NAME = re.compile(r"[A-Za-z0-9][\w-]*-\d[\w.+-]*")


class InstallFailed(Exception):
    """The engine could not be built. The message says what to do."""


def source() -> Path:
    """Where pom.xml and the Java sources lie.

    Raises:
        InstallFailed: this installation of runomics has none.
    """
    for directory in (_CHECKOUT, _SHARED):
        if (directory / "pom.xml").is_file():
            return directory
    raise InstallFailed(
        "the Java sources of the adapter are not part of this installation; install runomics from its repository"
    )


def digest(directory: Path, java: Path) -> str:
    """Names what is built from these sources with this JDK."""
    found = hashlib.sha256(str(java.resolve()).encode())
    for path in [
        *sorted((directory / "src").rglob("*")),
        directory / "pom.xml",
        directory / "jars.sha256",
        Path(jvm.__file__),
    ]:
        if path.is_file():
            found.update(path.name.encode() + b"\0" + path.read_bytes())
    release = java.parent.parent / "release"
    if release.is_file():
        found.update(release.read_bytes())
    return found.hexdigest()[:12]


def find_java() -> Path:
    """The JDK of JAVA_HOME, else of PATH, by its real path: /usr/bin/java is a link that the sandbox does not have.

    Raises:
        InstallFailed: none, or one of a version that Nextflow does not run on.
    """
    home = os.environ.get("JAVA_HOME")
    found = f"{home}/bin/java" if home else shutil.which("java")
    if not found or not os.access(found, os.X_OK):
        raise InstallFailed("no java was found; install a JDK (Debian: apt-get install openjdk-17-jdk-headless)")
    java = Path(found).resolve()
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or not OLDEST_JAVA <= int(version[1]) <= NEWEST_JAVA:
        raise InstallFailed(
            f"{java} is {told.splitlines()[0] if told else 'no Java'}; Nextflow {VERSION} needs version {OLDEST_JAVA} to {NEWEST_JAVA}"
        )
    if not (java.parent / "javac").exists():
        raise InstallFailed(
            f"{java.parent.parent} has no compiler; install a JDK (Debian: apt-get install openjdk-17-jdk-headless)"
        )
    return java


def install(say: Callable[[str], None], *, only_when_changed: bool = False) -> Installation:
    """Build and put into use. `only_when_changed`: an installation of these very sources and JDK is left as it is.

    Raises:
        InstallFailed: something is missing, cannot be had or is not what was expected.
    """
    java, sources = find_java(), source()
    root = POINTER.parent
    target = root / f"nextflow-{VERSION}-{digest(sources, java)}"
    known = read()
    if only_when_changed and known is not None and known.directory == target and target.is_dir():
        return known
    maven = shutil.which("mvn")
    if maven is None:
        raise InstallFailed("no mvn was found; install maven (Debian: apt-get install maven)")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nextflow-", dir=root) as scratch:
            built = _build(Path(maven), java, sources, Path(scratch), say)
            shutil.rmtree(target, ignore_errors=True)
            built.rename(target)
    except OSError as error:
        raise InstallFailed(f"{root} cannot be written: {error}") from error
    found = Installation(
        directory=target,
        java=java,
        jars=(target / _OUR_JAR, *sorted((target / "lib").iterdir())),
        shown=_shown(java),
        archive=None,
    )
    say("making the archive of classes")
    found = replace(found, archive=_archive(found))
    _put_into_use(found)
    for old in root.glob("nextflow-[0-9]*"):
        if old not in (target, known.directory if known else target):
            shutil.rmtree(old, ignore_errors=True)
    return found


def add_plugin(archive: Path) -> str:
    """Unpack a plugin's zip, as Nextflow's registry has it, for every later run; its name.

    Raises:
        InstallFailed: it is no such archive.
    """
    name = archive.name.removesuffix(".zip")
    if not _PLUGIN_NAME.fullmatch(name):
        raise InstallFailed(f"{archive.name} is not called <id>-<version>.zip, as plugins are")
    PLUGINS.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".plugin-", dir=PLUGINS) as scratch, zipfile.ZipFile(archive) as opened:
            unpacked = Path(scratch) / name
            opened.extractall(unpacked)
            if not (unpacked / "classes" / "META-INF" / "MANIFEST.MF").is_file():
                raise InstallFailed(f"{archive} has no classes/META-INF/MANIFEST.MF: it is no plugin of Nextflow")
            shutil.rmtree(PLUGINS / name, ignore_errors=True)
            unpacked.rename(PLUGINS / name)
    except (OSError, zipfile.BadZipFile) as error:
        raise InstallFailed(f"{archive} cannot be unpacked: {error}") from error
    return name


# ---- steps -------------------------------------------------------------------------------------------------------


def _build(maven: Path, java: Path, sources: Path, scratch: Path, say: Callable[[str], None]) -> Path:
    work = scratch / "work"
    shutil.copytree(sources, work, ignore=shutil.ignore_patterns("target"))
    say(f"fetching Nextflow {VERSION} and building the adapter with maven")
    environment = os.environ | {"JAVA_HOME": str(java.parent.parent)}
    command = [str(maven), "--batch-mode", "--quiet", "--file", str(work / "pom.xml"), "package"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise InstallFailed(f"maven failed: {(done.stdout + done.stderr).strip()[:_MOST_TOLD_CHARACTERS]}")
    built = scratch / "built"
    built.mkdir()
    (work / "target" / "lib").rename(built / "lib")
    (work / "target" / _OUR_JAR).rename(built / _OUR_JAR)
    _compare(built / "lib", sources / "jars.sha256")
    shutil.copytree(sources / "plugins", built / "plugins", ignore=shutil.ignore_patterns(".*"))
    for name in ("plugins", "secrets"):
        (built / "home" / name).mkdir(parents=True)
    return built


def _compare(directory: Path, expected: Path) -> None:
    lines = [line.split() for line in expected.read_text("ascii").splitlines() if line]
    wanted = {name: checksum for checksum, name in lines}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
    if found == wanted:
        return
    wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    raise InstallFailed(f"maven brought other jars than those of {expected.name}: {', '.join(wrong[:5])}")


def _archive(found: Installation) -> Path | None:
    """Classes of a rehearsed run, loaded and linked: a JVM maps them instead of reading jars. Without one everything works, slower."""
    path = found.directory / "classes.jsa"
    options = [f"-XX:ArchiveClassesAtExit={path}"]
    with tempfile.TemporaryDirectory(prefix="runomics-nextflow-") as home:
        environment = jvm.environment(found) | {"HOME": home}
        command = jvm.command(
            found, arguments=("1", "--archive"), options=(*options, f"-Duser.dir={home}", f"-Djava.io.tmpdir={home}")
        )
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home, check=False)
    if done.returncode:
        raise InstallFailed(f"Nextflow does not start: {(done.stdout + done.stderr).strip()[-_MOST_TOLD_CHARACTERS:]}")
    return path if path.exists() else None


def _shown(java: Path) -> Sequence[str]:
    """The JDK where it is not below /usr, and the directories of /etc that its configuration is linked to."""
    home = java.parent.parent
    found = set() if str(home).startswith("/usr/") else {str(home)}
    for path in home.rglob("*"):
        if path.is_symlink():
            parts = Path(os.path.realpath(path)).parts
            if parts[1] == "etc" and len(parts) > 3 and parts[2] != "ssl":
                found.add("/".join(("", *parts[1:3])))
    return tuple(sorted(found))


def _put_into_use(found: Installation) -> None:
    document = {
        "version": VERSION,
        "directory": found.directory.name,
        "java": str(found.java),
        "jars": [str(path.relative_to(found.directory)) for path in found.jars],
        "shown": list(found.shown),
        "archive": None if found.archive is None else found.archive.name,
    }
    temporary = POINTER.with_name(f".{POINTER.name}.tmp")
    temporary.write_text(json.dumps(document, indent=1), "utf-8")
    temporary.replace(POINTER)
