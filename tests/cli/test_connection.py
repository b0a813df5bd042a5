"""Finding a server by its files, and what is said when there is none."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from listening import Listener

from runomics.__main__ import main
from runomics.cli.connection import NoServer, RequestFailed, connect, environment, is_alive


def test_without_an_endpoint_file_the_line_to_start_one_is_given(tmp_path: Path) -> None:
    with pytest.raises(NoServer) as refused:
        connect(tmp_path)
    assert str(refused.value) == f"no server runs on {tmp_path}; start one with: runomics serve --data {tmp_path}"


def test_a_server_that_is_gone_is_told_from_one_that_never_was(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    document = {"url": "http://127.0.0.1:1", "pid": ended.pid, "region": "us-east-1"}
    (tmp_path / "endpoint.json").write_text(json.dumps(document))
    with pytest.raises(NoServer, match=rf"\(process {ended.pid}, http://127\.0\.0\.1:1\) is gone"):
        connect(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"url": "x"}', '{"url": 1, "pid": "x", "region": 2}'])
def test_an_endpoint_file_of_another_shape_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "endpoint.json").write_text(content)
    with pytest.raises(NoServer, match=r"endpoint\.json cannot be read \(not the expected JSON\)"):
        connect(tmp_path)


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid)
    child.wait()


def test_env_prints_lines_that_a_shell_can_take(listener: Listener, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--data", str(listener.data)]) == 0
    exports = capfd.readouterr().out
    taken = subprocess.run(["bash", "-c", exports + "env -0"], env={}, capture_output=True, check=True)
    variables = dict(entry.split("=", 1) for entry in taken.stdout.decode().split("\0") if entry)
    expected = environment(connect(listener.data))
    assert {name: variables.get(name) for name in expected} == expected
    assert expected == {
        "AWS_ENDPOINT_URL_OMICS": listener.url,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "it's secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_env_of_an_account_without_a_kept_key_says_how_to_make_one(
    listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["env", "--data", str(listener.data), "--account", "999999999999"]) == 1
    assert (
        f"no key of account 999999999999 is kept in {listener.data}/credentials.d; "
        "make one with: runomics keys create --account 999999999999"
    ) in capfd.readouterr().err


@pytest.mark.parametrize("account", ["../credentials", "", "x"])
def test_env_of_what_is_no_account_opens_no_other_file(listener: Listener, account: str) -> None:
    (listener.data / "credentials.d").mkdir()
    assert main(["env", "--data", str(listener.data), "--account", account]) == 1


def test_env_of_another_account_prints_the_key_that_is_kept_for_it(
    listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    (listener.data / "credentials.d").mkdir()
    key = {"account": "210987654321", "access_key_id": "AKIAOTHER", "secret_access_key": "x"}
    (listener.data / "credentials.d" / "210987654321.json").write_text(json.dumps(key))
    assert main(["env", "--data", str(listener.data), "--account", "210987654321"]) == 0
    assert "export AWS_ACCESS_KEY_ID=AKIAOTHER\n" in capfd.readouterr().out


def test_the_secret_is_not_in_a_representation(listener: Listener) -> None:
    assert "it's secret" not in repr(connect(listener.data))


def test_a_read_is_signed_for_omics_and_returns_the_document(listener: Listener) -> None:
    listener.answers["/-/progress/1?"] = [{"imported_bytes": 5}]
    assert connect(listener.data).read("/-/progress/1") == {"imported_bytes": 5}
    authorization = listener.requests[-1].headers["Authorization"]
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/")
    assert "/us-east-1/omics/aws4_request, SignedHeaders=host;x-amz-date, Signature=" in authorization


def test_a_read_that_is_refused_carries_the_status(listener: Listener) -> None:
    with pytest.raises(RequestFailed, match="404") as refused:
        connect(listener.data).read("/-/progress/2")
    assert refused.value.status == 404


def test_a_server_that_hangs_up_is_a_failed_request_without_status(listener: Listener) -> None:
    connection = connect(listener.data)
    listener.close()
    with pytest.raises(RequestFailed) as refused:
        connection.read("/-/progress/2")
    assert refused.value.status is None
