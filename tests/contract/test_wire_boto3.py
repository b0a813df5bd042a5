"""Unmodified boto3 against a live server with stand-in handlers: what goes in comes out, and refusals arrive under AWS's names."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from typing import Any

import botocore.exceptions
import pytest
from live_edge import LiveEdge, handler, live_edge
from model_values import Values

from runomics.wire import errors
from runomics.wire.asgi import Handler
from runomics.wire.codec import compile_operations
from runomics.wire.model import ServiceModel

MODEL = ServiceModel.load()
OPERATIONS = compile_operations(MODEL)
TAGGED = "arn:aws:omics:us-east-1:123456789012:workflow/1000000/version/v1.0"
RUN = {
    "workflowId": "1000000",
    "roleArn": "arn:aws:iam::123456789012:role/omics",
    "outputUri": "s3://outputs/results",
    "requestId": "one",
}


RAISED: dict[str, Callable[[str], Exception]] = {
    str(1000 + number): kind
    for number, kind in enumerate(kind for kind in errors.ApiError.__subclasses__() if kind is not errors.FrontEndError)
}
"""Every modelled error, by the run id for which the stand-in raises it."""


def get_run(request: dict[str, Any]) -> dict[str, Any]:
    if request["id"] in RAISED:
        raise RAISED[request["id"]](f"no luck with run {request['id']}")
    if request["id"] == "13":
        raise ZeroDivisionError("a secret of the server")
    if request["id"] == "14":
        raise BufferError("the queue is full")
    return {"id": request["id"], "creationTime": datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.UTC)}


def reading_or_writing(tx: str, caller: Any, request: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"{tx} {caller[0].account} {request['workflowId']} {request.get('name', '')}", "uuid": caller[1]}


def prepared(caller: Any, request: dict[str, Any]) -> dict[str, Any]:
    return {**request, "name": f"prepared for {caller[0].key_id}"}


@pytest.fixture(scope="module")
def live() -> Iterator[LiveEdge]:
    handlers = {
        name: handler(
            lambda _request, shape=MODEL.operations[name].output_shape: (
                Values(MODEL.shapes, 7).make(shape) if shape else None
            )
        )
        for name in OPERATIONS
    }
    handlers["GetRun"] = handler(get_run)
    handlers["StartRun"] = Handler(function=reading_or_writing, writes=True, prepare=prepared)
    handlers["ListTagsForResource"] = handler(lambda request: {"tags": {"arn": request["resourceArn"]}})
    del handlers["CreateRunCache"]
    translate = lambda error: errors.ThrottlingException("try later") if isinstance(error, BufferError) else None  # noqa: E731
    with live_edge(handlers, translate=translate) as edge:
        yield edge


@pytest.fixture(scope="module")
def client(live: LiveEdge) -> Any:
    return live.client()


def method_of(client: Any, name: str) -> Any:
    return getattr(client, next(python for python, api in client.meta.method_to_api_mapping.items() if api == name))


@pytest.mark.source("model")
@pytest.mark.parametrize(
    "name", sorted(set(OPERATIONS) - {"GetRun", "StartRun", "ListTagsForResource", "CreateRunCache"})
)
def test_every_operation_is_called_and_answered_through_boto3(client: Any, live: LiveEdge, name: str) -> None:
    parameters = Values(MODEL.shapes, 5).make(str(MODEL.operations[name].input_shape))
    answer = method_of(client, name)(**parameters)
    metadata = answer.pop("ResponseMetadata")
    shape = MODEL.operations[name].output_shape
    assert answer == (Values(MODEL.shapes, 7).make(shape) if shape else {})
    assert metadata["HTTPStatusCode"] == OPERATIONS[name].status
    assert live.authorized[-1][0] == name
    has_body = OPERATIONS[name].answers_body
    assert metadata["HTTPHeaders"].get("content-type") == ("application/json" if has_body else None)
    assert ("content-length" in metadata["HTTPHeaders"]) == (OPERATIONS[name].status != 204)


def test_a_writing_operation_is_prepared_and_runs_in_the_stores_writer(client: Any) -> None:
    answer = client.start_run(**RUN)
    assert answer["id"] == "writing 123456789012 1000000 prepared for AKIAEXAMPLE"
    assert answer["uuid"] == answer["ResponseMetadata"]["RequestId"]
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201


def test_an_arn_in_the_path_is_one_value(client: Any) -> None:
    assert client.list_tags_for_resource(resourceArn=TAGGED)["tags"] == {"arn": TAGGED}


def test_a_client_that_prefixes_the_host_is_served(live: LiveEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefixed name has no address here; a proxy setting makes botocore send the whole URL to the server instead."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{live.port}")
    client = live.client(endpoint_url="http://omics.example", inject_host_prefix=True)
    sent: list[str] = []
    client.meta.events.register("before-send.omics.*", lambda request, **_: sent.append(request.url))
    assert client.get_run(id="5")["id"] == "5"
    assert client.list_tags_for_resource(resourceArn=TAGGED)["tags"] == {"arn": TAGGED}
    assert sent[0] == "http://workflows-omics.example/run/5"
    assert sent[1].startswith("http://tags-omics.example/tags/arn%3Aaws")


@pytest.mark.parametrize("host", ["workflows-127.0.0.1", "tags-omics.us-east-1.amazonaws.com", "anything"])
def test_the_host_header_never_routes(live: LiveEdge, host: str) -> None:
    client = live.client()
    client.meta.events.register("before-sign.omics.*", lambda request, **_: request.headers.add_header("Host", host))
    assert client.get_run(id="5")["id"] == "5"


@pytest.mark.source("model")
@pytest.mark.parametrize("run_id", sorted(RAISED))
def test_modelled_errors_arrive_as_boto3s_exceptions_with_the_models_status(client: Any, run_id: str) -> None:
    name = RAISED[run_id].__name__
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        client.get_run(id=run_id)
    answer = caught.value.response
    assert answer["Error"] == {"Code": name, "Message": f"no luck with run {run_id}"}
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == MODEL.error_statuses[name]
    declared = getattr(client.exceptions, name, None)
    assert declared is not None
    assert isinstance(caught.value, declared)


def failure(call: Callable[..., Any], **parameters: Any) -> tuple[str, int, str]:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**parameters)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def test_a_fault_says_nothing_of_the_server_and_names_the_request(client: Any) -> None:
    with pytest.raises(client.exceptions.InternalServerException) as caught:
        client.get_run(id="13")
    answer = caught.value.response
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert answer["Error"]["Message"] == f"An internal error occurred. Request id: {request_id}"


def test_another_rooms_exception_is_translated(client: Any) -> None:
    assert failure(client.get_run, id="14") == ("ThrottlingException", 429, "try later")


@pytest.mark.source("observed")
def test_access_is_decided_before_the_input_is_checked(client: Any, live: LiveEdge) -> None:
    live.denied.add("StartRun")
    try:
        code, status, _ = failure(client.start_run, **{**RUN, "workflowId": "not a number"})
    finally:
        live.denied.clear()
    assert (code, status) == ("AccessDeniedException", 403)


@pytest.mark.source("observed")
def test_broken_constraints_arrive_in_awss_sentence(client: Any) -> None:
    assert failure(client.start_run, **{**RUN, "workflowId": "abc", "priority": 10**9}) == (
        "ValidationException",
        400,
        "2 validation errors detected: Value 'abc' at 'workflowId' failed to satisfy constraint: Member must satisfy regular"
        " expression pattern: [0-9]+; Value '1000000000' at 'priority' failed to satisfy constraint: Member must have value"
        " less than or equal to 100000",
    )


@pytest.mark.source("assumed")
def test_an_operation_without_a_handler_is_not_supported(client: Any) -> None:
    assert failure(client.create_run_cache, cacheS3Location="s3://bucket/key", requestId="x") == (
        "NotSupportedOperationException",
        405,
        "CreateRunCache is not supported by this server yet",
    )


@pytest.mark.source("observed")
def test_keys_and_secrets_that_are_not_known_are_refused(live: LiveEdge) -> None:
    assert failure(live.client(key_id="AKIANOBODY").get_run, id="5") == (
        "UnrecognizedClientException",
        403,
        "The security token included in the request is invalid.",
    )
    code, status, message = failure(live.client(secret="wrong").get_run, id="5")
    assert (code, status) == ("InvalidSignatureException", 403)
    assert message.startswith("The request signature we calculated does not match")


def test_another_region_is_refused_by_name(live: LiveEdge) -> None:
    code, status, message = failure(live.client(region_name="eu-central-1").get_run, id="5")
    assert (code, status) == ("InvalidSignatureException", 403)
    assert "not 'eu-central-1'. This server is region 'us-east-1'." in message


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("parameters", {"n": 1, "deep": [[{"x": None}]], "ü": "漢字"}),
        ("parameters", "a string"),
        ("engineSettings", [1, 2]),
    ],
)
def test_documents_go_through_as_they_are(live: LiveEdge, client: Any, member: str, value: Any) -> None:
    client.start_run(**{**RUN, member: value})
    assert live.authorized[-1][1][member] == value


def test_a_body_beyond_the_inline_size_goes_through_the_pool(live: LiveEdge, client: Any) -> None:
    value = {"text": "x" * 500_000}
    client.start_run(**RUN, parameters=value)
    assert live.authorized[-1][1]["parameters"] == value


def test_a_body_over_the_limit_is_refused_and_the_client_goes_on(client: Any) -> None:
    code, status, message = failure(client.start_run, **RUN, parameters={"text": "x" * (1 << 20)})
    assert (code, status, message) == ("RequestTooLargeException", 413, "Request size exceeded 1048576 bytes")
    assert client.get_run(id="5")["id"] == "5"


def test_errors_are_json_with_one_member_and_a_named_type(live: LiveEdge) -> None:
    headers: list[tuple[str, str, bytes]] = []
    client = live.client()
    client.meta.events.register(
        "before-parse.omics.*",
        lambda response_dict, **_: headers.append(
            (
                response_dict["headers"]["x-amzn-errortype"],
                response_dict["headers"]["content-type"],
                response_dict["body"],
            )
        ),
    )
    failure(client.get_run, id="1000")
    kind = RAISED["1000"].__name__
    assert headers == [
        (kind, "application/json", json.dumps({"message": "no luck with run 1000"}, separators=(",", ":")).encode())
    ]
