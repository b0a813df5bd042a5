"""A catalogue's workflow on a real server, through boto3: listed, its README fetched, run, and still there after a restart."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server import wait_until

CATALOGUE = Path(__file__).parents[2] / "examples" / "ready2run"

pytestmark = pytest.mark.needs("bwrap", "userns")


def listed(client: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.list_workflows(type="READY2RUN")["items"]
    return found


def test_the_example_of_a_catalogue_runs(serve: Callable[..., Any]) -> None:
    site = serve(ready2run_directory=CATALOGUE)
    client = site.client
    assert wait_until(lambda: [item["status"] for item in listed(client)] == ["ACTIVE"], 60, every_seconds=0.02)
    (item,) = listed(client)
    version = {"workflowId": item["id"], "versionName": "1.1", "type": "READY2RUN"}
    assert wait_until(lambda: client.get_workflow_version(**version)["status"] == "ACTIVE", 60, every_seconds=0.02)
    found = client.get_workflow(id=item["id"], type="READY2RUN", export=["README"])
    with urllib.request.urlopen(found["readme"], timeout=10) as answer:  # noqa: S310 - our own server
        assert answer.read() == (CATALOGUE / "hello" / "README.md").read_bytes()

    usual = {"workflowType": "READY2RUN", "parameters": {"name": "ana"}, "storageType": "DYNAMIC"}
    plain, versioned = (
        site.end_of(site.start(item["id"], **usual, **more)) for more in ({}, {"workflowVersionName": "1.1"})
    )
    for run, said in ((plain, "hello ana\n"), (versioned, "good day, ana\n")):
        assert (run["status"], run["workflowType"]) == ("COMPLETED", "READY2RUN"), run.get("statusMessage")
        (greeting,) = (site.object(run["runOutputUri"]) / "out").rglob("greeting.txt")
        assert greeting.read_text() == said

    site.server.stop()
    site.server.start()
    assert site.client.get_workflow(id=item["id"], type="READY2RUN")["uuid"] == found["uuid"]
