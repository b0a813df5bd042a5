"""Definitions that lie in Git repositories: which connection leads where, what a request names, which files count. Pure; server process.

The file of connections is TOML. The first connection that has the ARN, the repository and the account is taken:

    [[connection]]
    arn = "arn:aws:codeconnections:us-east-1:123456789012:connection/lab"
    url = "https://git.example.org/{repository}.git"    # or ssh://…, file:///…, /srv/git/{repository}.git
    repositories = ["lab/*"]                            # fullRepositoryId; * and ? as wildcards; all without it
    accounts = ["123456789012"]                         # who may use it; the ARN's account without it
    provider_type = "GitHub"                            # answered, and for GitHub, GitLab and Bitbucket how links are made
    provider_endpoint = "https://git.example.org"
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from runomics.domain.packaging import Refused
from runomics.domain.policy_pattern import Pattern, compile_pattern

PLACEHOLDER = "{repository}"
SCHEMES = ("https", "ssh", "file")
REFERENCE_LETTERS = 512
LINK_HOPS = 40

_ARN = re.compile(r"arn:aws[\w-]*:[a-z-]+:[a-z0-9-]+:([0-9]{12}):.+")
_ACCOUNT = re.compile(r"[0-9]{12}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)+")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_NO_REFERENCE = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|/\.|[/.]$|\.lock(/|$)")
_MEMBERS = frozenset({"arn", "url", "repositories", "accounts", "provider_type", "provider_endpoint"})


class ConnectionsError(ValueError):
    """The file of connections cannot be used. The message names the entry and says why."""


class Malformed(ValueError):
    """What a request says of a repository cannot name one."""


class SourceReferenceType(StrEnum):
    """Source: model, shape SourceReferenceType."""

    BRANCH = "BRANCH"
    TAG = "TAG"
    COMMIT = "COMMIT"


@dataclass(frozen=True, slots=True)
class SourceReference:
    """What of a repository is wanted."""

    type: SourceReferenceType
    value: str


class EntryKind(StrEnum):
    """What stands in a commit's tree."""

    FILE = "file"
    LINK = "link"
    SUBMODULE = "submodule"


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One path of a commit. `size_bytes` of a link is its target's length."""

    path: str
    kind: EntryKind
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Connection:
    """One way to repositories. `url` has the place where the repository's id goes; it may hold a secret."""

    arn: str
    url: str = field(repr=False)
    repositories: tuple[Pattern, ...]
    accounts: tuple[str, ...]
    provider_type: str | None = None
    provider_endpoint: str | None = None

    def leads_to(self, arn: str, repository: str, account: str) -> bool:
        return (
            arn == self.arn
            and account in self.accounts
            and any(pattern.matches(repository, {}) for pattern in self.repositories)
        )

    def url_of(self, repository: str) -> str:
        return self.url.replace(PLACEHOLDER, repository)


# ---- the file of connections -------------------------------------------------------------------------------------


def parse_connections(text: str) -> tuple[Connection, ...]:
    """The connections of a file, in its order.

    Raises:
        ConnectionsError: it is not TOML, or an entry is wrong.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConnectionsError(f"it is not TOML: {error}") from None
    listed = document.get("connection", [])
    if not isinstance(listed, list) or set(document) - {"connection"}:
        raise ConnectionsError("it must hold a list of connections named connection, and nothing else")
    return tuple(_connection(f"connection {number}", entry) for number, entry in enumerate(listed, start=1))


def _connection(where: str, entry: Any) -> Connection:
    if not isinstance(entry, dict):
        raise ConnectionsError(f"{where}: it is not a table")
    unknown = sorted(entry.keys() - _MEMBERS)
    if unknown:
        raise ConnectionsError(f"{where}: unknown member {', '.join(unknown)}; known are {', '.join(sorted(_MEMBERS))}")
    for name in ("arn", "url", "provider_type", "provider_endpoint"):
        if not isinstance(entry.get(name, ""), str):
            raise ConnectionsError(f"{where}: {name} is not text")
    arn = entry.get("arn", "")
    match = _ARN.fullmatch(arn)
    if match is None:
        raise ConnectionsError(f"{where}: arn {arn!r} is not arn:aws:codeconnections:REGION:ACCOUNT:connection/NAME")
    accounts = _texts(f"{where}: accounts", entry.get("accounts", [match[1]]))
    if not all(_ACCOUNT.fullmatch(account) for account in accounts):
        raise ConnectionsError(f"{where}: accounts are of 12 digits each")
    return Connection(
        arn=arn,
        url=_url(where, entry.get("url", "")),
        repositories=tuple(
            compile_pattern(one) for one in _texts(f"{where}: repositories", entry.get("repositories", ["*"]))
        ),
        accounts=accounts,
        provider_type=entry.get("provider_type"),
        provider_endpoint=entry.get("provider_endpoint"),
    )


def _url(where: str, url: str) -> str:
    if url.startswith("/"):
        url = f"file://{url}"
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in SCHEMES:
        raise ConnectionsError(
            f"{where}: url must be an absolute path or begin with {', '.join(f'{one}://' for one in SCHEMES)}"
        )
    return url


def _texts(where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise ConnectionsError(f"{where} is not a list of texts")
    return tuple(value)


def has_secret(connection: Connection) -> bool:
    """Whether the URL holds a password."""
    return urlsplit(connection.url.replace(PLACEHOLDER, "x")).password is not None


# ---- what a request names ----------------------------------------------------------------------------------------


def check_repository(repository: str) -> None:
    """A repository's id becomes part of a URL or path, and must not lead elsewhere.

    Raises:
        Malformed: it is not OWNER/NAME of letters, digits, dots, dashes and underscores.
    """
    if len(repository) > REFERENCE_LETTERS or _REPOSITORY.fullmatch(repository) is None:
        raise Malformed(
            f"fullRepositoryId '{repository[:128]}' is not OWNER/NAME of letters, digits, dots, dashes and underscores"
        )


def reference_of(given: Mapping[str, str] | None) -> SourceReference | None:
    """What `sourceReference` asks for; None for the default branch's newest commit.

    Raises:
        Malformed: it cannot be the name of a branch, a tag or a commit.
    """
    if given is None:
        return None
    reference = SourceReference(SourceReferenceType(given["type"]), given["value"])
    value = reference.value
    if reference.type is SourceReferenceType.COMMIT:
        if _COMMIT.fullmatch(value) is None:
            raise Malformed(f"sourceReference: '{value[:128]}' is not the whole id of a commit, 40 of 0-9 and a-f")
    elif not value or len(value) > REFERENCE_LETTERS or _NO_REFERENCE.search(value):
        raise Malformed(f"sourceReference: '{value[:128]}' cannot be the name of a {reference.type.lower()}")
    return reference


# ---- which files count -------------------------------------------------------------------------------------------


def excludes(pattern: str) -> Sequence[str | re.Pattern[str]]:
    """A glob, step by step: `**` is any number of folders. One without `/` is a name at any depth. Source: guide (globs); assumed (how)."""
    steps = [step for step in pattern.strip("/").split("/") if step not in ("", ".")]
    if len(steps) == 1 and "/" not in pattern.rstrip("/"):
        steps = ["**", *steps]
    return [step if step == "**" else re.compile(fnmatch.translate(step)) for step in steps]


def is_excluded(path: str, patterns: Sequence[Sequence[str | re.Pattern[str]]]) -> bool:
    """Whether a pattern names the file, or a folder it is in."""
    names = path.split("/")
    return any(_matches(names, pattern) for pattern in patterns)


def _matches(names: Sequence[str], pattern: Sequence[str | re.Pattern[str]]) -> bool:
    reached = {0}
    for number, step in enumerate(pattern):
        if isinstance(step, str):
            least = min(reached) + (1 if number == len(pattern) - 1 else 0)
            reached = set(range(least, len(names) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(names) and step.match(names[at])}
        if not reached:
            return False
    return bool(pattern)


def resolve_link(path: str, targets: Mapping[str, str], files: Mapping[str, Any]) -> str:
    """The file that a link comes to, inside the repository. `targets`: link → where it points.

    Raises:
        Refused: it leads out of the repository, nowhere, to a folder, or in a circle.
    """
    at = path
    for _ in range(LINK_HOPS):
        if at in files:
            return at
        if at not in targets:
            break
        at = _pointed(path, at, targets[at])
    raise Refused(
        f"The link '{path}' of the repository does not lead to a file in it. Put the file itself there, or leave the link out with "
        "excludeFilePatterns."
    )


def _pointed(path: str, link: str, target: str) -> str:
    steps = [] if target.startswith("/") else list(PurePosixPath(link).parent.parts)
    for step in target.split("/"):
        if step == "..":
            if not steps:
                raise _leads_out(path)
            steps.pop()
        elif step not in ("", "."):
            steps.append(step)
    if target.startswith("/"):
        raise _leads_out(path)
    return "/".join(steps)


def _leads_out(path: str) -> Refused:
    return Refused(
        f"The link '{path}' leads out of the repository. Put the file itself there, or leave the link out with excludeFilePatterns."
    )


# ---- the README --------------------------------------------------------------------------------------------------

_LINK = re.compile(r"(!?)\[([^\]\n]{0,1000})\]\(([^()\s]{1,2000})((?:[ \t]+\"[^\"\n]{0,1000}\")?)\)")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|#|//")
_PLACES: Mapping[str, tuple[str, str]] = {
    "GitHub": ("blob", "raw"),
    "GitHubEnterpriseServer": ("blob", "raw"),
    "GitLab": ("-/blob", "-/raw"),
    "GitLabSelfManaged": ("-/blob", "-/raw"),
    "Bitbucket": ("src", "raw"),
}
"""Provider type → where its pages of files and their bare contents lie."""


def with_absolute_links(readme: str, readme_path: str, connection: Connection, repository: str, commit: str) -> str:
    """A README whose relative links lead to the provider's pages; unchanged when the provider is not known.

    Source: guide, workflows-git-integration (relative links become absolute); assumed (which pages).
    """
    places = _PLACES.get(connection.provider_type or "")
    if places is None or connection.provider_endpoint is None:
        return readme
    base = f"{connection.provider_endpoint.rstrip('/')}/{repository}"

    def absolute(match: re.Match[str]) -> str:
        image, text, target, title = match.groups()
        if _ABSOLUTE.match(target):
            return match[0]
        steps = [] if target.startswith("/") else list(PurePosixPath(readme_path).parent.parts)
        for step in target.split("/"):
            if step == ".." and steps:
                steps.pop()
            elif step not in ("", ".", ".."):
                steps.append(step)
        return f"{image}[{text}]({base}/{places[1] if image else places[0]}/{commit}/{'/'.join(steps)}{title})"

    return _LINK.sub(absolute, readme)
