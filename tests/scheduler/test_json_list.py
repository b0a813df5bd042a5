"""The list of settings is read as json reads it, whatever its size and wherever the pieces end."""

from __future__ import annotations

import io
import json
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.scheduler import json_list
from runomics.scheduler.json_list import NotAList, elements


class Dribble(io.BytesIO):
    """Gives a few bytes at a time, whatever is asked for."""

    def __init__(self, data: bytes, at_once: int) -> None:
        super().__init__(data)
        self.at_once = at_once

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self.at_once)


def read(data: bytes, at_once: int = 1 << 20) -> list[dict[str, Any]]:
    file = cast("BinaryIO", Dribble(data, at_once))
    found = list(elements(file))
    assert [json.loads(text) for _, text in found] == [element for element, _ in found]
    return [element for element, _ in found]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text(max_size=5) | st.sampled_from([0.5, -1e30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    document=st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=5),
    at_once=st.integers(1, 40),
    is_ascii=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
)
def test_a_list_is_read_as_json_reads_it(
    document: list[dict[str, Any]], at_once: int, is_ascii: bool, indent: int | None
) -> None:
    data = json.dumps(document, ensure_ascii=is_ascii, indent=indent).encode()
    assert read(b" \r\n" + data + b"\t", at_once) == document


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   ",
        b"{}",
        b'{"runSettingId": "a"}',
        b"[",
        b"[{}",
        b"[{}}",
        b"[{},",
        b"[{},]",
        b"[,{}]",
        b"[{} {}]",
        b"[{}]]",
        b"[{}] {}",
        b"[[]]",
        b"[1]",
        b'["a"]',
        b"[null]",
        b'[{"a"}]',
        b'[{"a": }]',
        b'[{"a": NaN}]',
        b'[{"a": Infinity}]',
        b'[{"a": 01}]',
        b'[{"a": "\\ud800"}]',
        b"[{'a': 1}]",
        b'[{"a": "\x00"}]',
        b'[{"a": "\xff"}]',
        b"\xef\xbb\xbf[{}]",
        b'[{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}]",
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_list_of_objects_is_refused(data: bytes, at_once: int) -> None:
    with pytest.raises(NotAList):
        read(data, at_once)


def test_what_was_good_before_the_fault_has_been_given() -> None:
    found = elements(io.BytesIO(b'[{"a": 1}, {"b": 2}, oops]'))
    assert [next(found)[0], next(found)[0]] == [{"a": 1}, {"b": 2}]
    with pytest.raises(NotAList):
        next(found)


def test_an_element_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_list, "MAX_ELEMENT_CHARS", 1000)
    monkeypatch.setattr(json_list, "READ_BYTES", 100)
    file = io.BytesIO(b'[{"a": "' + b"x" * 100_000)
    with pytest.raises(NotAList):
        list(elements(file))
    assert file.tell() < 3000, "no more is read than it takes to see that it is too long"
