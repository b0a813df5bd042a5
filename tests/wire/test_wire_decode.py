"""Where each part of an input comes from, and what cannot come from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from runomics.wire.codec import Routes, compile_operations, target_path
from runomics.wire.model import ServiceModel
from runomics.wire.patterns import matcher

OPERATIONS = compile_operations(ServiceModel.load())
ROUTES = Routes(OPERATIONS)


def decoded(method: str, path: bytes, query: bytes = b"", body: bytes = b"") -> tuple[str, dict[str, Any]]:
    operation, segments = ROUTES.match(method, path)
    assert operation is not None
    return operation.name, operation.decode(segments, query, body)


@pytest.mark.source("model")
def test_the_body_never_speaks_for_the_path_or_the_query() -> None:
    assert decoded("POST", b"/runGroup/7", b"", b'{"id":"8","name":"n"}') == (
        "UpdateRunGroup",
        {"id": "7", "name": "n"},
    )
    body = b'{"maxResults":5,"nextToken":"t","resourceOwner":"SELF"}'
    assert decoded("POST", b"/shares", b"maxResults=3", body) == (
        "ListShares",
        {"maxResults": 3, "resourceOwner": "SELF"},
    )


@pytest.mark.source("model")
def test_an_operation_whose_input_has_no_body_does_not_read_one() -> None:
    assert decoded("GET", b"/run/7", b"", b"no JSON at all") == ("GetRun", {"id": "7"})


def test_query_names_and_values_are_decoded_and_the_last_of_a_single_value_counts() -> None:
    query = b"name=a+b%20c%2B&status=FAILED&st%61tus=RUNNING&unknown=1&&maxResults=-1"
    assert decoded("GET", b"/run", query) == ("ListRuns", {"name": "a b c+", "status": "RUNNING", "maxResults": -1})


def test_a_repeated_parameter_is_a_list_in_its_order() -> None:
    name, request = decoded("DELETE", b"/tags/arn%3Aaws%3Aomics%3A%3A%3Arun%2F1", b"tagKeys=b&tagKeys=a&tagKeys=")
    assert (name, request) == ("UntagResource", {"resourceArn": "arn:aws:omics:::run/1", "tagKeys": ["b", "a", ""]})


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/run", b"/run"),
        (b"http://workflows-omics.example:8080/run/1", b"/run/1"),
        (b"https://omics.example", b"/"),
        (b"/run/http://x", b"/run/http://x"),
        (b"*", b"*"),
    ],
)
def test_scheme_and_host_of_a_target_are_cut_off(target: bytes, path: bytes) -> None:
    assert target_path(target) == path


@pytest.mark.source("assumed")
def test_word_characters_of_the_models_patterns_are_ascii() -> None:
    """The model is written for Java, where they are."""
    matches = matcher(r"arn:aws(-[\w]+)*:.+:.+:[0-9]{12}:.+")
    assert matches("arn:aws-cn:s:r:123456789012:x")
    assert not matches("arn:aws-çn:s:r:123456789012:x")
