"""A whole run on a real server, told to a real webhook; the receiver is away and the server is killed meanwhile."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runomics.__main__ import main
from server import wait_until
from workflows import ONE_TASK


class Hook:
    """Takes everything, in the order in which it came. `away`: answers 503."""

    def __init__(self) -> None:
        self.told: dict[str, list[str]] = defaultdict(list)
        self.away = False
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                document = json.loads(self.rfile.read(int(self.headers["content-length"])))
                arn, status = document["detail"]["arn"], document["detail"]["status"]
                statuses = hook.told[arn.rpartition(":")[2]]
                if not hook.away and statuses[-1:] != [status]:
                    statuses.append(status)
                self.send_response(503 if hook.away else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name of the base class
                """Nothing is logged."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.mark.needs("bwrap", "userns")
def test_a_whole_run_is_told_though_receiver_and_server_go_away(serve: Any, hook: Hook) -> None:
    site = serve()
    assert main(["events", "add", hook.url, "--data", str(site.data)]) == 0
    workflow = site.register(ONE_TASK)
    hook.away = True
    run_id = site.start(workflow)
    assert site.end_of(run_id)["status"] == "COMPLETED"
    (task,) = site.client.list_run_tasks(id=run_id)["items"]
    site.server.kill()
    hook.away = False
    site.server.start()

    names = {
        f"workflow/{workflow}": ["CREATING", "ACTIVE"],
        f"run/{run_id}": ["PENDING", "STARTING", "RUNNING", "STOPPING", "COMPLETED"],
        f"task/{task['taskId']}": ["PENDING", "STARTING", "RUNNING", "STOPPING", "COMPLETED"],
    }
    wait_until(lambda: all(hook.told.get(name, [])[-1:] == told[-1:] for name, told in names.items()), 30)
    told = dict(hook.told)
    assert {name: told.get(name) for name in (f"workflow/{workflow}", f"run/{run_id}")} == {
        name: names[name] for name in (f"workflow/{workflow}", f"run/{run_id}")
    }
    seen = told[f"task/{task['taskId']}"]
    assert (seen[0], seen[-1]) == ("PENDING", "COMPLETED")


@pytest.mark.source("guide")
def test_a_server_with_aws_s_rates_refuses_what_is_over_them(serve: Any) -> None:
    client = serve(request_rates="aws").client
    answers = []
    for _ in range(3):
        try:
            client.list_shares(resourceOwner="SELF")
            answers.append((200, ""))
        except ClientError as error:
            answers.append((error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Message"]))
    assert answers[0] == (200, "")
    assert (429, "Rate exceeded") in answers
    assert client.list_workflows()["items"] == []
