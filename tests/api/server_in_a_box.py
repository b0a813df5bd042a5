"""A server without wire and engines: operations, a real database, a real folder store, real registration. For tests of operations.

Inspection is the real one of the WDL engine, called in this process instead of in a sandbox. Every answer is checked against the
service model by a reader of our own, and read back by botocore's parser.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape
from botocore.parsers import create_parser

from databases import open_store
from runomics.domain.limits import Limits
from runomics.engines.wdl.inspect import inspect
from runomics.objects.directory import DirectoryObjects
from runomics.operations import registry
from runomics.operations.caller import Caller, Site
from runomics.ports import EngineResult, Inspection
from runomics.scheduler.networks import Networks
from runomics.scheduler.register import Register
from runomics.scheduler.shares import Shares
from runomics.store.catalog import load_workflow
from runomics.store.definitions import Definitions
from runomics.store.runs import RunRow
from runomics.store.shares import moving_shares
from runomics.store.versions import creating_versions

ACCOUNT = "123456789012"
OTHER = "210987654321"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/runner"
NOW_MS = 1_764_000_000_000

MODEL = ServiceModel(Loader().load_service_model("omics", "service-2"), "omics")

HELLO = """\
version 1.0

workflow Hello {
    input {
        File reads
        String name = "world"
        Int? copies
    }
    parameter_meta {
        reads: "Reads in FASTQ"
        name: { description: "Who is greeted" }
    }
    call greet { input: name = name }
    output { String greeting = greet.greeting }
}

task greet {
    input { String name }
    command { echo hello ~{name} }
    output { String greeting = read_string(stdout()) }
}
"""


def zip_of(files: Mapping[str, str | bytes]) -> bytes:
    """A zip archive of these files, the same bytes whenever it is made."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


@dataclass
class DirectWdl:
    """ports.EngineHost as far as registration needs it: the real inspection, without its sandbox. Counts what it is asked."""

    missing: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    answer: Callable[[str, Path, str], Inspection] | None = None

    def engines(self) -> Mapping[str, str]:
        return {"WDL": "", "CWL": "cwltool is missing", "NEXTFLOW": "there is no java", **self.missing}

    def inspect(self, engine: str, tree: Path, main: str, timeout_seconds: float) -> Inspection:
        self.asked.append((engine, main))
        if self.answer is not None:
            return self.answer(engine, tree, main)
        found, _ = inspect(str(tree), main)
        return Inspection(**{name: value for name, value in found.items() if name != "format"})

    def start(self, run_directory: Path, on_end: Callable[[Path], None]) -> None:
        raise NotImplementedError

    def is_alive(self, run_directory: Path) -> bool:
        raise NotImplementedError

    def result(self, run_directory: Path, incarnation: int) -> EngineResult | None:
        raise NotImplementedError

    def stop(self, run_directory: Path, *, kill: bool) -> None:
        raise NotImplementedError


class Box:
    """One server in a directory. `call` is one request of an account, answered as JSON; times are `now_ms`."""

    def __init__(self, directory: Path, *, limits: Limits | None = None) -> None:
        self.directory = directory
        self.now_ms = NOW_MS
        self.woken: list[tuple[str, int]] = []
        self.engine = DirectWdl()
        (directory / "objects" / "bucket").mkdir(parents=True, exist_ok=True)
        self.objects = DirectoryObjects(directory / "objects")
        self.definitions = Definitions(directory / "definitions")
        self.limits = limits or Limits()
        self.waiting: Callable[[RunRow], str | None] = lambda run: None
        self.site = Site(
            region="us-east-1",
            definitions=self.definitions,
            page_key=b"k" * 32,
            export_url=lambda path, expires_ms: f"http://server/{path}?{expires_ms}",
            objects_as=lambda account, role_arn: self.objects,
            limits=self.limits,
            waiting_reason=lambda run: self.waiting(run),
            network_problem=Networks().problem,
        )
        self.open()

    def open(self) -> None:
        self.store = open_store(self.directory / "database.sqlite", on_wake=self.woken.extend)
        self.register = Register(
            store=self.store,
            definitions=self.definitions,
            engine_host=self.engine,
            objects_of=lambda account: self.objects,
            now_ms=lambda: self.now_ms,
            limits=self.limits,
        )

        self.shares = Shares(self.store, now_ms=lambda: self.now_ms)

    def close(self) -> None:
        self.store.close()

    def reopen(self) -> None:
        self.close()
        self.open()

    def call(self, operation: str, *, account: str = ACCOUNT, **request: Any) -> dict[str, Any]:
        registered = registry.handlers()[operation]
        site = self.site
        caller = Caller(account, f"arn:aws:iam::{account}:user/ana", "AKIATEST", "request-1", self.now_ms, site)
        prepared = registered.prepare(caller, request) if registered.prepare else request
        run = self.store.write if registered.writes else self.store.read
        answer = run(lambda tx: registered.function(tx, caller, prepared))
        body = orjson.dumps(answer or {}, option=orjson.OPT_UTC_Z)
        check_against_model(operation, body)
        document: dict[str, Any] = orjson.loads(body)
        return document

    # ---- the usual

    def create_workflow(
        self, files: Mapping[str, str | bytes] | None = None, *, account: str = ACCOUNT, **request: Any
    ) -> str:
        """A workflow's id, still CREATING."""
        source = {} if "definitionUri" in request else {"definitionZip": zip_of(files or {"main.wdl": HELLO})}
        token = {"requestId": f"create-{self.next_number()}"}
        created = self.call("CreateWorkflow", account=account, **{**token, **source, **request})
        identifier: str = created["id"]
        return identifier

    def registered_workflow(
        self, files: Mapping[str, str | bytes] | None = None, *, account: str = ACCOUNT, **request: Any
    ) -> str:
        """A workflow's id once registration is through with it."""
        identifier = self.create_workflow(files, account=account, **request)
        self.register.step(int(identifier))
        return identifier

    def create_version(
        self,
        workflow_id: str,
        version_name: str,
        files: Mapping[str, str | bytes] | None = None,
        *,
        account: str = ACCOUNT,
        **request: Any,
    ) -> dict[str, Any]:
        """The answer to CreateWorkflowVersion: still CREATING."""
        source = {} if "definitionUri" in request else {"definitionZip": zip_of(files or {"main.wdl": HELLO})}
        token = {"requestId": f"version-{self.next_number()}", "workflowId": workflow_id, "versionName": version_name}
        return self.call("CreateWorkflowVersion", account=account, **{**token, **source, **request})

    def registered_version(self, workflow_id: str, version_name: str, *args: Any, **request: Any) -> dict[str, Any]:
        """The answer to CreateWorkflowVersion, once registration is through with the version."""
        answer = self.create_version(workflow_id, version_name, *args, **request)
        for version_id in self.store.read(creating_versions):
            self.register.step_version(version_id)
        return answer

    def shared(self, workflow_id: str, subscriber: str = OTHER, *, account: str = ACCOUNT, **request: Any) -> str:
        """The id of an ACTIVE share."""
        share_id: str = self.offered(workflow_id, subscriber, account=account, **request)
        self.call("AcceptShare", account=subscriber, shareId=share_id)
        self.move_shares()
        return share_id

    def offered(self, workflow_id: str, subscriber: str = OTHER, *, account: str = ACCOUNT, **request: Any) -> str:
        """The id of a PENDING share."""
        arn = f"arn:aws:omics:us-east-1:{account}:workflow/{workflow_id}"
        share_id: str = self.call(
            "CreateShare", account=account, resourceArn=arn, principalSubscriber=subscriber, **request
        )["shareId"]
        return share_id

    def move_shares(self) -> None:
        """What the scheduler does when a share is woken."""
        for row_id in self.store.read(moving_shares):
            self.shares.step(row_id)

    def start_run(self, workflow_id: str | None, *, account: str = ACCOUNT, **request: Any) -> dict[str, Any]:
        usual: dict[str, Any] = {
            "roleArn": ROLE,
            "outputUri": "s3://bucket/out",
            "requestId": f"start-{self.next_number()}",
        }
        if workflow_id is not None:
            usual |= {"workflowId": workflow_id, "parameters": {"reads": "s3://bucket/reads.fq"}}
        return self.call("StartRun", account=account, **{**usual, **request})

    def set_run(self, run_id: str, **columns: Any) -> None:
        """What the scheduler would have done to the row: test data, not a way to move a run."""
        self._set("run", run_id, columns)

    def set_workflow(self, workflow_id: str, **columns: Any) -> None:
        """The same for a workflow."""
        self._set("workflow", workflow_id, columns)

    def _set(self, table: str, identifier: str, columns: Mapping[str, Any]) -> None:
        changes = ", ".join(f"{column} = :{column}" for column in columns)
        text = f"update {table} set {changes} where id = :id"  # noqa: S608 - names are the tests' own
        self.store.write(lambda tx: tx.change(text, {**columns, "id": int(identifier)}))

    def workflow_row(self, workflow_id: str) -> Any:
        return self.store.read(lambda tx: load_workflow(tx, int(workflow_id)))

    def with_site(self, **changes: Any) -> None:
        self.site = replace(self.site, **changes)

    _number = 0

    def next_number(self) -> int:
        self._number += 1
        return self._number


# ---- the model as an oracle --------------------------------------------------------------------------------------


def check_against_model(operation: str, body: bytes) -> None:
    """The answer has only members of the model, of their types, and botocore reads back everything in it."""
    shape = MODEL.operation_model(operation).output_shape
    document = orjson.loads(body)
    if shape is None:
        assert document == {}
        return
    problems = list(_problems(shape, document, operation))
    assert problems == []
    answer = {"status_code": 200, "headers": {}, "body": body}
    parsed = create_parser("rest-json").parse(answer, shape)
    assert set(parsed) - {"ResponseMetadata"} == set(document)


def _problems(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if getattr(shape, "is_document_type", False):
        return
    kind = shape.type_name
    expected: Mapping[str, type] = {
        "string": str,
        "integer": int,
        "long": int,
        "boolean": bool,
        "float": float,
        "double": float,
    }
    if isinstance(shape, StructureShape):
        for name, item in value.items():
            if name in shape.members:
                yield from _problems(shape.members[name], item, f"{path}.{name}")
            else:
                yield f"{path}.{name} is not in the model"
    elif isinstance(shape, MapShape):
        for name, item in value.items():
            yield from _problems(shape.value, item, f"{path}[{name}]")
    elif isinstance(shape, ListShape):
        for item in value:
            yield from _problems(shape.member, item, f"{path}[]")
    elif kind == "timestamp":
        if not value.endswith("Z") or datetime.fromisoformat(value).microsecond == 0:
            yield f"{path}: {value} is not UTC with a fraction"
    elif type(value) is not expected[kind]:
        yield f"{path}: {value!r} is not of type {kind}"
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: {value!r} is not one of {shape.enum}"
