"""Accounts, keys, roles and buckets of a real server: from `runomics accounts add` to the outputs of a second account."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from server import wait_until
from workflows import ENDED, register

LAB = "arn:aws:iam::123456789012:role/lab"
OTHER = "210987654321"
COPY = """\
version 1.0
task copy {
  input { File from }
  command <<< cat ~{from} > copied >>>
  output { File copied = "copied" }
}
workflow Copy {
  input { File from }
  call copy { input: from = from }
  output { File copied = copy.copied }
}
"""


def runomics(data: Path, *arguments: str) -> str:
    """What a command prints; it must end well."""
    ended = subprocess.run(
        [sys.executable, "-m", "runomics", *arguments, "--data", str(data)], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def client_of(environment: str) -> Any:
    """A client as the printed export lines make it."""
    variables = dict(line.removeprefix("export ").split("=", 1) for line in environment.splitlines())
    return boto3.client(
        "omics",
        endpoint_url=variables["AWS_ENDPOINT_URL_OMICS"].strip("'"),
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        config=Config(inject_host_prefix=False, retries={"max_attempts": 0}),
    )


def run_of(site: Any, workflow_id: str, source: str, output: str, role: str, client: Any = None) -> dict[str, Any]:
    """The run once it has ended."""
    client = client or site.client
    run_id = client.start_run(
        workflowId=workflow_id,
        roleArn=role,
        outputUri=output,
        parameters={"from": source},
        storageType="DYNAMIC",
        requestId=f"{source}-{output}-{role}"[-127:],
    )["id"]
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.clear()
        found.update(client.get_run(id=run_id))
        return found["status"] in ENDED

    assert wait_until(ended, 60, every_seconds=0.02), found
    return found


def ending(run: Mapping[str, Any]) -> tuple[str, str | None, str]:
    return run["status"], run.get("failureReason"), run.get("statusMessage", "")


@pytest.mark.slow
def test_a_session_policy_narrows_one_run(site: Any) -> None:
    for bucket in ("narrow", "wide"):
        site.put(f"s3://{bucket}/key", b"content")
    workflow = register(site.client, "copy", COPY)
    statements = [
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::narrow/*"},
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::narrow/out/*"},
    ]
    usual: dict[str, Any] = {
        "parameters": {"from": "s3://narrow/key"},
        "outputUri": "s3://narrow/out",
        "sessionPolicy": json.dumps({"Statement": statements}),
    }
    no = "the run's sessionPolicy does not allow"
    outcomes = [
        ending(site.end_of(site.start(workflow, **{**usual, **more})))
        for more in ({}, {"parameters": {"from": "s3://wide/key"}}, {"outputUri": "s3://narrow/else"})
    ]
    assert outcomes[0] == ("COMPLETED", None, "")
    assert (outcomes[1][:2], f"{no} s3:GetObject" in outcomes[1][2]) == (("FAILED", "IMPORT_FAILED"), True), outcomes
    assert (outcomes[2][:2], f"{no} s3:PutObject" in outcomes[2][2]) == (("FAILED", "EXPORT_FAILED"), True), outcomes


@pytest.mark.slow
def test_a_roles_file_says_what_a_run_reads_and_writes(serve: Callable[..., Any], tmp_path: Path) -> None:
    roles = tmp_path / "roles.toml"
    roles.write_text(f'[[role]]\narn = "{LAB}"\nread = ["genomes"]\nwrite = ["results"]\n')
    site = serve(roles_file=roles)
    for bucket in ("genomes", "results", "secret"):
        site.put(f"s3://{bucket}/key", b"content")
    workflow = register(site.client, "copy", COPY)
    outcomes = [
        ending(run_of(site, workflow, *given))
        for given in (
            ("s3://genomes/key", "s3://results/out", LAB),
            ("s3://secret/key", "s3://results/out", LAB),
            ("s3://genomes/key", "s3://genomes/out", LAB),
            ("s3://genomes/key", "s3://results/out", LAB + "-2"),
            ("s3://genomes/key", "s3://results/out", LAB.replace("123456789012", OTHER)),
        )
    ]
    unlisted, foreign = LAB + "-2", LAB.replace("123456789012", OTHER)
    assert outcomes == [
        ("COMPLETED", None, ""),
        (
            "FAILED",
            "IMPORT_FAILED",
            f"Input s3://secret/key cannot be read: S3 access denied for s3://secret/key: role {LAB} may not read bucket secret.",
        ),
        ("FAILED", "EXPORT_FAILED", outcomes[2][2]),
        (
            "FAILED",
            "ASSUME_ROLE_FAILED",
            f"IAM role is invalid or inaccessible: {unlisted}: the operator of this server has not listed it among its roles.",
        ),
        (
            "FAILED",
            "ASSUME_ROLE_FAILED",
            f"IAM role is invalid or inaccessible: {foreign}: it is not a role of account 123456789012.",
        ),
    ]
    assert f"S3 access denied for s3://genomes/: role {LAB} may not write to bucket genomes" in outcomes[2][2]


@pytest.mark.slow
def test_two_accounts_keep_to_themselves_what_is_not_opened(site: Any) -> None:
    data = site.data
    runomics(data, "accounts", "add", OTHER, "--name", "other lab")
    runomics(data, "keys", "create", "--account", OTHER)
    runomics(data, "buckets", "make", "theirs", "--account", OTHER)
    runomics(data, "buckets", "make", "refs")
    other = client_of(runomics(data, "env", "--account", OTHER))
    site.put("s3://refs/key", b"reference")
    site.put("s3://mine/key", b"private")
    role = f"arn:aws:iam::{OTHER}:role/any"
    mine = register(site.client, "copy", COPY)
    own = run_of(site, mine, "s3://mine/key", "s3://mine/out", LAB)
    theirs = register(other, "copy", COPY)
    denied = run_of(site, theirs, "s3://refs/key", "s3://theirs/out1", role, other)
    runomics(data, "buckets", "open", "refs", "--account", OTHER)
    allowed = run_of(site, theirs, "s3://refs/key", "s3://theirs/out2", role, other)
    private = run_of(site, theirs, "s3://mine/key", "s3://theirs/out3", role, other)
    intruding = run_of(site, theirs, "s3://refs/key", "s3://mine/out4", role, other)
    assert [ending(run)[:2] for run in (own, denied, allowed, private, intruding)] == [
        ("COMPLETED", None),
        ("FAILED", "IMPORT_FAILED"),
        ("COMPLETED", None),
        ("FAILED", "IMPORT_FAILED"),
        ("FAILED", "EXPORT_FAILED"),
    ]
    assert "bucket mine belongs to another account" in private["statusMessage"]
    copied = json.loads((site.object(allowed["runOutputUri"]) / "logs" / "outputs.json").read_text())["Copy.copied"]
    assert site.object(copied).read_bytes() == b"reference"
    with pytest.raises(ClientError, match=rf"Run {own['id']} not found"):
        other.get_run(id=own["id"])


@pytest.mark.slow
def test_a_key_is_good_from_its_making_to_its_end_without_a_restart(site: Any) -> None:
    exports = runomics(
        site.data,
        "keys",
        "create",
        "--account",
        "123456789012",
        "--policy",
        "AmazonOmicsReadOnlyAccess",
        "--name",
        "ana",
    )
    reader = client_of(runomics(site.data, "env") + exports)
    assert "items" in reader.list_runs()
    with pytest.raises(
        ClientError, match=r"user/ana is not authorized to perform: omics:CancelRun on resource: arn:aws"
    ):
        reader.cancel_run(id="1000000")
    listed = runomics(site.data, "keys", "list")
    [key_id] = [line.split()[0] for line in listed.splitlines() if "user/ana" in line]
    runomics(site.data, "keys", "disable", key_id)
    with pytest.raises(ClientError, match="security token included in the request is invalid"):
        reader.list_runs()
