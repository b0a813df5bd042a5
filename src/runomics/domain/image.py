"""Names of container images: taken apart, mapped from one registry to another, and how having one may fail. Pure.

Three names stand beside each other: what the definition says (`source`), what the workflow's registry map makes of it (`image`, which
the API shows), and where this server really pulls it from (`location`, by the operator's `image_map`).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

DOCKER_HUB = "docker.io"
_DOCKER_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:\[[0-9a-fA-F:]+\]|{_LABEL}(?:\.{_LABEL})*)(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ECR_HOST = re.compile(r"(?P<account>[0-9]{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_SCHEMES = ("docker://", "https://", "http://")

CONVENTIONAL_IMAGE_MAP: Mapping[str, str] = {
    "ecr-public/": "public.ecr.aws/",
    "quay/": "quay.io/",
    "docker-hub/": "docker.io/",
    "dockerhub/": "docker.io/",
    "github/": "ghcr.io/",
    "ghcr/": "ghcr.io/",
    "gitlab/": "registry.gitlab.com/",
    "kubernetes/": "registry.k8s.io/",
}
"""What the repositories of a pull-through cache are called by AWS's guide and console, and the registry behind each."""

FAILURES = {
    "INVALID": "INVALID_ECR_IMAGE_URI",
    "FORBIDDEN": "ECR_PERMISSION_ERROR",
    "MISSING": "IMAGE_VERIFICATION_FAILURE",
    "TOO_LARGE": "CANNOT_START_CONTAINER_SIZE_ERROR",
    "BROKEN": "CANNOT_START_CONTAINER_ERROR",
    "UNREACHABLE": "CANNOT_START_CONTAINER_ERROR",
}
"""Why an image cannot be had → failureReason. Source: guide, workflows-run-errors; assumed (MISSING, BROKEN, UNREACHABLE)."""


class InvalidImageName(Exception):
    """No registry knows a name like this. The message says what is wrong with it."""


class ImageUnavailable(Exception):
    """The image cannot be had. `why` is a key of FAILURES; the message names the image and says what to do."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why

    @property
    def failure_reason(self) -> str:
        """In the API's words."""
        return FAILURES[self.why]


@dataclass(frozen=True, slots=True)
class Reference:
    """A name, taken apart. `registry` is a host with its port; `tag` is None when a digest is named alone."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None = None

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        return f"{self.registry}/{self.repository}{tag}" + ("" if self.digest is None else f"@{self.digest}")

    def at(self, digest: str) -> Reference:
        """The same repository at a digest, whatever the tag means today."""
        return replace(self, tag=None, digest=digest)

    @property
    def is_ecr(self) -> bool:
        """Whether it names a private repository of Amazon ECR."""
        return _ECR_HOST.fullmatch(self.registry) is not None


@dataclass(frozen=True, slots=True)
class ImageName:
    """What a task's image is called. `source` is set only where the workflow's map changed the name."""

    image: str
    location: Reference
    source: str | None = None


def parse(name: str) -> Reference:
    """Take a name apart as container tools do: no registry is Docker Hub, no tag is `latest`.

    Raises:
        InvalidImageName: it has not the shape of a name.
    """
    text = name.strip()
    for scheme in _SCHEMES:
        text = text.removeprefix(scheme)
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidImageName(f"{name!r}: {digest!r} is no digest, which looks like sha256:<64 hexadecimal digits>")
    first, slash, below = rest.partition("/")
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, rest = (first, below) if has_registry else (DOCKER_HUB, rest)
    repository, colon, tag = rest.partition(":")
    if not _HOST.fullmatch(registry):
        raise InvalidImageName(f"{name!r}: {registry!r} is no name of a registry")
    if not _REPOSITORY.fullmatch(repository):
        raise InvalidImageName(
            f"{name!r}: {repository!r} is no name of a repository (lower-case letters, digits, . _ - /)"
        )
    if colon and not _TAG.fullmatch(tag):
        raise InvalidImageName(f"{name!r}: {tag!r} is no tag")
    if registry in _DOCKER_HUB_NAMES:
        registry = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    return Reference(registry, repository, tag if colon else (None if at else "latest"), digest or None)


def name_image(
    name: str,
    *,
    registry_map: Mapping[str, Any] | None,
    image_map: Mapping[str, str],
    account: str,
    region: str,
    strict: bool = False,
) -> ImageName:
    """What `name` in a definition means: through the workflow's containerRegistryMap first, then through the operator's map.

    Source: guide, workflows-ecr (image mappings win over registry mappings; strict: only private ECR repositories).
    Deviation: unless `strict_images` is set, images of any registry are accepted, where HealthOmics accepts only private Amazon ECR.

    Raises:
        ImageUnavailable: INVALID.
    """
    try:
        mapped = _by_workflow(name, registry_map or {}, account=account, region=region)
        image = mapped or name
        reference = parse(image)
        if strict and not reference.is_ecr:
            raise InvalidImageName(f"{image!r} is not in a private Amazon ECR registry, and strict_images is set")
        return ImageName(image, _by_operator(reference, image_map), None if mapped is None else name)
    except InvalidImageName as error:
        raise ImageUnavailable(
            "INVALID",
            f"ECR image URI: {name} has an invalid structure. Provide a valid ECR image URI and retry. ({error})",
        ) from error


def _by_workflow(name: str, registry_map: Mapping[str, Any], *, account: str, region: str) -> str | None:
    """The name in the workflow's map, None when it has none for it."""
    try:
        wanted: Reference | None = parse(name)
    except InvalidImageName:
        wanted = None
    for mapping in _entries(registry_map, "imageMappings"):
        source, destination = mapping.get("sourceImage"), mapping.get("destinationImage")
        if source and destination and (source == name or (wanted is not None and _same(str(source), wanted))):
            return str(destination)
    if wanted is None:
        return None
    best: tuple[int, str] | None = None
    for mapping in _entries(registry_map, "registryMappings"):
        found = _through_registry(mapping, wanted, account=account, region=region)
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    return None if best is None else best[1]


def _through_registry(
    mapping: Mapping[str, Any], wanted: Reference, *, account: str, region: str
) -> tuple[int, str] | None:
    """How long the prefix is that matches, and the ECR name; None when the mapping is for others.

    Source: guide, workflows-ecr; observed (the file may say accountId for ecrAccountId).
    """
    upstream = str(mapping.get("upstreamRegistryUrl") or "")
    for scheme in _SCHEMES:
        upstream = upstream.removeprefix(scheme)
    upstream = upstream.rstrip("/")
    prefix = str(mapping.get("upstreamRepositoryPrefix") or "").strip("/")
    ecr_prefix = str(mapping.get("ecrRepositoryPrefix") or "").strip("/")
    if (DOCKER_HUB if upstream in _DOCKER_HUB_NAMES else upstream) != wanted.registry:
        return None
    repository = wanted.repository
    if prefix:
        if repository != prefix and not repository.startswith(prefix + "/"):
            return None
        repository = repository[len(prefix) :].lstrip("/")
    owner = mapping.get("ecrAccountId") or mapping.get("accountId") or account
    path = "/".join(part for part in (ecr_prefix, repository) if part)
    return len(prefix), str(replace(wanted, registry=f"{owner}.dkr.ecr.{region}.amazonaws.com", repository=path))


def _by_operator(reference: Reference, image_map: Mapping[str, str]) -> Reference:
    """Where the operator's map says to pull from: the longest key that the name begins with.

    A key may have `*` in its registry. A key without a registry (its first part has no dot and no colon) is about any ECR registry.
    An empty target leaves the name as it is.
    """
    best: tuple[int, str] | None = None
    for key, target in image_map.items():
        rest = _rest_behind(key, reference)
        if rest is not None and (best is None or len(key) > best[0]):
            best = (len(key), target + rest if target else "")
    return parse(best[1]) if best is not None and best[1] else reference


def _rest_behind(key: str, reference: Reference) -> str | None:
    """What follows `key` in the whole name; None when the name does not begin with it."""
    host, slash, prefix = key.partition("/")
    if not (slash and ("." in host or ":" in host or "*" in host or host == "localhost")):
        if not reference.is_ecr:
            return None
        prefix = key
    elif not fnmatch.fnmatchcase(reference.registry, host):
        return None
    path = str(replace(reference, registry=""))[1:]
    return path[len(prefix) :] if path.startswith(prefix) else None


def _entries(registry_map: Mapping[str, Any], member: str) -> Sequence[Mapping[str, Any]]:
    found = registry_map.get(member) or ()
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, Sequence) else ()


def _same(source: str, wanted: Reference) -> bool:
    try:
        return parse(source) == wanted
    except InvalidImageName:
        return False
