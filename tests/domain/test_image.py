"""Names of images: their parts, and what a workflow's and an operator's maps make of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.image import (
    CONVENTIONAL_IMAGE_MAP,
    FAILURES,
    ImageUnavailable,
    InvalidImageName,
    Reference,
    name_image,
    parse,
)

DIGEST = "sha256:" + "0123456789abcdef" * 4
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ubuntu", ("docker.io", "library/ubuntu", "latest", None)),
        ("ubuntu:20.04", ("docker.io", "library/ubuntu", "20.04", None)),
        ("biocontainers/samtools:v1.9-4-deb_cv1", ("docker.io", "biocontainers/samtools", "v1.9-4-deb_cv1", None)),
        ("registry-1.docker.io/library/ubuntu", ("docker.io", "library/ubuntu", "latest", None)),
        ("quay.io/biocontainers/bwa:0.7.17--h5bf99c6_8", ("quay.io", "biocontainers/bwa", "0.7.17--h5bf99c6_8", None)),
        ("docker://quay.io/lab/x", ("quay.io", "lab/x", "latest", None)),
        ("localhost/lab/x", ("localhost", "lab/x", "latest", None)),
        ("localhost:5000/x:1", ("localhost:5000", "x", "1", None)),
        ("[::1]:5000/x:1", ("[::1]:5000", "x", "1", None)),
        ("127.0.0.1:5000/a/b/c@" + DIGEST, ("127.0.0.1:5000", "a/b/c", None, DIGEST)),
        ("ubuntu:22.04@" + DIGEST, ("docker.io", "library/ubuntu", "22.04", DIGEST)),
        (f"{ECR}/lab/tools:1", (ECR, "lab/tools", "1", None)),
    ],
)
def test_a_name_has_the_parts_that_container_tools_see_in_it(name: str, parts: tuple[Any, ...]) -> None:
    found = parse(name)
    assert (found.registry, found.repository, found.tag, found.digest) == parts
    assert parse(str(found)) == found


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "Ubuntu",
        "x:",
        "x/",
        "/x",
        "x//y",
        "x@sha256:12",
        "x:a b",
        "quay.io/",
        "-x",
        "x --tls",
        "a..b/c",
        "quay.io/x:" + "t" * 129,
        "x@",
    ],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidImageName):
        parse(name)


@given(st.text(max_size=60))
def test_any_text_is_a_name_that_reads_back_the_same_or_is_refused(text: str) -> None:
    try:
        found = parse(text)
    except InvalidImageName:
        return
    assert parse(str(found)) == found
    assert not str(found).startswith("-")


def test_a_digest_takes_the_place_of_a_tag() -> None:
    assert parse("quay.io/lab/x:1").at(DIGEST) == Reference("quay.io", "lab/x", None, DIGEST)


def named(
    name: str, registry_map: dict[str, Any] | None = None, image_map: dict[str, str] | None = None, **more: Any
) -> tuple[str, str, Any]:
    found = name_image(
        name, registry_map=registry_map, image_map=image_map or {}, account="123456789012", region="us-east-1", **more
    )
    return found.image, str(found.location), found.source


QUAY = {"upstreamRegistryUrl": "quay.io", "ecrRepositoryPrefix": "quay"}
HUB = {"upstreamRegistryUrl": "registry-1.docker.io", "ecrRepositoryPrefix": "docker-hub"}


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("name", "mapping", "image"),
    [
        ("quay.io/lab/x:1", QUAY, f"{ECR}/quay/lab/x:1"),
        ("quay.io/lab/x@" + DIGEST, QUAY, f"{ECR}/quay/lab/x@{DIGEST}"),
        ("quay.io/lab/x:1", {**QUAY, "upstreamRegistryUrl": "https://quay.io/"}, f"{ECR}/quay/lab/x:1"),
        ("ubuntu:20.04", HUB, f"{ECR}/docker-hub/library/ubuntu:20.04"),
        ("quay.io/lab/x:1", {**QUAY, "ecrAccountId": "210987654321"}, f"210987654321{ECR[12:]}/quay/lab/x:1"),
        ("quay.io/lab/x:1", {**QUAY, "upstreamRepositoryPrefix": "lab"}, f"{ECR}/quay/x:1"),
    ],
)
def test_a_registry_mapping_makes_an_ecr_name(name: str, mapping: dict[str, Any], image: str) -> None:
    assert named(name, {"registryMappings": [mapping]}) == (image, image, name)


@pytest.mark.parametrize(
    "mapping",
    [
        QUAY,
        {**HUB, "upstreamRepositoryPrefix": "lab"},
        {},
        {"upstreamRegistryUrl": None},
        {"ecrRepositoryPrefix": "quay"},
    ],
)
def test_other_names_stay_as_they_are(mapping: dict[str, Any]) -> None:
    assert named("ubuntu:1", {"registryMappings": [mapping]}) == ("ubuntu:1", "docker.io/library/ubuntu:1", None)


@pytest.mark.source("guide")
def test_an_image_mapping_wins_over_a_registry_mapping() -> None:
    registry_map = {
        "registryMappings": [QUAY],
        "imageMappings": [{"sourceImage": "quay.io/lab/x:1", "destinationImage": f"{ECR}/mine:2"}],
    }
    assert named("quay.io/lab/x:1", registry_map)[0] == f"{ECR}/mine:2"
    assert named("quay.io/lab/x:2", registry_map)[0] == f"{ECR}/quay/lab/x:2"


def test_an_image_mapping_may_spell_the_name_in_another_way() -> None:
    registry_map = {
        "imageMappings": [{"sourceImage": "docker.io/library/ubuntu:latest", "destinationImage": f"{ECR}/u:1"}]
    }
    assert named("ubuntu", registry_map) == (f"{ECR}/u:1", f"{ECR}/u:1", "ubuntu")


@pytest.mark.parametrize(
    ("name", "image_map", "location"),
    [
        (f"{ECR}/quay/lab/x:1", CONVENTIONAL_IMAGE_MAP, "quay.io/lab/x:1"),
        (f"{ECR}/docker-hub/library/ubuntu:1", CONVENTIONAL_IMAGE_MAP, "docker.io/library/ubuntu:1"),
        (f"{ECR}/ecr-public/lab/x@" + DIGEST, CONVENTIONAL_IMAGE_MAP, "public.ecr.aws/lab/x@" + DIGEST),
        (f"{ECR}/quay/lab/x:1", {**CONVENTIONAL_IMAGE_MAP, "quay/lab/": "localhost:5000/"}, "localhost:5000/x:1"),
        (f"{ECR}/quay/lab/x:1", {**CONVENTIONAL_IMAGE_MAP, "quay/": ""}, f"{ECR}/quay/lab/x:1"),
        (f"{ECR}/own/x:1", CONVENTIONAL_IMAGE_MAP, f"{ECR}/own/x:1"),
        ("quay.io/quay/x:1", CONVENTIONAL_IMAGE_MAP, "quay.io/quay/x:1"),
        ("quay.io/lab/x:1", {"quay.io/": "localhost:5000/mirror/"}, "localhost:5000/mirror/lab/x:1"),
        (f"{ECR}/x:1", {"*.dkr.ecr.*.amazonaws.com/": "localhost:5000/"}, "localhost:5000/x:1"),
    ],
)
def test_the_operators_map_says_where_to_pull_from_and_changes_nothing_that_is_shown(
    name: str, image_map: dict[str, str], location: str
) -> None:
    assert named(name, None, dict(image_map)) == (name, location, None)


@pytest.mark.source("guide")
def test_strict_servers_refuse_what_is_not_private_ecr_after_mapping() -> None:
    assert named("quay.io/x:1", {"registryMappings": [QUAY]}, strict=True)[0] == f"{ECR}/quay/x:1"
    with pytest.raises(ImageUnavailable, match="has an invalid structure") as refused:
        named("quay.io/x:1", strict=True)
    assert refused.value.failure_reason == "INVALID_ECR_IMAGE_URI"


def test_every_way_to_fail_has_a_reason_of_the_api() -> None:
    for why, reason in FAILURES.items():
        assert ImageUnavailable(why, "x").failure_reason == reason
        assert len(reason) <= 64
