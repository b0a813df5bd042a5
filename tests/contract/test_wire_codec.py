"""What botocore sends is what operations get, and what operations answer is what botocore reads: all 46 operations, from the model."""

from __future__ import annotations

import base64
import copy
import datetime
import itertools
import json
from typing import Any
from urllib.parse import urlsplit

import botocore.awsrequest
import botocore.parsers
import botocore.serialize
import botocore.session
import orjson
import pytest
from model_values import DOCUMENTS, Broken, Values, broken_requests

from runomics.wire.codec import Operation, Routes, compile_operations, encode
from runomics.wire.errors import ValidationException
from runomics.wire.model import ServiceModel

MODEL = ServiceModel.load()
OPERATIONS = compile_operations(MODEL)
ROUTES = Routes(OPERATIONS)
BOTOCORE = botocore.session.get_session().get_service_model("omics")
SERIALIZER = botocore.serialize.create_serializer("rest-json", include_validation=True)
PARSER = botocore.parsers.create_parser("rest-json")


def sent_by_botocore(name: str, parameters: dict[str, Any]) -> tuple[str, bytes, bytes, bytes]:
    """Method, raw path, query and body as botocore puts them on the wire."""
    request = SERIALIZER.serialize_to_request(parameters, BOTOCORE.operation_model(name))
    botocore.awsrequest.prepare_request_dict(request, "http://127.0.0.1:1")
    prepared = botocore.awsrequest.create_request_object(request).prepare()
    parts = urlsplit(prepared.url)
    return prepared.method, parts.path.encode(), parts.query.encode(), bytes(prepared.body or b"")


def received(name: str, parameters: dict[str, Any]) -> tuple[Operation, dict[str, Any]]:
    method, path, query, body = sent_by_botocore(name, parameters)
    operation, segments = ROUTES.match(method, path)
    assert operation is not None, (method, path)
    return operation, operation.decode(segments, query, body)


@pytest.mark.source("model")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_member_of_a_request_arrives_as_botocore_was_given_it(name: str, seed: int) -> None:
    parameters = Values(MODEL.shapes, seed).make(str(MODEL.operations[name].input_shape))
    operation, decoded = received(name, copy.deepcopy(parameters))
    assert operation.name == name
    assert operation.validate(decoded) == parameters


@pytest.mark.source("model")
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_request_with_only_its_required_members_is_accepted(name: str) -> None:
    shape = MODEL.shapes[str(MODEL.operations[name].input_shape)]
    whole = Values(MODEL.shapes, 1).make(str(MODEL.operations[name].input_shape))
    parameters = {member: value for member, value in whole.items() if member in shape.get("required", ())}
    operation, decoded = received(name, copy.deepcopy(parameters))
    unfilled = {
        member
        for member, about in shape.get("members", {}).items()
        if about.get("idempotencyToken") and member not in parameters
    }
    checked = operation.validate(decoded)
    assert {member: value for member, value in checked.items() if member not in unfilled} == parameters


@pytest.mark.source("model")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", sorted(name for name, operation in OPERATIONS.items() if operation.answers_body))
def test_every_member_of_an_answer_reads_in_botocore_as_it_was_given(name: str, seed: int) -> None:
    answer = Values(MODEL.shapes, seed).make(str(MODEL.operations[name].output_shape))
    response = {"status_code": OPERATIONS[name].status, "headers": {}, "body": encode(answer)}
    parsed = PARSER.parse(response, BOTOCORE.operation_model(name).output_shape)
    del parsed["ResponseMetadata"]
    assert parsed == answer


def test_times_end_in_z_with_a_fraction_and_ready_json_is_passed_on() -> None:
    moment = datetime.datetime.fromtimestamp(1767323045.678, datetime.UTC)
    answer = {"creationTime": moment, "parameters": orjson.Fragment(b'{"a":[1,null]}')}
    assert encode(answer) == b'{"creationTime":"2026-01-02T03:04:05.678000Z","parameters":{"a":[1,null]}}'


# ---- constraints -------------------------------------------------------------------------------------------------


def body_of(request: dict[str, Any]) -> dict[str, Any]:
    """As it stands after decoding: bytes are base64 until they are checked."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, dict):
            return {key: plain(element) for key, element in value.items()}
        return [plain(element) for element in value] if isinstance(value, list) else value

    return {name: plain(value) for name, value in request.items()}


SEEDS = {"StartRunBatch": (1, 2, 3, 4)}
"""Its union has one member a value: several values have both."""

BREAKS = [
    pytest.param(name, broken, id=f"{name}-{broken.path}-{seed}-{number}")
    for name in sorted(OPERATIONS)
    for seed in SEEDS.get(name, (3,))
    for number, broken in enumerate(broken_requests(MODEL.shapes, str(MODEL.operations[name].input_shape), seed))
]


def test_the_breaches_are_of_every_kind_and_of_both_members_of_the_union() -> None:
    every = [broken for _, broken in (case.values for case in BREAKS)]
    kinds = ("not be null", "have length greater", "have length less", "have value greater", "have value less")
    others = ("satisfy enum", "satisfy regular", "have exactly one")
    for kind in (*kinds, *others):
        assert any(kind in broken.constraint for broken in every), kind
    paths = {broken.path for broken in every}
    assert {"batchRunSettings.s3UriSettings", "batchRunSettings.inlineSettings"} <= paths
    assert len(BREAKS) > 450


@pytest.mark.source("model")
@pytest.mark.parametrize(("name", "broken"), BREAKS)
def test_each_broken_constraint_is_named_alone(name: str, broken: Broken) -> None:
    with pytest.raises(ValidationException) as refused:
        OPERATIONS[name].validate(body_of(broken.request))
    message = refused.value.message
    assert message.startswith("1 validation error detected: Value ")
    assert f" at '{broken.path}' failed to satisfy constraint: {broken.constraint}" in message


@pytest.mark.source("observed")
@pytest.mark.parametrize("name", ["StartRun", "CreateWorkflow", "StartRunBatch", "CreateRunGroup", "ListShares"])
def test_all_broken_constraints_of_a_request_are_named_at_once(name: str) -> None:
    whole = Values(MODEL.shapes, 3).make(str(MODEL.operations[name].input_shape))
    by_member: dict[str, Broken] = {}
    for broken in broken_requests(MODEL.shapes, str(MODEL.operations[name].input_shape), seed=3):
        by_member.setdefault(broken.path.partition(".")[0], broken)
    request = copy.deepcopy(whole)
    for member, broken in by_member.items():
        if member in broken.request:
            request[member] = broken.request[member]
        else:
            del request[member]
    with pytest.raises(ValidationException) as refused:
        OPERATIONS[name].validate(body_of(request))
    assert refused.value.message.startswith(f"{len(by_member)} validation errors detected: ")
    assert [broken for broken in by_member.values() if f"'{broken.path}' failed" not in refused.value.message] == []


@pytest.mark.source("assumed")
def test_free_documents_pass_unchanged_whatever_their_type() -> None:
    for document, member in itertools.product(DOCUMENTS, ("parameters", "engineSettings")):
        parameters = {**Values(MODEL.shapes, 1).make("StartRunRequest"), member: document}
        operation, decoded = received("StartRun", parameters)
        assert json.dumps(operation.validate(decoded)[member]) == json.dumps(document)
