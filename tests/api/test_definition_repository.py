"""definitionRepository: definitions out of real Git repositories, from CREATING to ACTIVE or FAILED with a reason."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from server_in_a_box import ACCOUNT, HELLO, OTHER, Box

from runomics.domain.limits import Limits
from runomics.domain.packaging import ArchiveLimits
from runomics.domain.repository import parse_connections
from runomics.operations.access import Named, rights
from runomics.repositories.git import GitRepositories
from runomics.scheduler import archive
from runomics.scheduler.register import Register
from runomics.scheduler.repository_source import RepositorySource
from runomics.wire.errors import ValidationException
from runomics.wire.model import ServiceModel
from runomics.wire.validate import checker

pytestmark = pytest.mark.needs("git")

ARN = f"arn:aws:codeconnections:us-east-1:{ACCOUNT}:connection/lab"
CHECK = checker(ServiceModel.load().shapes, "WorkflowParameterTemplate")
LIMITS = Limits(repository=ArchiveLimits(unpacked_bytes=300_000, file_bytes=200_000))


class Repository:
    """A repository that somebody else works in, `lab/hello` of the connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path),
            **{f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        ended = subprocess.run(
            ["git", *arguments], cwd=self.path, env=environment, check=True, capture_output=True, text=True
        )
        return ended.stdout.strip()

    def commit(self, files: Mapping[str, str | bytes]) -> str:
        for name, content in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "git" / "lab" / "hello")


@pytest.fixture
def fetching(box: Box, tmp_path: Path) -> Box:
    """A server with a connection to the repositories below `git`."""
    connections = parse_connections(
        f'[[connection]]\narn = "{ARN}"\nurl = "{tmp_path}/git/{{repository}}"\nrepositories = ["lab/*"]\n'
        'provider_type = "GitHub"\nprovider_endpoint = "https://git.example.org"\n'
    )
    box.register = Register(
        store=box.store,
        definitions=box.definitions,
        engine_host=box.engine,
        objects_of=lambda account: box.objects,
        source=RepositorySource(
            connections=connections,
            repositories=GitRepositories(scratch=box.definitions.root, seconds=20, limit_bytes=1 << 20),
            definitions=box.definitions,
            check_template=lambda template: CHECK("WorkflowParameterTemplate", template),
            limits=LIMITS,
        ),
        now_ms=lambda: box.now_ms,
        limits=LIMITS,
    )
    return box


def created(
    box: Box,
    reference: tuple[str, str] | None = None,
    *,
    account: str = ACCOUNT,
    repository: str = "lab/hello",
    **more: Any,
) -> dict[str, Any]:
    """The workflow as GetWorkflow has it once registration is through."""
    excluded = more.pop("excludeFilePatterns", None)
    wanted: dict[str, Any] = {"connectionArn": ARN, "fullRepositoryId": repository}
    if reference is not None:
        wanted["sourceReference"] = {"type": reference[0], "value": reference[1]}
    if excluded is not None:
        wanted["excludeFilePatterns"] = excluded
    request = {"definitionRepository": wanted, "requestId": f"r-{box.next_number()}", **more}
    workflow_id = box.call("CreateWorkflow", account=account, **request)["id"]
    box.register.step(int(workflow_id))
    assert not list(box.definitions.root.glob(".incoming-*"))
    return box.call("GetWorkflow", account=account, id=workflow_id, export=["README"])


def names(box: Box, workflow: Mapping[str, Any]) -> list[str]:
    sha256 = workflow["digest"].removeprefix("sha256:")
    return archive.names(box.definitions.archive(sha256), LIMITS.repository)


def reason(workflow: Mapping[str, Any]) -> str:
    assert workflow["status"] == "FAILED", workflow
    message: str = workflow["statusMessage"]
    return message


# ---- what is fetched ---------------------------------------------------------------------------------------------


@pytest.mark.source("model")
def test_the_newest_commit_of_the_default_branch_becomes_a_workflow(fetching: Box, repository: Repository) -> None:
    repository.commit({"main.wdl": "old"})
    commit = repository.commit({"main.wdl": HELLO, "README.md": "# Hi [x](a.md)", "sub/a.txt": "a", ".hidden": "h"})
    found = created(fetching)
    assert (found["status"], found["main"], names(fetching, found)) == (
        "ACTIVE", "main.wdl", [".hidden", "README.md", "main.wdl", "sub/a.txt"],
    )  # fmt: skip
    assert found["definitionRepositoryDetails"] == {
        "connectionArn": ARN,
        "fullRepositoryId": "lab/hello",
        "sourceReference": {"type": "COMMIT", "value": commit},
        "providerType": "GitHub",
        "providerEndpoint": "https://git.example.org",
    }
    assert (
        fetching.workflow_row(found["id"]).readme == f"# Hi [x](https://git.example.org/lab/hello/blob/{commit}/a.md)"
    )
    assert set(found["parameterTemplate"]) == {"reads", "name", "copies"}


def test_branch_tag_and_commit_are_what_they_name(fetching: Box, repository: Repository) -> None:
    first = repository.commit({"main.wdl": HELLO, "which": "first"})
    repository.git("tag", "-a", "v1", "-m", "x")
    repository.git("switch", "-q", "-c", "feature/x")
    repository.commit({"which": "branch"})
    repository.git("switch", "-q", "main")
    repository.commit({"which": "main"})
    said = {}
    for reference in (("BRANCH", "feature/x"), ("BRANCH", "main"), ("TAG", "v1"), ("COMMIT", first)):
        found = created(fetching, reference)
        assert found["definitionRepositoryDetails"]["sourceReference"] == {"type": reference[0], "value": reference[1]}
        said[reference] = (fetching.definitions.tree(found["digest"].removeprefix("sha256:")) / "which").read_text()
    assert list(said.values()) == ["branch", "main", "first", "first"]


def test_the_same_files_are_the_same_definition_and_later_commits_change_nothing(
    fetching: Box, repository: Repository
) -> None:
    repository.commit({"main.wdl": HELLO})
    first, again = created(fetching), created(fetching)
    assert first["digest"] == again["digest"]
    repository.commit({"main.wdl": HELLO.replace("hello", "bye")})
    assert fetching.call("GetWorkflow", id=first["id"])["digest"] == first["digest"]
    assert created(fetching)["digest"] != first["digest"]


@pytest.mark.source("model")
def test_readme_template_and_exclusions_are_the_requests(fetching: Box, repository: Repository) -> None:
    template = '{"reads": {"description": "r"}}'
    repository.commit(
        {"wf/main.wdl": HELLO, "README.md": "root", "docs/wf.md": "mine", "wf/p.json": template, "data/x.bam": "x"}
    )
    found = created(
        fetching, main="wf/main.wdl", readmePath="docs/wf.md", parameterTemplatePath="wf/p.json", excludeFilePatterns=["docs", "*.bam"]
    )  # fmt: skip
    assert names(fetching, found) == ["README.md", "wf/main.wdl", "wf/p.json"]
    assert (found["parameterTemplate"], found["readmePath"]) == ({"reads": {"description": "r"}}, "docs/wf.md")
    assert fetching.workflow_row(found["id"]).readme == "mine"
    given = created(fetching, readmeMarkdown="given", excludeFilePatterns=["docs"])
    assert fetching.workflow_row(given["id"]).readme == "given"


def test_a_version_comes_from_another_branch(fetching: Box, repository: Repository) -> None:
    repository.commit({"main.wdl": HELLO})
    workflow = created(fetching)
    repository.git("switch", "-q", "-c", "next")
    repository.commit({"main.wdl": HELLO.replace("hello", "bye")})
    wanted = {
        "connectionArn": ARN,
        "fullRepositoryId": "lab/hello",
        "sourceReference": {"type": "BRANCH", "value": "next"},
    }
    named = {"workflowId": workflow["id"], "versionName": "next"}
    fetching.call("CreateWorkflowVersion", **named, definitionRepository=wanted, requestId="v")
    from_store = fetching.store.read(lambda tx: fetching.woken[-1][1])
    fetching.register.step_version(from_store)
    found = fetching.call("GetWorkflowVersion", **named)
    assert (found["status"], found["definitionRepositoryDetails"]["sourceReference"]) == (
        "ACTIVE",
        wanted["sourceReference"],
    )
    assert found["digest"] != workflow["digest"]


def test_a_workflow_is_shown_with_what_was_asked_while_it_is_fetched(fetching: Box) -> None:
    wanted = {"connectionArn": ARN, "fullRepositoryId": "lab/hello", "excludeFilePatterns": ["x"]}
    workflow_id = fetching.call("CreateWorkflow", definitionRepository=wanted, requestId="r")["id"]
    found = fetching.call("GetWorkflow", id=workflow_id)
    assert (found["status"], found["definitionRepositoryDetails"]) == (
        "CREATING",
        {"connectionArn": ARN, "fullRepositoryId": "lab/hello"},
    )


# ---- what is not followed ----------------------------------------------------------------------------------------


def test_links_inside_are_files_and_submodules_are_left_out(
    fetching: Box, repository: Repository, tmp_path: Path
) -> None:
    other = Repository(tmp_path / "elsewhere")
    other.commit({"secret": "s"})
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other.path), "sub")
    (repository.path / "tasks").mkdir()
    (repository.path / "tasks" / "same.wdl").symlink_to("../main.wdl")
    repository.commit({"main.wdl": HELLO})
    found = created(fetching, main="main.wdl")
    assert (found["status"], names(fetching, found)) == ("ACTIVE", [".gitmodules", "main.wdl", "tasks/same.wdl"])
    tree = fetching.definitions.tree(found["digest"].removeprefix("sha256:"))
    copied = tree / "tasks" / "same.wdl"
    assert (copied.read_text(), stat.S_ISREG(copied.lstat().st_mode)) == (HELLO, True)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "../outside"])
def test_a_link_that_leads_out_fails_the_workflow_unless_it_is_excluded(
    fetching: Box, repository: Repository, target: str
) -> None:
    (repository.path / "leak").symlink_to(target)
    repository.commit({"main.wdl": HELLO})
    assert "The link 'leak' leads out of the repository." in reason(created(fetching))
    assert created(fetching, excludeFilePatterns=["leak"])["status"] == "ACTIVE"


def test_nothing_of_the_repository_is_run(fetching: Box, repository: Repository, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    repository.commit({"main.wdl": HELLO, ".gitattributes": "* filter=evil diff=evil\n"})
    repository.git("config", "filter.evil.smudge", f"touch {witness}")
    repository.git("config", "uploadpack.packObjectsHook", f"touch {witness};")
    repository.git("config", "core.fsmonitor", f"touch {witness};")
    for hook in ("post-checkout", "post-upload-pack", "pre-receive"):
        path = repository.path / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {witness}\n")
        path.chmod(0o755)
    assert created(fetching)["status"] == "ACTIVE"
    assert not witness.exists()


def test_a_repository_of_another_user_is_read(fetching: Box, repository: Repository) -> None:
    repository.commit({"main.wdl": HELLO})
    if os.geteuid() == 0:
        for path in (repository.path, *repository.path.rglob("*")):
            os.lchown(path, 12345, 12345)
    assert created(fetching)["status"] == "ACTIVE"


# ---- what fails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (("BRANCH", "nowhere"), "could not be fetched: it has no branch nowhere."),
        (("TAG", "v9"), "it has no tag v9."),
        (
            ("COMMIT", "0123456789012345678901234567890123456789"),
            "it has no commit 0123456789012345678901234567890123456789.",
        ),
    ],
)
def test_what_the_repository_does_not_have(
    fetching: Box, repository: Repository, reference: tuple[str, str], says: str
) -> None:
    repository.commit({"main.wdl": HELLO})
    failed = created(fetching, reference)
    assert says in reason(failed)
    assert failed["definitionRepositoryDetails"]["sourceReference"] == {"type": reference[0], "value": reference[1]}


def test_who_has_no_connection_and_where_none_leads(fetching: Box, repository: Repository, tmp_path: Path) -> None:
    repository.commit({"main.wdl": HELLO})
    assert f"Connection {ARN} does not lead to repository lab/hello for account {OTHER}." in reason(
        created(fetching, account=OTHER)
    )
    assert "does not lead to repository other/hello" in reason(created(fetching, repository="other/hello"))
    missing = reason(created(fetching, repository="lab/nothing"))
    assert "Repository lab/nothing of connection" in missing
    assert "it does not exist" in missing
    assert str(tmp_path) not in missing


def test_sizes_are_limited(fetching: Box, repository: Repository) -> None:
    repository.commit({"main.wdl": HELLO, "big": os.urandom(250_000)})
    assert "The file 'big' of the repository has 250000 bytes; the limit is 200000." in reason(created(fetching))
    assert created(fetching, excludeFilePatterns=["big"])["status"] == "ACTIVE"
    repository.commit({"big": "", **{f"b{number}": os.urandom(150_000) for number in range(3)}})
    assert "of 450" in reason(created(fetching))
    repository.commit({"huge": os.urandom(3 << 20)})
    assert "it is larger than 1048576 bytes, the most that is fetched" in reason(
        created(fetching, excludeFilePatterns=["huge"])
    )


def test_time_is_limited(
    fetching: Box, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    slow = programs / "git"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    source = fetching.register._source
    assert source is not None
    source._repositories = GitRepositories(scratch=fetching.definitions.root, seconds=0.3, limit_bytes=1 << 20)
    assert "it took longer than 0 seconds" in reason(created(fetching))


@pytest.mark.parametrize(
    ("files", "more", "says"),
    [
        ({}, {"readmePath": "no.md"}, "readmePath no.md is not in the repository"),
        ({"r.md": b"\xff\xfe"}, {"readmePath": "r.md"}, "readmePath r.md is not UTF-8 text"),
        ({}, {"parameterTemplatePath": "p.json"}, "parameterTemplatePath p.json is not in the repository"),
        ({"p.json": "["}, {"parameterTemplatePath": "p.json"}, "parameterTemplatePath p.json is no parameter template"),
        (
            {"p.json": "[]"},
            {"parameterTemplatePath": "p.json"},
            "parameterTemplatePath p.json is no parameter template",
        ),
        ({"p.json": '{"a": {"optional": 3}}'}, {"parameterTemplatePath": "p.json"}, "is no parameter template"),
        ({}, {"excludeFilePatterns": ["*.wdl"]}, "The archive has no"),
        ({"main.wdl": "version 1.0\nworkflow {"}, {}, "(main.wdl Ln"),
    ],
)
def test_files_that_are_wrong(fetching: Box, repository: Repository, files: Any, more: Any, says: str) -> None:
    repository.commit({"main.wdl": HELLO, "other": "x", **files})
    assert says in reason(created(fetching, **more))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"readmePath": "a", "readmeMarkdown": "b"}, "readmeMarkdown and readmePath were both given"),
        ({"readmePath": "a", "readmeUri": "s3://bucket/b"}, "readmeUri and readmePath were both given"),
        (
            {"parameterTemplatePath": "a", "parameterTemplate": {"a": {}}},
            "parameterTemplate and parameterTemplatePath were both",
        ),
        ({"definitionUri": "s3://bucket/a.zip"}, "definitionUri and definitionRepository was given"),
    ],
)
def test_what_does_not_go_together_is_refused_at_once(fetching: Box, more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationException, match=says):
        created(fetching, **more)


@pytest.mark.parametrize("reference", [("BRANCH", "a:b"), ("COMMIT", "abc"), ("TAG", "-x")])
def test_a_reference_that_cannot_be_one_is_refused_at_once(fetching: Box, reference: tuple[str, str]) -> None:
    with pytest.raises(ValidationException, match="definitionRepository: sourceReference"):
        created(fetching, reference)


@pytest.mark.source("guide")
@pytest.mark.parametrize("operation", ["CreateWorkflow", "CreateWorkflowVersion"])
def test_who_names_a_connection_needs_the_right_to_use_it(operation: str) -> None:
    request = {"workflowId": "1", "versionName": "v", "definitionRepository": {"connectionArn": ARN}}
    asked = {(right.action, right.resource) for right in rights(operation, Named("us-east-1", ACCOUNT, request))}
    assert ("codeconnections:UseConnection", ARN) in asked
    del request["definitionRepository"]
    assert not any(
        "codeconnections" in right.action for right in rights(operation, Named("us-east-1", ACCOUNT, request))
    )
