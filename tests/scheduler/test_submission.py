"""A submit line of an engine: nothing in it is trusted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.scheduler.submission import InvalidSubmission, Submission, beneath, parse

GOOD = {
    "op": "submit",
    "key": "call-align-3",
    "attempt": 1,
    "name": "align-3",
    "argv": ["/bin/bash", "/mnt/workflow/u/workdir/call-align-3/command"],
    "cwd": "/mnt/workflow/u/workdir/call-align-3/work",
    "stdin": None,
    "stdout": "/mnt/workflow/u/workdir/call-align-3/stdout.txt",
    "stderr": "/mnt/workflow/u/workdir/call-align-3/stderr.txt",
    "env": {"A": "b"},
    "image": None,
    "cpus": 1.5,
    "memory_bytes": 1024,
    "disk_bytes": 0,
    "accelerators": {"type": "nvidia-tesla-t4", "count": 1},
    "timeout_seconds": 60,
    "network": False,
}


def test_a_good_line_is_kept_as_it_is() -> None:
    assert parse(GOOD) == Submission(
        key="call-align-3",
        attempt=1,
        name="align-3",
        argv=("/bin/bash", "/mnt/workflow/u/workdir/call-align-3/command"),
        cwd="/mnt/workflow/u/workdir/call-align-3/work",
        stdin=None,
        stdout="/mnt/workflow/u/workdir/call-align-3/stdout.txt",
        stderr="/mnt/workflow/u/workdir/call-align-3/stderr.txt",
        env={"A": "b"},
        cpus=1.5,
        memory_bytes=1024,
        accelerator_type="nvidia-tesla-t4",
        accelerator_count=1,
        timeout_seconds=60,
    )


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("cwd", "/etc"),
        ("cwd", "/mnt/workflow/../../etc"),
        ("cwd", None),
        ("stdout", "/mnt/workflowed/x"),
        ("stderr", "relative"),
        ("stdin", "/mnt/workflow/\0"),
        ("argv", []),
        ("argv", "bash"),
        ("argv", ["bash", 1]),
        ("argv", ["x"] * 1000),
        ("attempt", 0),
        ("attempt", True),
        ("key", ""),
        ("key", "k" * 2000),
        ("env", {"A=B": "c"}),
        ("env", {"A": 1}),
        ("cpus", float("inf")),
        ("cpus", -1),
        ("memory_bytes", "1 GiB"),
        ("accelerators", [1]),
    ],
)
def test_a_bad_member_is_refused(member: str, value: Any) -> None:
    with pytest.raises(InvalidSubmission):
        parse({**GOOD, member: value})


@given(st.text())
def test_a_path_that_passes_lies_beneath_the_volume(path: str) -> None:
    try:
        relative = beneath(path)
    except InvalidSubmission:
        return
    assert not relative.startswith(("/", ".."))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON))
def test_any_line_is_parsed_or_refused(changes: dict[str, Any]) -> None:
    try:
        parse({**GOOD, **changes})
    except InvalidSubmission:
        return
