"""Webhooks for the operator: added, listed, removed on DATA itself while no server runs."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from runomics.__main__ import main
from runomics.domain.event import Topic
from runomics.store import webhooks
from runomics.store.database import SqliteStore

ACCOUNT = "123456789012"


def run(data: Path, *arguments: str) -> int:
    return main(["events", *arguments, "--data", str(data)])


def test_a_webhook_is_added_with_a_secret_that_is_shown_once(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(data, "add", "https://hook.example/omics?k=v", "--account", ACCOUNT, "--kinds", "task, run") == 0
    shown = capfd.readouterr().out.splitlines()
    assert f"added webhook 1: run, task of {ACCOUNT}" in shown
    secret = next(line.removeprefix("secret ") for line in shown if line.startswith("secret "))
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32

    store = SqliteStore(data / "database.sqlite")
    (kept,) = store.read(webhooks.list_webhooks)
    store.close()
    assert (kept.url, kept.account, kept.topics, kept.secret) == (
        "https://hook.example/omics?k=v",
        ACCOUNT,
        {Topic.RUN, Topic.TASK},
        secret,
    )

    assert run(data, "list") == 0
    listed = capfd.readouterr().out
    assert secret not in listed
    assert re.split(r"  +", listed.splitlines()[-1]) == [
        "1",
        "https://hook.example/omics?k=v",
        ACCOUNT,
        "run,task",
        "0",
        "ok",
    ]


def test_what_waits_and_why_is_listed(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(data, "add", "http://h/")
    store = SqliteStore(data / "database.sqlite")
    store.write(lambda tx: webhooks.SQL.note_failure(tx, id=1, failure="answered 500 Oops", now_ms=1_764_000_000_000))
    store.close()
    capfd.readouterr()
    run(data, "list")
    last = re.split(r"  +", capfd.readouterr().out.splitlines()[-1])
    assert last[2:5] == ["every", "batch,run,share,task,workflow", "0"]
    assert re.fullmatch(r"failing since 2025-11-2\d \d\d:\d\d:\d\d: answered 500 Oops", last[5])


def test_a_removed_webhook_is_gone(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(data, "add", "http://h/")
    assert run(data, "remove", "1") == 0
    assert run(data, "remove", "1") == 1
    assert "there is no webhook 1; runomics events list shows them" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ftp://h/",), "'ftp://h/' is no http or https URL with a host"),
        (
            ("http://h/", "--kinds", "run,cat"),
            "'cat' is not a valid Topic; kinds are run, task, batch, workflow, share",
        ),
        (("http://h/", "--account", "111111111111"), "there is no account 111111111111"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    data: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert run(data, "add", *arguments) == 1
    assert said in capfd.readouterr().err
