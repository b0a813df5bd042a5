"""Brings a definition from a repository: the archive of its files, its README, its parameter template. Worker threads of the server."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import orjson

from runomics.domain.limits import Limits
from runomics.domain.packaging import Refused
from runomics.domain.repository import (
    Connection,
    EntryKind,
    TreeEntry,
    excludes,
    is_excluded,
    reference_of,
    resolve_link,
    with_absolute_links,
)
from runomics.ports import Repositories, RepositoryUnavailable, Snapshot
from runomics.scheduler.packing import pack
from runomics.store.definitions import Definitions

DEFAULT_README = "README.md"
LINK_BYTES = 4096
CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Brought:
    """What a repository gave. `template` is JSON text. `details` are members of the API's definitionRepositoryDetails."""

    definition_sha256: str
    readme: str | None
    template: str | None
    details: Mapping[str, Any]


class RepositorySource:
    """`check_template` holds a parameter template to the service model; it raises an exception whose text says what is wrong."""

    def __init__(
        self,
        *,
        connections: Sequence[Connection],
        repositories: Repositories,
        definitions: Definitions,
        check_template: Callable[[Any], Any],
        limits: Limits,
    ) -> None:
        self._connections = connections
        self._repositories = repositories
        self._definitions = definitions
        self._check_template = check_template
        self._limits = limits

    def bring(self, account: str, asked: Mapping[str, Any], *, wants_readme: bool) -> Brought:
        """Fetch what a request asked for: `definitionRepository`, and perhaps `readmePath` and `parameterTemplatePath`.

        Raises:
            Refused: it cannot be had, or is no definition; the message is a statusMessage.
        """
        named = asked["definitionRepository"]
        repository = named["fullRepositoryId"]
        connection = self._connection(account, named["connectionArn"], repository)
        reference = reference_of(named.get("sourceReference"))
        try:
            with self._repositories.fetch(connection.url_of(repository), reference) as snapshot:
                return self._brought(snapshot, connection, asked, wants_readme=wants_readme)
        except RepositoryUnavailable as error:
            raise Refused(
                f"Repository {repository} of connection {connection.arn} could not be fetched: {error}. Mend that, and create the "
                "workflow again."
            ) from error

    def _connection(self, account: str, arn: str, repository: str) -> Connection:
        for connection in self._connections:
            if connection.leads_to(arn, repository, account):
                return connection
        raise Refused(
            f"Connection {arn} does not lead to repository {repository} for account {account}. Ask the operator of this server, who "
            "lists connections in the file of the setting git_connections_file."
        )

    def _brought(
        self, snapshot: Snapshot, connection: Connection, asked: Mapping[str, Any], *, wants_readme: bool
    ) -> Brought:
        named = asked["definitionRepository"]
        tree = _Tree(snapshot, self._limits)
        readme_path = asked.get("readmePath") or (DEFAULT_README if tree.has(DEFAULT_README) and wants_readme else None)
        readme = None
        if readme_path is not None:
            text = tree.text("readmePath", readme_path, self._limits.readme_bytes)
            readme = with_absolute_links(text, readme_path, connection, named["fullRepositoryId"], snapshot.commit)
        template_path = asked.get("parameterTemplatePath")
        template = None if template_path is None else self._template(tree, template_path)
        details = {
            "connectionArn": named["connectionArn"],
            "fullRepositoryId": named["fullRepositoryId"],
            "sourceReference": named.get("sourceReference") or {"type": "COMMIT", "value": snapshot.commit},
            "providerType": connection.provider_type,
            "providerEndpoint": connection.provider_endpoint,
        }
        patterns = [excludes(pattern) for pattern in named.get("excludeFilePatterns", ())]
        files = tree.included(lambda path: not is_excluded(path, patterns))
        sha256 = self._definitions.receive(lambda descriptor: pack(files, descriptor))
        return Brought(sha256, readme, template, {name: value for name, value in details.items() if value is not None})

    def _template(self, tree: _Tree, path: str) -> str:
        text = tree.text("parameterTemplatePath", path, self._limits.template_bytes)
        try:
            template = self._check_template(orjson.loads(text))
        except Exception as error:
            raise Refused(
                f"parameterTemplatePath {path} is no parameter template: {error}. It is a JSON object of names with description and "
                "optional."
            ) from error
        if len(template) > self._limits.template_entries:
            raise Refused(
                f"parameterTemplatePath {path} has {len(template)} entries; the limit is {self._limits.template_entries}."
            )
        return orjson.dumps(template).decode()


class _Tree:
    """The files of a commit, its links followed inside it."""

    def __init__(self, snapshot: Snapshot, limits: Limits) -> None:
        self._snapshot = snapshot
        self._limits = limits
        self._files: dict[str, TreeEntry] = {}
        self._links: dict[str, TreeEntry] = {}
        for entry in snapshot.entries:
            if entry.kind is EntryKind.FILE:
                self._files[entry.path] = entry
            elif entry.kind is EntryKind.LINK:
                self._links[entry.path] = entry
        self._targets = {path: self._target(path) for path in self._links}

    def has(self, path: str) -> bool:
        return path in self._files or path in self._links

    def text(self, member: str, path: str, limit_bytes: int) -> str:
        path = path.removeprefix("./")
        if not self.has(path):
            raise Refused(f"{member} {path} is not in the repository. Name a file of it.")
        found = resolve_link(path, self._targets, self._files)
        if self._files[found].size_bytes > limit_bytes:
            raise Refused(
                f"{member} {path} has {self._files[found].size_bytes} bytes; the limit is {limit_bytes}. Shorten it."
            )
        with self._snapshot.open(found) as source:
            data = source.read()
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise Refused(f"{member} {path} is not UTF-8 text. Store it as UTF-8.") from error

    def included(
        self, is_included: Callable[[str], bool]
    ) -> list[tuple[str, Callable[[], AbstractContextManager[IO[bytes]]]]]:
        """Path and bytes of each file that counts; a link has those of the file it comes to.

        Raises:
            Refused: a link leads elsewhere, or there is too much.
        """
        archive = self._limits.repository
        total_bytes = 0
        files: list[tuple[str, Callable[[], AbstractContextManager[IO[bytes]]]]] = []
        for path in sorted((*self._files, *self._links)):
            if not is_included(path):
                continue
            found = resolve_link(path, self._targets, self._files)
            size_bytes = self._files[found].size_bytes
            total_bytes += size_bytes
            if size_bytes > archive.file_bytes:
                raise Refused(
                    f"The file '{path}' of the repository has {size_bytes} bytes; the limit is {archive.file_bytes}. Leave it out with "
                    "excludeFilePatterns, and pass it as an input of the run."
                )
            files.append((path, partial(self._snapshot.open, found)))
        if total_bytes > archive.unpacked_bytes or len(files) > archive.entries:
            raise Refused(
                f"The repository has {len(files)} files of {total_bytes} bytes together; the limits are {archive.entries} and "
                f"{archive.unpacked_bytes}. Leave some out with excludeFilePatterns."
            )
        return files

    def _target(self, link: str) -> str:
        if self._links[link].size_bytes > LINK_BYTES:
            return "/"
        with self._snapshot.open(link) as source:
            return io.TextIOWrapper(source, "utf-8", "replace", newline="").read()
