"""Rounding, memory units and instance types."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.resources import (
    ACCELERATORS,
    GPU_TYPES,
    InvalidMemory,
    instance_type,
    memory_bytes,
    round_resources,
    scratch_gib,
    whole_gib,
)

GIB = 1 << 30


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("cpus", "size_bytes", "rounded"),
    [
        (0, 0, (1, 1)),
        (0.5, 1, (1, 1)),
        (1.0, GIB, (1, 1)),
        (1.2, GIB + 1, (2, 2)),
        (16, 32 * GIB, (16, 32)),
        (2, 4_000_000_000, (2, 4)),
    ],
)
def test_cpus_and_memory_are_rounded_up_and_at_least_one(
    cpus: float, size_bytes: int, rounded: tuple[int, int]
) -> None:
    assert round_resources(cpus, size_bytes) == rounded


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("cpus", "memory_gib", "name"),
    [
        (1, 1, "omics.c.large"),
        (2, 5, "omics.m.large"),
        (1, 15, "omics.r.large"),
        (8, 64, "omics.r.2xlarge"),
        (16, 32, "omics.c.4xlarge"),
        (3, 1, "omics.c.xlarge"),
        (96, 800, "omics.r.32xlarge"),
        (192, 1536, "omics.r.48xlarge"),
        (193, 1, None),
        (1, 1537, None),
    ],
)
def test_the_smallest_type_that_fits_is_taken(cpus: int, memory_gib: int, name: str | None) -> None:
    assert instance_type(cpus, memory_gib) == name


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("cpus", "memory_gib", "accelerator", "count", "name"),
    [
        (4, 16, "nvidia-tesla-t4", 1, "omics.g4dn.xlarge"),
        (4, 17, "nvidia-tesla-a10g", 1, "omics.g5.2xlarge"),
        (1, 1, "nvidia-tesla-t4-a10g", 1, "omics.g4dn.xlarge"),
        (1, 1, "nvidia-t4-a10g-l4", 1, "omics.g6.xlarge"),
        (1, 1, "nvidia-l4-a10g", 4, "omics.g6.12xlarge"),
        (90, 1, "nvidia-tesla-t4-a10g", 1, "omics.g5.24xlarge"),
        (1, 1, "nvidia-l40s", 2, "omics.g6e.12xlarge"),
        (90, 1, "nvidia-tesla-t4", 1, None),
        (1, 1, "nvidia-l4", 5, None),
        (1, 1, "nvidia-unheard-of", 1, None),
        (1, 1, None, 1, "omics.g4dn.xlarge"),
    ],
)
def test_accelerators_take_the_smallest_of_their_families(
    cpus: int, memory_gib: int, accelerator: str | None, count: int, name: str | None
) -> None:
    assert instance_type(cpus, memory_gib, accelerator, count) == name


def test_every_accelerator_names_families_that_exist() -> None:
    assert {family for families in ACCELERATORS.values() for family in families} == set(GPU_TYPES)


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4 GB", 4_000_000_000),
        ("4 GiB", 4 * GIB),
        ("4G", 4_000_000_000),
        ("512MiB", 512 << 20),
        ("1.5 GiB", 3 * GIB // 2),
        ("1024", 1024),
        (" 2 tib ", 2 << 40),
        (".5 KiB", 512),
        ("0.3 B", 1),
    ],
)
def test_memory_is_read_with_decimal_and_binary_units(text: str, size_bytes: int) -> None:
    assert memory_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "GB", "four GB", "4 PB", "-1 GB", "1e3", "4 GB GB", "."])
def test_memory_that_cannot_be_read_says_how_to_write_it(text: str) -> None:
    with pytest.raises(InvalidMemory, match="write a number and B, KB"):
        memory_bytes(text)


@given(st.integers(1, 192), st.integers(1, 1536))
def test_a_type_that_is_found_holds_the_task(cpus: int, memory_gib: int) -> None:
    sizes = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32, "12xlarge": 48, "16xlarge": 64}
    sizes |= {"24xlarge": 96, "32xlarge": 128, "48xlarge": 192}
    name = instance_type(cpus, memory_gib)
    assert name is not None
    _, family, size = name.split(".")
    assert sizes[size] >= cpus
    assert sizes[size] * {"c": 2, "m": 4, "r": 8}[family] >= memory_gib


@pytest.mark.source("guide")
@pytest.mark.parametrize(("gib", "size"), [(0, 16), (1, 16), (16, 16), (17, 32), (3072, 3072), (4000, 3072)])
def test_local_scratch_comes_in_steps_of_16_gib(gib: int, size: int) -> None:
    assert scratch_gib(gib * GIB) == size


def test_bytes_in_whole_gib_are_never_less() -> None:
    assert [whole_gib(size) for size in (0, 1, GIB, GIB + 1)] == [1, 1, 1, 2]
