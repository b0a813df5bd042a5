"""Sentences of refusals, bounds of what they repeat, and the time a refusal may take."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
import regex

from runomics.wire.errors import SerializationException, ValidationException
from runomics.wire.model import ServiceModel
from runomics.wire.patterns import matcher
from runomics.wire.validate import Compiler, Violations

MODEL = ServiceModel.load()

SHAPES: dict[str, dict[str, Any]] = {
    "Word": {"type": "string", "min": 2, "max": 4, "pattern": "[a-z]+"},
    "Words": {"type": "list", "member": {"shape": "Word"}, "min": 1, "max": 2},
    "Count": {"type": "integer", "min": 1, "max": 5},
    "Free": {"type": "structure", "members": {}, "document": True},
    "Item": {
        "type": "structure",
        "required": ["word"],
        "members": {"word": {"shape": "Word"}, "count": {"shape": "Count"}},
    },
    "Items": {"type": "list", "member": {"shape": "Item"}},
    "Book": {"type": "map", "key": {"shape": "Word"}, "value": {"shape": "Item"}, "max": 2},
    "Tags": {"type": "map", "key": {"shape": "Word"}, "value": {"shape": "Word"}},
    "Either": {"type": "structure", "union": True, "members": {"a": {"shape": "Word"}, "b": {"shape": "Count"}}},
    "Tree": {"type": "structure", "members": {"word": {"shape": "Word"}, "below": {"shape": "Trees"}}},
    "Trees": {"type": "list", "member": {"shape": "Tree"}},
    "Whole": {
        "type": "structure",
        "members": {
            name.lower(): {"shape": name}
            for name in ("Word", "Words", "Items", "Book", "Tags", "Either", "Tree", "Free")
        },
    },
}
NOT_A_WORD = "Member must satisfy regular expression pattern: [a-z]+"
CHECK = Compiler(SHAPES).check("Whole")


def refusal(value: Any) -> str:
    violations = Violations()
    CHECK(value, "", violations)
    return violations.error().message


@pytest.mark.source("observed")
@pytest.mark.parametrize(
    ("value", "shown", "path", "constraint"),
    [
        ({"word": "abcde"}, "'abcde'", "word", "Member must have length less than or equal to 4"),
        ({"words": ["ab", "x"]}, "'x'", "words.2.member", "Member must have length greater than or equal to 2"),
        ({"words": []}, "'[]'", "words", "Member must have length greater than or equal to 1"),
        ({"words": ["ab", "cd", "ef"]}, "'[ab, cd, ef]'", "words", "Member must have length less than or equal to 2"),
        ({"words": [None]}, "null", "words.1.member", "Member must not be null"),
        ({"items": [{"word": "ab"}, {"count": 2}]}, "null", "items.2.member.word", "Member must not be null"),
        (
            {"items": [{"word": "ab", "count": 9}]},
            "'9'",
            "items.1.member.count",
            "Member must have value less than or equal to 5",
        ),
        (
            {"items": [{"word": "ab", "count": 0}]},
            "'0'",
            "items.1.member.count",
            "Member must have value greater than or equal to 1",
        ),
        ({"book": {"ab": {"word": "A!"}}}, "'A!'", "book.ab.member.word", NOT_A_WORD),
        ({"tags": {"ab": "A!"}}, "'A!'", "tags.ab", NOT_A_WORD),
        (
            {"tags": {"A": "ab"}},
            "'A'",
            "tags",
            f"Map keys must satisfy constraint: [Member must have length greater than or equal to 2, {NOT_A_WORD}]",
        ),
        (
            {"either": {"a": "ab", "b": 1}},
            "'{a=ab, b=1}'",
            "either",
            "Member must have exactly one member set of: [a, b]",
        ),
        ({"either": {}}, "'{}'", "either", "Member must have exactly one member set of: [a, b]"),
        (
            {"tree": {"below": [{"below": [{"word": "!!"}]}]}},
            "'!!'",
            "tree.below.1.member.below.1.member.word",
            NOT_A_WORD,
        ),
    ],
)
def test_each_broken_constraint_has_its_sentence(value: Any, shown: str, path: str, constraint: str) -> None:
    sentence = f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"
    assert refusal(value) == f"1 validation error detected: {sentence}"


@pytest.mark.source("observed")
def test_several_are_counted_and_joined() -> None:
    message = refusal({"word": "A", "tags": {"ab": ""}})
    assert message.startswith(
        "4 validation errors detected: Value 'A' at 'word' failed to satisfy constraint: Member must"
    )
    assert message.count("; Value '") == 3


def test_unknown_and_null_members_are_dropped() -> None:
    violations = Violations()
    value = {
        "word": None,
        "other": 1,
        "items": [{"word": "ab", "count": None, "x": {}}],
        "tags": {"ab": None, "cd": "ef"},
    }
    assert CHECK(value, "", violations) == {"items": [{"word": "ab"}], "tags": {"cd": "ef"}}
    assert violations.count == 0


@pytest.mark.source("observed")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"word": 1}, "NUMBER_VALUE can not be converted to a String at 'word'"),
        ({"word": 1.5}, "NUMBER_VALUE can not be converted to a String at 'word'"),
        ({"word": True}, "TRUE_VALUE can not be converted to a String at 'word'"),
        ({"word": {}}, "START_OBJECT can not be converted to a String at 'word'"),
        ({"words": "ab"}, "STRING_VALUE can not be converted to a List at 'words'"),
        ({"tags": []}, "START_ARRAY can not be converted to a Map at 'tags'"),
        (
            {"items": [{"word": "ab", "count": "1"}]},
            "STRING_VALUE can not be converted to an Integer at 'items.1.member.count'",
        ),
        ({"tree": False}, "FALSE_VALUE can not be converted to a Structure at 'tree'"),
    ],
)
def test_a_wrong_json_type_is_refused_before_any_constraint(value: Any, message: str) -> None:
    with pytest.raises(SerializationException) as refused:
        CHECK({"word": "!!!!!!!!", **value}, "", Violations())
    assert refused.value.message == message


def test_a_long_value_is_repeated_in_part() -> None:
    message = refusal({"word": "x" * 10_000})
    assert f"Value '{'x' * 128}...' at 'word'" in message
    assert len(refusal({"words": ["ab"] * 50_000})) < 400
    keys = map("".join, itertools.product("abcdefghij", repeat=4))
    assert len(refusal({"book": {key: {"word": "ab"} for key in keys}})) < 400


def test_fifty_are_named_and_all_are_counted() -> None:
    message = refusal({"items": [{}] * 70})
    assert message.startswith("70 validation errors detected: ")
    assert message.count("Member must not be null") == 50
    assert message.endswith("; 20 more")


def test_documents_may_be_a_hundred_levels_deep_and_no_deeper() -> None:
    value: Any = "leaf"
    for _ in range(100):
        value = {"x": value}
    violations = Violations()
    assert CHECK({"free": value}, "", violations) == {"free": value}
    assert violations.count == 0
    assert refusal({"free": [value]}).endswith("Member must be nested at most 100 levels deep")


@pytest.mark.source("model")
@pytest.mark.parametrize("pattern", sorted({shape["pattern"] for shape in MODEL.shapes.values() if "pattern" in shape}))
def test_the_ascii_shortcut_decides_as_the_whole_pattern_does(pattern: str) -> None:
    full = regex.compile(pattern, regex.ASCII if "\\p" not in pattern else 0).fullmatch
    texts = [chr(code) for code in [*range(256), 0x378, 0x5B57, 0x200B, 0x2028, 0xD7FF, 0xE000, 0x1F600, 0x10FFFF]]
    texts += [first + second for first in texts[30:130] for second in ("a", "é", "\n", "|")]
    assert [text for text in texts if bool(matcher(pattern)(text)) != bool(full(text))] == []


@pytest.mark.source("model")
@pytest.mark.parametrize("operation", sorted(MODEL.operations))
def test_no_text_takes_long_to_be_refused(operation: str) -> None:
    """Texts that make patterns try every cut: each member of each operation, at eight megabytes."""
    compiler = Compiler(MODEL.shapes)
    members = MODEL.shapes[str(MODEL.operations[operation].input_shape)].get("members", {})
    texts = [piece * (8_000_000 // len(piece)) + "\n" for piece in ("/", "a", "-a", "arn:aws:", "s3://a/", ":")]
    for member in members.values():
        shape = MODEL.shapes[member["shape"]]
        if shape["type"] != "string" or "enum" in shape:
            continue
        longest = shape.get("max", 2048)
        for text in texts:
            for tried in (text, text[: longest - 1] + "\n"):
                began = time.thread_time()
                compiler.check(member["shape"])(tried, "x", Violations())
                assert time.thread_time() - began < 0.1, (member["shape"], tried[:10])


def test_a_refusal_is_an_exception_of_the_api() -> None:
    violations = Violations()
    violations.add(None, "a", "Member must not be null")
    assert isinstance(violations.error(), ValidationException)
