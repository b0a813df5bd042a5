"""A server in a box behind its real edge: signed requests over a socket, keys with policies, the operator's pages, the audit log."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from server_in_a_box import ACCOUNT, OTHER, Box

from runomics import data_directory
from runomics.auditing import auditing, page_call, resource_of
from runomics.key_ring import KeyRing
from runomics.logs.audit import AuditLog
from runomics.operations import registry
from runomics.operations.access import Authorizer
from runomics.operations.caller import Caller
from runomics.operations.resource_facts import facts_of
from runomics.server_pages import Pages
from runomics.store import accounts
from runomics.web.exports import Exports
from runomics.web.management import Management, folders_below
from runomics.web.metrics import Metrics
from runomics.web.operator import Operator
from runomics.wire.asgi import Edge, Handler
from runomics.wire.model import ServiceModel
from runomics.wire.server import HttpServer, bind
from runomics.wire.signing import AccessKey

MODEL = ServiceModel.load()
NO_LOGS: Any = None


@dataclass(frozen=True, slots=True)
class Key:
    """What a client has."""

    access_key_id: str
    secret: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, error name and body of an answer."""

    status: int
    code: str | None
    body: Any

    @property
    def message(self) -> str:
        found: str = self.body["message"]
        return found


class AccessWorld:
    """`operator` is the key of DATA/credentials, of ACCOUNT; OTHER is an account too."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.box = Box(data)
        self.box.now_ms = time.time_ns() // 1_000_000
        data_directory.keys(self.box.store, data, account=ACCOUNT, now_ms=1)
        self.box.store.write(lambda tx: accounts.add_account(tx, OTHER, "other", 1))
        document = json.loads((data / "credentials").read_text())
        self.operator = Key(document["access_key_id"], document["secret_access_key"])
        self.ring = KeyRing(lambda: self.box.store.read(accounts.list_keys))
        self.port = 0
        self.edge_authorize: Callable[[Caller, str, Mapping[str, Any]], None] = lambda *_: None

    # ---- asking --------------------------------------------------------------------------------------------------

    def send(self, key: Key, method: str, path: str, body: bytes = b"", *, query: str = "") -> Answer:
        """A signed request; the path is percent-encoded already."""
        url = f"http://127.0.0.1:{self.port}{path}{'?' if query else ''}{query}"
        request = AWSRequest(method=method, url=url, data=body)
        SigV4Auth(Credentials(key.access_key_id, key.secret), "omics", "us-east-1").add_auth(request)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            target = url.removeprefix(f"http://127.0.0.1:{self.port}")
            connection.request(method, target, body or None, dict(request.headers.items()))
            response = connection.getresponse()
            text = response.read()
            code = response.getheader("x-amzn-errortype")
            return Answer(response.status, code, json.loads(text) if text else None)
        finally:
            connection.close()

    def call(self, key: Key, operation: str, request: Mapping[str, Any]) -> Answer:
        """One operation, its members put where the model has them; nothing is checked on the way."""
        spec = MODEL.operations[operation]
        members = MODEL.shapes[spec.input_shape]["members"] if spec.input_shape else {}
        path, query, body = spec.uri, [], {}
        for name, value in request.items():
            location = members.get(name, {}).get("location")
            if location == "uri":
                path = path.replace("{" + members[name].get("locationName", name) + "}", quote(value, safe=""))
            elif location == "querystring":
                values = value if isinstance(value, list) else [value]
                query += [
                    f"{quote(members[name].get('locationName', name))}={quote(str(one), safe='')}" for one in values
                ]
            else:
                body[name] = value
        payload = json.dumps(body).encode() if body else b""
        return self.send(key, spec.method, path, payload, query="&".join(query))

    def manage(
        self, method: str, path: str, document: Mapping[str, str] | None = None, *, key: Key | None = None
    ) -> Answer:
        body = json.dumps(document).encode() if document else b""
        return self.send(key or self.operator, method, f"/-/{path}", body)

    def key(self, account: str = ACCOUNT, *, policy: Any = "", name: str = "") -> Key:
        """A new key, made as the operator makes one."""
        text = policy if isinstance(policy, str) else json.dumps(policy)
        document = {"account": account, "policy": text, "name": name}
        answer = self.manage("POST", "keys", {member: value for member, value in document.items() if value})
        assert answer.status == 200, answer
        return Key(answer.body["access_key_id"], answer.body["secret_access_key"])

    def audit_lines(self) -> list[dict[str, Any]]:
        """What the audit log has; only after the server has stopped is that everything."""
        path = self.data / "audit.log"
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    # ---- serving -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve until the block ends."""
        audit = AuditLog(self.data / "audit.log", max_bytes=1 << 24, files=2, describe=resource_of("us-east-1"))
        edge = self._edge(audit)
        ports: queue.Queue[int] = queue.Queue()
        server = HttpServer(edge, sockets=[bind("127.0.0.1", 0)], started=ports.put, stop_seconds=2)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            self.port = ports.get(timeout=10)
            yield
        finally:
            server.stop()
            thread.join(timeout=10)
            edge.close()
            audit.close()
            self.box.close()

    def _edge(self, audit: AuditLog) -> Edge:
        store = self.box.store
        authorizer = Authorizer(self.ring.policies, facts_of(store.read, "us-east-1"))
        self.edge_authorize = authorizer

        def caller_of(key: AccessKey, request_id: str = "") -> Caller:
            return Caller(key.account, key.principal_arn, key.key_id, request_id, self.box.now_ms, self.box.site)

        exports = Exports(
            key=b"k" * 32, endpoint=str, archive=Path, readme=lambda *_: None, now_ms=lambda: self.box.now_ms
        )
        management = Management(
            store=store,
            now_ms=lambda: self.box.now_ms,
            operator_key_id=self.operator.access_key_id,
            keep=lambda account, key: data_directory.keep_key(self.data, account, key, self.ring.keys),
            changed=self.ring.reload,
            folders=folders_below(self.data / "objects"),
        )
        operator = Operator(
            store=store, storage=_NoStorage(), logs=NO_LOGS, runs_directory=self.data, moved=lambda _: _Nothing()
        )  # type: ignore[arg-type]
        pages = Pages(
            exports=exports,
            operator=lambda: operator,
            metrics=Metrics(look=_no_figures, token="nobody has it", is_open=False),
            management=management,
            operator_key_id=self.operator.access_key_id,
            caller_of=caller_of,
            authorize=authorizer,
            audit=lambda *page: audit.add(page_call(*page)),
        )
        return Edge(
            model=MODEL,
            handlers={
                name: Handler(function=found.function, writes=found.writes, prepare=found.prepare)
                for name, found in registry.handlers().items()
            },
            store=store,
            find_key=self.ring.keys.get,
            make_caller=caller_of,
            authorize=lambda *asked: self.edge_authorize(*asked),
            region="us-east-1",
            now=time.time,
            pages=pages.by_path(),
            audit=auditing(audit),
        )


def _no_figures() -> Any:
    raise AssertionError("nobody may read the figures of this server")


class _NoStorage:
    """Run storage of a server without engines: no run has a volume."""

    def usage(self, run_uuid: str) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _Nothing:
    imported_bytes: int = 0
    import_total_bytes: int = 0
    exported_bytes: int = 0
    export_total_bytes: int = 0
