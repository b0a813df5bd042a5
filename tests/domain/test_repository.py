"""Definitions in Git repositories: the file of connections, what a request may name, which files count, where links lead."""

from __future__ import annotations

from pathlib import Path

import pytest

from runomics.connections_file import read_connections
from runomics.domain.packaging import Refused
from runomics.domain.repository import (
    ConnectionsError,
    Malformed,
    SourceReference,
    SourceReferenceType,
    check_repository,
    excludes,
    is_excluded,
    parse_connections,
    reference_of,
    resolve_link,
    with_absolute_links,
)

ACCOUNT, OTHER = "123456789012", "210987654321"
ARN = f"arn:aws:codeconnections:us-east-1:{ACCOUNT}:connection/lab"
FILE = f'[[connection]]\narn = "{ARN}"\nurl = "/srv/git/{{repository}}.git"\n'


def test_a_connection_leads_its_account_to_its_repositories() -> None:
    (plain,) = parse_connections(FILE)
    assert plain.url_of("lab/hello") == "file:///srv/git/lab/hello.git"
    assert (plain.leads_to(ARN, "any/thing", ACCOUNT), plain.leads_to(ARN, "any/thing", OTHER)) == (True, False)
    assert not plain.leads_to(ARN + "2", "any/thing", ACCOUNT)
    (narrow,) = parse_connections(f'{FILE}repositories = ["lab/*"]\naccounts = ["{OTHER}"]\n')
    assert narrow.leads_to(ARN, "lab/hello", OTHER)
    assert not narrow.leads_to(ARN, "labs/hello", OTHER)
    assert not narrow.leads_to(ARN, "lab/hello", ACCOUNT)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "a list of connections named connection"),
        ("[[connection]", "it is not TOML"),
        ("[[connection]]", "connection 1: arn '' is not"),
        (FILE + "colour = 1", "unknown member colour"),
        (FILE.replace("/srv", "srv"), "url must be an absolute path or begin with https://, ssh://, file://"),
        (FILE.replace("/srv", "ext::sh -c /srv"), "url must be"),
        (FILE.replace("/srv", "http://host"), "url must be"),
        (FILE + "repositories = []", "connection 1: repositories is not a list of texts"),
        (FILE + 'accounts = ["me"]', "accounts are of 12 digits"),
        (FILE + "provider_type = 1", "provider_type is not text"),
    ],
)
def test_a_wrong_file_of_connections_is_refused_with_words(text: str, says: str) -> None:
    with pytest.raises(ConnectionsError) as caught:
        parse_connections(text)
    assert says in str(caught.value)


def test_a_file_with_passwords_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "connections.toml"
    path.write_text(FILE.replace("/srv", "https://me:secret@host"))
    path.chmod(0o644)
    with pytest.raises(ConnectionsError, match="chmod 600"):
        read_connections(path)
    path.chmod(0o600)
    (connection,) = read_connections(path)
    assert "secret" not in repr(connection)
    assert read_connections(None) == ()
    with pytest.raises(ConnectionsError, match="cannot be read"):
        read_connections(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "repository", ["a", "a/", "/a", "a/..", "../a", "a/../b", "a/b c", "a/-b", "a/.git", "a//b", "a/b\n", "a/" * 300]
)
def test_an_id_that_leads_elsewhere_is_refused(repository: str) -> None:
    with pytest.raises(Malformed):
        check_repository(repository)


def test_ids_of_repositories_may_have_groups() -> None:
    for repository in ("lab/hello", "lab/sub.group/hello_1-2"):
        check_repository(repository)


@pytest.mark.parametrize(
    "value",
    [
        "", "-x", "a..b", "a b", "a:b", "a^", "a~1", "a?", "a*", "a[", "a\\b", "a@{1}", "/a", "a/", "a//b", "a.lock", ".a", "a/.b", "a\n",
    ],
)  # fmt: skip
def test_what_git_would_not_call_a_branch_is_refused(value: str) -> None:
    for kind in ("BRANCH", "TAG"):
        with pytest.raises(Malformed):
            reference_of({"type": kind, "value": value})


def test_references() -> None:
    assert reference_of(None) is None
    assert reference_of({"type": "BRANCH", "value": "a/b-1.x"}) == SourceReference(
        SourceReferenceType.BRANCH, "a/b-1.x"
    )
    assert reference_of({"type": "COMMIT", "value": "a" * 40}) == SourceReference(SourceReferenceType.COMMIT, "a" * 40)
    for short in ("a" * 7, "A" * 40, "main", "a" * 41):
        with pytest.raises(Malformed, match="the whole id of a commit"):
            reference_of({"type": "COMMIT", "value": short})


@pytest.mark.parametrize(
    ("pattern", "excluded", "kept"),
    [
        ("*.md", ["README.md", "docs/a.md"], ["md", "a.mdx"]),
        ("docs", ["docs/a", "x/docs/b/c"], ["docsy/a"]),
        ("docs/", ["docs/a"], ["x"]),
        ("docs/*.md", ["docs/a.md"], ["docs/x/a.md", "a.md"]),
        ("docs/**/a", ["docs/a", "docs/x/y/a"], ["a", "x/docs/a"]),
        ("docs/**", ["docs/a", "docs/b/c"], ["docs"]),
        ("**/test_?", ["test_a", "x/test_b/c"], ["test_ab"]),
        ("/a/b", ["a/b", "a/b/c"], ["x/a/b"]),
        ("[ab].wdl", ["a.wdl", "x/b.wdl"], ["c.wdl"]),
        ("", [], ["a"]),
    ],
)
def test_globs_name_files_and_folders(pattern: str, excluded: list[str], kept: list[str]) -> None:
    compiled = [excludes(pattern)]
    assert [path for path in (*excluded, *kept) if is_excluded(path, compiled)] == excluded


def test_links_stay_in_the_repository() -> None:
    targets = {"a": "b/c", "b/up": "../top", "chain": "a", "loop": "loop2", "loop2": "loop", "out": "../../etc/passwd",
               "root": "/etc/passwd", "folder": "b", "dead": "nothing"}  # fmt: skip
    files = {"b/c": 1, "top": 1}
    assert {path: resolve_link(path, targets, files) for path in ("a", "b/up", "chain", "top")} == {
        "a": "b/c", "b/up": "top", "chain": "b/c", "top": "top",
    }  # fmt: skip
    for path, says in (
        ("out", "out of"),
        ("root", "out of"),
        ("loop", "not lead to"),
        ("folder", "not lead"),
        ("dead", "not lead"),
    ):
        with pytest.raises(Refused, match=says):
            resolve_link(path, targets, files)


@pytest.mark.source("guide")
def test_relative_links_of_a_readme_become_absolute() -> None:
    (connection,) = parse_connections(
        f'{FILE}provider_type = "GitHub"\nprovider_endpoint = "https://git.example.org/"\n'
    )
    text = '[a](x.md) ![p](../p.png "t") [u](https://u/x) [s](#s) [r](/r) [m](mailto:a@b)'
    assert with_absolute_links(text, "docs/README.md", connection, "lab/hello", "c0ffee") == (
        "[a](https://git.example.org/lab/hello/blob/c0ffee/docs/x.md) "
        '![p](https://git.example.org/lab/hello/raw/c0ffee/p.png "t") [u](https://u/x) [s](#s) '
        "[r](https://git.example.org/lab/hello/blob/c0ffee/r) [m](mailto:a@b)"
    )
    (unknown,) = parse_connections(FILE)
    assert with_absolute_links(text, "README.md", unknown, "lab/hello", "c") == text
