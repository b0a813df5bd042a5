"""The same attempts through a whole service, by the command of a WDL task, as root and as a plain user; and links left for the server."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attacks
import pytest
from canaries import canaries
from test_plain_user_service import PLAIN_UID, plain_site, plain_user

from server import wait_until

__all__ = ["plain_site", "plain_user"]

pytestmark = [pytest.mark.needs("root", "loop", "userns", "bwrap"), pytest.mark.slow]

CODE = Path(attacks.__file__).read_text() + (
    "\nimport json, sys\ntold = json.load(open('told.json'))\nprint(json.dumps(outcomes(told['names'], told['targets'])))\n"
)
NOT_HERE = {"exhaust_the_processes", "read_the_scratch_of_another_task", "write_what_is_read_only"}
"""What needs things in the sandbox that only the tests of supervisors put there. A task of a service may have 4,096 processes."""


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def attacking(targets: dict[str, Any]) -> str:
    told = json.dumps({"names": sorted(set(attacks.ATTACKS) - NOT_HERE), "targets": targets})
    return (
        "version 1.0\ntask t { command <<<\n"
        f"echo {encoded(CODE)} | base64 -d > attacks.py; echo {encoded(told)} | base64 -d > told.json\n"
        "/usr/bin/python3 -I attacks.py\n>>> output { String said = read_string(stdout()) } }\n"
        "workflow main { call t output { String said = t.said } }\n"
    )


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ro-outside-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


WAITING = "version 1.0\ntask t { command <<< echo other > other; sleep 300 >>> }\nworkflow main { call t }\n"


def attempts_of_a_run(site: Any, place: Path, uid: int) -> dict[str, str]:
    """What became of the attempts of one run, while another runs whose files are among the targets."""
    other = site.start(site.register(WAITING, "other"))

    def victims() -> list[Path]:
        return list((site.data / "runs").glob("*/volume/**/other"))

    assert wait_until(victims, 30, every_seconds=0.05)
    with canaries(place, uid=uid) as made:
        targets = {
            **made.targets,
            "own": ".",
            "volume": "/mnt/workflow",
            "inputs": "/mnt/workflow/inputs",
            "definition": "/mnt/workflow/definition",
            "setuid": "/usr/bin/su",
            "read_only": "/usr/share",
        }
        run = site.run(attacking(targets), seconds=90)
        assert run["status"] == "COMPLETED", run
        found: dict[str, str] = json.loads(site.outputs(run)["main.said"])
        paths = [
            victims()[0],
            site.data / "credentials",
            site.data / "database.sqlite",
            *site.data.glob("runs/*/gateway/sock"),
        ]
        script = "\n".join(f"if [ -e {path} ] || [ -L {path} ]; then echo {path}; fi" for path in paths)
        look = (
            f"version 1.0\ntask t {{ command <<<\n{script}\n>>> output {{ String said = read_string(stdout()) }} }}\n"
        )
        seen = site.run(look + "workflow main { call t output { String said = t.said } }\n")
        assert site.outputs(seen) == {"main.said": ""}
    site.client.cancel_run(id=other)
    return found


def test_a_task_of_a_service_run_by_root_gets_nowhere(site: Any, place: Path) -> None:
    found = attempts_of_a_run(site, place, 0)
    assert len(found) >= 40
    assert [name for name, said in found.items() if said.startswith("succeeded")] == []


def test_a_task_of_a_service_run_by_a_plain_user_gets_nowhere(plain_site: Any, place: Path) -> None:
    found = attempts_of_a_run(plain_site, place, PLAIN_UID)
    assert len(found) >= 40
    assert [name for name, said in found.items() if said.startswith("succeeded")] == []


# ---- links for the server --------------------------------------------------------------------------------------------

LINKS = {
    "a link to a file of the host": "ln -s {secret} out",
    "a link to the host's root": "ln -s /../../../../../../../..{secret} out",
    "a link through the process": "ln -s /proc/self/root{secret} out",
    "a link through a link to a directory": "ln -s {place} d; ln -s d/secret out",
    "a link by dots": "ln -s ../../../../../../../../../../..{secret} out",
    "a pipe": "mkfifo out",
    "a loop": "ln -s out out",
}


@pytest.mark.parametrize("name", list(LINKS))
def test_an_output_that_leads_out_is_not_exported(site: Any, place: Path, name: str) -> None:
    (place / "secret").write_text("only-the-host-knows")
    command = LINKS[name].format(secret=place / "secret", place=place)
    text = f'version 1.0\ntask t {{ command <<<\n{command}\n>>> output {{ File out = "out" }} }}\n'
    run = site.run(text + "workflow main { call t output { File out = t.out } }\n")
    assert run["status"] == "FAILED", run
    assert b"only-the-host-knows" not in exported(site)


def test_a_directory_whose_entries_lead_out_is_exported_without_them(site: Any, place: Path) -> None:
    (place / "secret").write_text("only-the-host-knows")
    text = (
        "version 1.1\ntask t { command <<<\nmkdir -p d/e; echo in > d/kept; "
        f"ln -s {place}/secret d/link; ln -s {place} d/e/link; mkfifo d/pipe\n"
        '>>> output { Directory out = "d" } }\nworkflow main { call t output { Directory out = t.out } }\n'
    )
    site.run(text.replace("version 1.1", "version development"))
    assert b"only-the-host-knows" not in exported(site)


def test_a_log_that_a_task_makes_a_link_shows_nothing_of_the_host(site: Any, place: Path) -> None:
    (place / "secret").write_text("only-the-host-knows")
    command = (
        "for n in 1 2; do log=$(readlink /proc/self/fd/$n); case $log in /mnt/workflow/*) ;; *) log=;; esac\n"
        f'[ -n "$log" ] && rm -f "$log" && ln -s {place}/secret "$log"; done\n'
        f'find /mnt/workflow -name "std*.txt" -exec ln -sf {place}/secret {{}} \\;\nsleep 0.5'
    )
    run = site.run(f"version 1.0\ntask t {{ command <<<\n{command}\n>>> }}\nworkflow main {{ call t }}\n")
    assert run["status"] in ("COMPLETED", "FAILED")
    assert b"only-the-host-knows" not in exported(site)
    kept = b"".join(path.read_bytes() for path in (site.data / "logs").rglob("*.log"))
    assert b"only-the-host-knows" not in kept
    assert (place / "secret").read_text() == "only-the-host-knows"


def exported(site: Any) -> bytes:
    """All that the object store holds."""
    return b"".join(path.read_bytes() for path in (site.data / "objects").rglob("*") if path.is_file())
