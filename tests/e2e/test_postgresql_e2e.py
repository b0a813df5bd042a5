"""A server whose rows are in PostgreSQL, from StartRun to outputs: through its own death, the database's, and beside another server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from test_access_e2e import client_of
from test_crashes import COUNTED, check_kill_of_server_and_launchers

from postgresql_cluster import Cluster, running
from server import wait_until

pytestmark = [pytest.mark.postgresql, pytest.mark.needs("postgresql", "bwrap", "userns")]

SLOW = """version 1.0
task wait {
  input { Int number }
  command <<<
    sleep 2
    echo ~{number}
  >>>
  output { Int said = read_int(stdout()) }
}
workflow main {
  scatter (number in range(3)) { call wait { input: number = number } }
  output { Array[Int] said = wait.said }
}
"""


@pytest.fixture
def mortal() -> Iterator[Cluster]:
    with running() as cluster:
        yield cluster()


@pytest.mark.source("assumed")
def test_a_run_survives_the_kill_of_server_and_launchers(mortal: Cluster, serve: Any) -> None:
    site = serve(database=mortal.empty())
    check_kill_of_server_and_launchers(site)
    assert not (site.data / "database.sqlite").exists()


@pytest.mark.source("assumed")
def test_a_run_and_its_server_outlive_a_crash_of_the_database(mortal: Cluster, serve: Any) -> None:
    site = serve(database=mortal.empty())
    client = site.client
    run_id = site.start(site.register(SLOW))
    assert wait_until(lambda: client.list_run_tasks(id=run_id, status="RUNNING")["items"], 20, every_seconds=0.05)
    mortal.stop(signal.SIGQUIT)
    with pytest.raises(ClientError) as caught:
        client.get_run(id=run_id)
    assert caught.value.response["Error"]["Code"] == "InternalServerException"
    # Tasks end meanwhile.
    ends = site.data / "attempts"
    assert wait_until(lambda: len(list(ends.glob("*/*/result.json"))) == 3, 20, every_seconds=0.05)
    mortal.start()
    run = site.end_of(run_id)
    assert (run["status"], site.outputs(run)) == ("COMPLETED", {"main.said": [0, 1, 2]})
    tasks = client.list_run_tasks(id=run_id)["items"]
    assert sorted((task["name"], task["status"]) for task in tasks) == [(f"wait-{n}", "COMPLETED") for n in range(3)]
    assert site.server.process.poll() is None


def test_a_second_server_on_the_database_does_not_start(mortal: Cluster, serve: Any) -> None:
    url = mortal.empty()
    serve(database=url)
    with tempfile.TemporaryDirectory() as other:
        command = [sys.executable, "-m", "runomics", "serve", f"--data={other}", "--listen=127.0.0.1:0"]
        second = subprocess.run(
            command, env={**os.environ, "RUNOMICS_DATABASE": url}, capture_output=True, text=True, timeout=60
        )
    assert second.returncode == 1
    assert "another server uses this database" in second.stderr


def test_accounts_are_managed_with_and_without_the_server(mortal: Cluster, serve: Any) -> None:
    url = mortal.empty()
    site = serve(database=url)
    environment = {**os.environ, "RUNOMICS_DATABASE": url}

    def runomics(*words: str) -> str:
        command = [sys.executable, "-m", "runomics", *words, "--data", str(site.data)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout

    runomics("accounts", "add", "210987654321")
    site.server.stop()
    runomics("accounts", "add", "333333333333")
    listed = runomics("accounts", "list")
    assert all(account in listed for account in ("123456789012", "210987654321", "333333333333"))
    site.server.start()


def test_a_database_that_cannot_be_reached_is_said_without_its_password(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runomics", "serve", f"--data={tmp_path}", "--listen=127.0.0.1:0"]
    url = "postgresql://app:sesame@127.0.0.1:1/rows"
    told = subprocess.run(
        command, env={**os.environ, "RUNOMICS_DATABASE": url}, capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 1
    assert "the database cannot be used now" in told.stderr
    assert "sesame" not in told.stderr + told.stdout


def test_a_key_whose_policy_asks_for_tags_reads_them_off_the_loop(
    postgresql: Callable[[], Cluster], serve: Any
) -> None:
    site = serve(database=postgresql().empty())
    workflow_id = site.register(COUNTED)
    site.client.tag_resource(
        resourceArn=f"arn:aws:omics:us-east-1:123456789012:workflow/{workflow_id}", tags={"team": "red"}
    )
    policy = site.data / "policy.json"
    policy.write_text(
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "omics:GetWorkflow", "Resource": "*", '
        '"Condition": {"StringEquals": {"aws:ResourceTag/team": "red"}}}]}'
    )
    words = ["keys", "create", "--account", "123456789012", "--policy", str(policy), "--data", str(site.data)]
    printed = subprocess.run(
        [sys.executable, "-m", "runomics", *words], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    client = client_of(
        f"{printed}export AWS_ENDPOINT_URL_OMICS=http://127.0.0.1:{site.server.port}\nexport AWS_REGION=us-east-1\n"
    )
    assert client.get_workflow(id=workflow_id)["tags"] == {"team": "red"}
    with pytest.raises(ClientError, match="AccessDenied"):
        client.list_workflows()


def test_a_used_database_is_not_taken_with_a_new_data_directory(mortal: Cluster, serve: Any, tmp_path: Path) -> None:
    url = mortal.empty()
    serve(database=url).server.stop()
    for _ in range(2):
        command = [sys.executable, "-m", "runomics", "serve", f"--data={tmp_path}", "--listen=127.0.0.1:0"]
        other = subprocess.run(
            command, env={**os.environ, "RUNOMICS_DATABASE": url}, capture_output=True, text=True, timeout=60
        )
        assert other.returncode == 1
        assert "was used with another data directory" in other.stderr
