"""Which objects parameters name: by the declared types, and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.inputs import InputUri, InvalidInput, input_uris, parse_input, split_s3, staged_path


def inputs(**types: str) -> list[dict[str, Any]]:
    """The inputs of an interface.json; `wf__x` stands for wf.x."""
    words = ("File", "Directory", "Sample", "Any")
    return [
        {"name": name.replace("__", "."), "type": text, "files": any(word in text for word in words)}
        for name, text in types.items()
    ]


def found(parameters: dict[str, Any], **types: str) -> list[str]:
    return [item.uri for item in input_uris(parameters, inputs(**types))]


@pytest.mark.source("guide")
def test_a_string_parameter_is_never_staged_whatever_it_says() -> None:
    assert found({"text": "s3://data/a", "n": 3}, text="String", n="Int") == []


def test_a_parameter_that_the_workflow_does_not_declare_is_not_looked_at() -> None:
    assert found({"other": "s3://data/a"}, reads="File") == []


@pytest.mark.parametrize(
    ("type_text", "value", "uris"),
    [
        ("File", "s3://data/a", ["s3://data/a"]),
        ("File?", None, []),
        ("Array[File]", ["s3://data/a", "s3://data/b"], ["s3://data/a", "s3://data/b"]),
        ("Array[Array[File]+]?", [["s3://data/a"], [], ["s3://data/b"]], ["s3://data/a", "s3://data/b"]),
        ("File[]", ["s3://data/a"], ["s3://data/a"]),
        ("Map[String, File]", {"s3://no/key": "s3://data/a"}, ["s3://data/a"]),
        ("Map[String,Pair[String,File]]", {"k": {"left": "s3://no/left", "right": "s3://data/a"}}, ["s3://data/a"]),
        ("Pair[File, Array[File]]", {"Left": "s3://data/a", "RIGHT": ["s3://data/b"]}, ["s3://data/a", "s3://data/b"]),
        ("Directory", "s3://data/ref/", ["s3://data/ref/"]),
        ("Sample", {"bam": "s3://data/a", "name": "x", "site": "https://no.where"}, ["s3://data/a"]),
        ("Sample", {"target": "s3://data/results/"}, []),
        ("Any", {"a": [1, {"b": "s3://data/a"}]}, ["s3://data/a"]),
        (
            "File",
            {
                "class": "File",
                "location": "s3://data/a",
                "secondaryFiles": [{"class": "File", "path": "s3://data/a.bai"}],
            },
            ["s3://data/a", "s3://data/a.bai"],
        ),
    ],
)
def test_files_are_found_where_the_type_has_them(type_text: str, value: Any, uris: list[str]) -> None:
    assert found({"x": value}, x=type_text) == uris


@pytest.mark.parametrize(
    ("given_name", "declared"), [("reads", "reads"), ("wf.reads", "reads"), ("reads", "wf__reads")]
)
def test_a_parameter_may_be_called_by_its_bare_or_its_full_name(given_name: str, declared: str) -> None:
    assert found({given_name: "s3://data/a"}, **{declared: "File"}) == ["s3://data/a"]


def test_order_is_that_of_the_parameters_and_each_uri_comes_once() -> None:
    parameters = {"z": ["s3://data/2", "s3://data/1"], "a": "s3://data/2", "m": "s3://data/0"}
    assert found(parameters, a="File", z="Array[File]", m="File") == ["s3://data/2", "s3://data/1", "s3://data/0"]


def test_a_uri_is_declared_when_any_position_says_so() -> None:
    parameters = {"s": {"bam": "s3://data/a"}, "f": "s3://data/a"}
    assert input_uris(parameters, inputs(s="Sample", f="File")) == [InputUri("s3://data/a", "data", "a", False, True)]
    assert input_uris({"s": {"bam": "s3://data/a"}}, inputs(s="Sample")) == [
        InputUri("s3://data/a", "data", "a", False, False)
    ]


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    "value",
    [
        "https://example.org/a",
        "ftp://example.org/a",
        "file:///etc/passwd",
        "/etc/passwd",
        "a.bam",
        "",
        "omics://123456789012.storage.us-east-1.amazonaws.com/1234567890/readSet/1234567890",
        "s3://",
        "s3:///key",
        "s3://data",
        "s3://data/",
        "s3://da ta/key",
        "s3://data/" + "k" * 1025,
        "s3://data/nul\0",
        "s3://data/folder/",
    ],
)
def test_what_no_run_can_read_is_an_invalid_uri(value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        input_uris({"x": [value]}, inputs(x="Array[File]"))
    assert caught.value.reason == "INVALID_URI_INPUT"
    assert value[:20] in str(caught.value) or repr(value)[1:20] in str(caught.value)


@pytest.mark.source("guide")
def test_a_trailing_slash_names_everything_below() -> None:
    assert parse_input("s3://data/ref/") == InputUri("s3://data/ref/", "data", "ref/", True)
    assert parse_input("s3://data/ref", directory=True) == InputUri("s3://data/ref", "data", "ref", True)
    assert parse_input("s3://data/ref") == InputUri("s3://data/ref", "data", "ref", False)


@given(st.text(max_size=40))
def test_any_text_as_a_type_is_read_or_taken_as_unknown(text: str) -> None:
    assert [
        item.uri for item in input_uris({"x": {"y": "s3://data/a"}}, [{"name": "x", "type": text, "files": True}])
    ] in (
        [],
        ["s3://data/a"],
    )


_KEYS = st.lists(
    st.sampled_from(["a", "b", "", ".", "..", "%2F", "%2E", "%252F", "%2E%2E", "x%2F"]), min_size=1, max_size=4
)


@given(_KEYS, _KEYS)
def test_two_keys_never_share_a_staged_path(first: list[str], second: list[str]) -> None:
    keys = "/".join(first), "/".join(second)
    paths = [staged_path("data", key) for key in keys]
    same = keys[0].removesuffix("/") == keys[1].removesuffix("/")
    assert (paths[0] == paths[1]) == same
    for path in paths:
        assert path.startswith("s3/data")
        assert not {"", ".", ".."} & set(path.split("/"))


def test_a_key_may_hold_anything_but_a_nul() -> None:
    assert split_s3("s3://data/a//b?c#d/../é ") == ("data", "a//b?c#d/../é ")
