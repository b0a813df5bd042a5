"""AWS's own SDKs for JavaScript, Go and Java, unmodified, against one real server: each lives the life of a workflow and says what it saw.

The programs are in tests/clients. They work in copies of their folders; what they download is kept where their tools keep such things.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from workflows import ONE_TASK

ACCOUNT = "123456789012"
OTHER = "210987654321"
CLIENTS = Path(__file__).parents[1] / "clients"
DOWNLOAD_SECONDS = 300
PROGRAM_SECONDS = 120
pytestmark = [pytest.mark.needs("bwrap", "userns"), pytest.mark.slow]


@pytest.fixture(scope="module")
def environment(site: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What a program gets to know: the variables the SDKs read, and a second account."""
    definition = tmp_path_factory.mktemp("definition") / "definition.zip"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("main.wdl", ONE_TASK)
    definition.write_bytes(data.getvalue())
    runomics(site.data, "accounts", "add", OTHER)
    runomics(site.data, "keys", "create", "--account", OTHER)
    other = json.loads((site.data / "credentials.d" / f"{OTHER}.json").read_text())
    keys = site.server.keys
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RUNOMICS_"))}
    return {
        **kept,
        "AWS_ENDPOINT_URL_OMICS": f"http://127.0.0.1:{site.server.port}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": keys["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": keys["secret_access_key"],
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "OWNER_ACCOUNT": ACCOUNT,
        "SUBSCRIBER_ACCOUNT": OTHER,
        "SUBSCRIBER_KEY_ID": other["access_key_id"],
        "SUBSCRIBER_SECRET": other["secret_access_key"],
        "DEFINITION": str(definition),
        "ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/omics",
        "OUTPUT_URI": "s3://runomics/sdks",
    }


def runomics(data: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "runomics", *arguments, "--data", str(data)], check=True, capture_output=True)


def ran(command: Sequence[str], folder: Path, environment: Mapping[str, str], *, seconds: float) -> str:
    """What a command prints; it must end well."""
    ended = subprocess.run(
        command, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=seconds, check=False
    )
    assert ended.returncode == 0, f"{command[0]}: {ended.stdout[-2000:]}{ended.stderr[-4000:]}"
    return ended.stdout


@pytest.fixture
def folder_of(tmp_path: Path) -> Any:
    """A copy of a client's folder: nothing is left behind in the tree."""

    def copied(language: str) -> Path:
        return Path(shutil.copytree(CLIENTS / language, tmp_path / language))

    return copied


def check(site: Any, said: str, language: str) -> None:
    """A program's last line, compared as a whole; then what the server itself knows."""
    found = json.loads(said.splitlines()[-1])
    run_uri = found["run"][4]
    assert found == {
        "workflow": ["CREATING", "ACTIVE", "WDL", {"from": language}, ["name"]],
        "run": ["COMPLETED", "ana", {"name": "ana"}, True, run_uri],
        "times": True,
        "tasks": [["hello", "COMPLETED", 1]],
        "runs": ["ana", "bea"],
        "pages_are_runs": True,
        "workflows": [True],
        "tagged": {"colour": "blue", "size": "a / b"},
        "untagged": {"size": "a / b"},
        "share": ["PENDING", "ACTIVE", f"life-{language}", 1],
        "refused": [
            ["ResourceNotFoundException", 404],
            ["AccessDeniedException", 403],
            ["ResourceNotFoundException", 404],
            ["ConflictException", 409],
            ["ValidationException", 400],
        ],
        "typed": True,
        "message": f"Run 999999999 not found. ListRuns lists the runs of account {ACCOUNT}.",
    }
    run = site.client.get_run(id=run_uri.rpartition("/")[2])
    assert (run["status"], run["tags"]) == ("COMPLETED", {"size": "a / b"})
    (greeting,) = site.object(run_uri).rglob("greeting.txt")
    assert greeting.read_text() == "hello ana\n"


@pytest.mark.needs("node")
def test_the_sdk_for_javascript(site: Any, environment: Mapping[str, str], folder_of: Any) -> None:
    folder = folder_of("javascript")
    ran(
        ["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"],
        folder,
        environment,
        seconds=DOWNLOAD_SECONDS,
    )
    check(site, ran(["node", "life.mjs"], folder, environment, seconds=PROGRAM_SECONDS), "javascript")


@pytest.mark.needs("go")
def test_the_sdk_for_go(site: Any, environment: Mapping[str, str], folder_of: Any) -> None:
    folder = folder_of("go")
    local = {**environment, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    ran(["go", "build", "-o", "life", "."], folder, local, seconds=DOWNLOAD_SECONDS)
    check(site, ran(["./life"], folder, environment, seconds=PROGRAM_SECONDS), "go")


@pytest.mark.needs("java")
def test_the_sdk_for_java(site: Any, environment: Mapping[str, str], folder_of: Any) -> None:
    folder = folder_of("java")
    ran(
        ["mvn", "-q", "-B", "dependency:build-classpath", "-Dmdep.outputFile=classpath"],
        folder,
        environment,
        seconds=DOWNLOAD_SECONDS,
    )
    command = ["java", "-XX:TieredStopAtLevel=1", "-cp", (folder / "classpath").read_text(), "Life.java"]
    check(site, ran(command, folder, environment, seconds=PROGRAM_SECONDS), "java")
