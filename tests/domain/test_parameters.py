"""Templates derived from definitions, and whether a run's parameters fit them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.parameters import Signature, derive_template, disagreements, signature

WANTED = signature({"reads": {"description": "x"}, "threads": {"optional": True}, "name": {"optional": False}})


@pytest.mark.source("model")
def test_an_entry_is_required_unless_it_says_optional() -> None:
    assert Signature(names=frozenset({"reads", "threads", "name"}), required=frozenset({"reads", "name"})) == WANTED


@pytest.mark.source("guide")
def test_a_template_has_the_inputs_names_descriptions_and_what_is_optional() -> None:
    inputs = [
        {"name": "reads", "type": "File", "optional": False, "description": "Paired\n\treads "},
        {"name": "threads", "type": "Int?", "optional": True, "description": ""},
        {"name": "outdir", "type": "string", "optional": False, "description": None},
    ]
    assert derive_template(inputs) == {
        "reads": {"description": "Paired reads"},
        "threads": {"description": "", "optional": True},
        "outdir": {},
    }


@pytest.mark.source("model")
def test_a_derived_description_is_cut_to_what_the_api_carries() -> None:
    template = derive_template([{"name": "x", "optional": False, "description": "a\0" + "é" * 300}])
    assert template == {"x": {"description": "a " + "é" * 254}}


@pytest.mark.source("model")
def test_parameters_that_fit_have_nothing_wrong() -> None:
    assert disagreements(WANTED, ["reads", "name"]) is None
    assert disagreements(WANTED, ["reads", "name", "threads"]) is None


@pytest.mark.source("model")
def test_everything_wrong_is_told_at_once() -> None:
    assert disagreements(WANTED, ["threads", "colour", "shape"]) == (
        "Missing required parameters: name, reads. Parameters that the template does not define: colour, shape."
    )


@pytest.mark.source("guide")
def test_names_may_be_qualified_with_the_workflows_own_name_on_either_side() -> None:
    assert disagreements(WANTED, ["Align.reads", "name"], "Align") is None
    assert disagreements(signature({"Align.reads": {}}), ["reads"], "Align") is None
    assert disagreements(signature({"Align.reads": {}}), ["Align.reads"], "Align") is None


def test_another_workflows_name_does_not_qualify() -> None:
    assert disagreements(WANTED, ["Other.reads", "reads", "name"], "Align") == (
        "Parameters that the template does not define: Other.reads."
    )
    assert disagreements(WANTED, ["Align.reads", "reads", "name"], "") == (
        "Parameters that the template does not define: Align.reads."
    )


def test_a_parameter_may_not_be_given_in_both_forms() -> None:
    assert disagreements(WANTED, ["Align.reads", "reads", "name"], "Align") == (
        "Parameters given twice: 'Align.reads' and 'reads'."
    )


@given(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_names_fit_exactly_when_all_required_are_there_and_none_is_undefined(
    names: set[str], required: set[str], given_names: set[str]
) -> None:
    wanted = Signature(names=frozenset(names | required), required=frozenset(required))
    fits = required <= given_names <= names | required
    assert (disagreements(wanted, given_names) is None) is fits
    assert (disagreements(wanted, [f"W.{name}" for name in given_names], "W") is None) is fits
