"""What is under version control speaks of the project alone: no machine, no person's folder, no registry."""

from __future__ import annotations

import re
from pathlib import Path

from source_tree import ROOT

# Put together from parts, so that this file does not hold what it looks for.
LOCAL = re.compile(
    "|".join(
        (
            "/" + "work" + r"/(?:main|shared|\.library)",
            "/" + r"root/\.",
            "/" + "home/[a-z]",
            "/" + "opt/wheels",
            r"\." + "pyenv",
        )
    )
)
HOSTS = re.compile(
    "|".join(
        ("py" + r"pi\.org", "python" + r"hosted\.org", "registry" + r"\.npmjs", r"maven\.org", "proxy" + r"\.golang")
    )
)
MAY_SAY_HOME = {"tests/sandbox", "src/runomics/sandbox", "tests/node", "src/runomics/node"}
"""Rooms whose business is the host's folders, the home of root among them."""


def test_no_tracked_file_names_a_local_path_or_a_registry(tracked: list[Path]) -> None:
    found = []
    for path in tracked:
        name = str(path.relative_to(ROOT))
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        local = None if any(name.startswith(room) for room in MAY_SAY_HOME) else LOCAL.search(text)
        for match in filter(None, (local, HOSTS.search(text))):
            found.append(f"{name}: {match[0]}")
    assert found == []


def test_locks_have_a_hash_for_every_package_and_no_address(tracked: list[Path]) -> None:
    locks = [path for path in tracked if path.suffix == ".lock"]
    assert {path.name for path in locks} == {"clients.lock", "dev.lock", "runtime.lock"}
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text
        assert "@ file" not in text
        for block in re.split(r"\n(?=[a-z0-9])", text.strip()):
            assert re.match(r"[a-z0-9.-]+==\S+ ", block), block[:80]
            assert "--hash=sha256:" in block, block[:80]


def test_the_locks_agree_with_each_other(tracked: list[Path]) -> None:
    versions: dict[str, set[str]] = {}
    for lock in (path for path in tracked if path.suffix == ".lock"):
        for name, version in re.findall(r"^([a-z0-9.-]+)==(\S+)", lock.read_text(), re.MULTILINE):
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
