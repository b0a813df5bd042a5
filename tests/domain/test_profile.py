"""What a task asks to run with, and why no instance type or fallback list holds it."""

from __future__ import annotations

import pytest

from runomics.domain.profile import Profile, refused_order
from runomics.domain.resources import GIB

GPU = Profile(4, 16 * GIB, "nvidia-l4", 1, 1200)
CPU = Profile(8, 32 * GIB, wait_seconds=1200)


@pytest.mark.source("guide")
def test_a_profile_is_rounded_up_and_finds_its_instance_type() -> None:
    odd = Profile(1.2, 4 * GIB + 1)
    assert (odd.rounded, odd.instance_type, odd.resource_type) == ((2, 5), "omics.m.large", "cpu")
    assert (GPU.rounded, GPU.instance_type, GPU.resource_type) == ((4, 16), "omics.g6.xlarge", "nvidia-l4")
    assert Profile(0, 0).rounded == (1, 1)


@pytest.mark.source("guide")
def test_what_is_larger_than_any_instance_is_an_invalid_value() -> None:
    for profile in (
        Profile(193),
        Profile(1, 1537 * GIB),
        Profile(1, GIB, "nvidia-l4", 5),
        Profile(97, GIB, "nvidia-l4", 1),
    ):
        refusal = profile.refusal()
        assert refusal is not None
        assert refusal.code == "INVALID_TASK_RESOURCE_VALUE"
    assert Profile(192, 1536 * GIB).refusal() is None


@pytest.mark.source("guide")
def test_an_accelerator_nobody_knows_is_unsupported_and_the_known_ones_are_listed() -> None:
    refusal = Profile(1, GIB, "nvidia-h100", 1).refusal()
    assert refusal is not None
    assert refusal.code == "UNSUPPORTED_GPU_INSTANCE_TYPE"
    assert "nvidia-l40s, nvidia-t4-a10g-l4, nvidia-tesla-a10g" in refusal.message


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("profiles", "why"),
    [
        ((), None),
        ((GPU, CPU), None),
        ((GPU,) * 10, None),
        ((GPU,) * 11, "11 fallback profiles were given; at most 10 may be"),
        ((CPU, GPU), "the fallback profile without accelerators must be the last"),
        ((CPU, CPU), "only one fallback profile may be without accelerators"),
    ],
)
def test_a_fallback_list_has_rules(profiles: tuple[Profile, ...], why: str | None) -> None:
    assert refused_order(profiles) == why
