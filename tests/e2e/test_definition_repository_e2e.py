"""A workflow out of a Git repository on a real server, through boto3: fetched beside other registrations, run, its outputs right."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workflows import ONE_TASK

ARN = "arn:aws:codeconnections:us-east-1:123456789012:connection/lab"

pytestmark = pytest.mark.needs("bwrap", "userns", "git")


def test_a_branch_of_a_repository_runs(serve: Callable[..., Any], tmp_path: Path) -> None:
    repository = tmp_path / "lab" / "hello"
    repository.mkdir(parents=True)
    (repository / "main.wdl").write_text(ONE_TASK)
    who = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (["init", "-q", "-b", "work"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], cwd=repository, env={**os.environ, **who}, check=True)
    connections = tmp_path / "connections.toml"
    connections.write_text(f'[[connection]]\narn = "{ARN}"\nurl = "{tmp_path}/{{repository}}"\n')

    site = serve(git_connections_file=connections)
    client = site.client
    made = client.create_workflow(
        name="hello",
        definitionRepository={
            "connectionArn": ARN,
            "fullRepositoryId": "lab/hello",
            "sourceReference": {"type": "BRANCH", "value": "work"},
        },
    )
    client.get_waiter("workflow_active").wait(id=made["id"], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    run = site.end_of(site.start(made["id"], parameters={"name": "ana"}))
    assert run["status"] == "COMPLETED", run.get("statusMessage")
    (greeting,) = (site.object(run["runOutputUri"]) / "out").rglob("greeting.txt")
    assert greeting.read_text() == "hello ana\n"

    site.server.stop()
    (repository / ".git" / "HEAD").write_text("ref: refs/heads/nowhere\n")
    site.server.start()
    failed = site.client.create_workflow(definitionRepository={"connectionArn": ARN, "fullRepositoryId": "lab/hello"})
    found = site.client.get_workflow(id=failed["id"])
    while found["status"] == "CREATING":
        found = site.client.get_workflow(id=failed["id"])
    assert (found["status"], "it has no default branch" in found["statusMessage"]) == ("FAILED", True), found
