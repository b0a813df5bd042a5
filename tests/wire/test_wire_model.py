"""The model as it is read, and what must be tied to it: operations, statuses, error classes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import botocore.session
import pytest

from runomics.wire import errors
from runomics.wire.codec import Routes, compile_operations
from runomics.wire.model import ModelMissing, ServiceModel

MODEL = ServiceModel.load()


@pytest.mark.source("model")
def test_the_46_operations_of_the_workflow_side_are_served() -> None:
    by_botocore = botocore.session.get_session().get_service_model("omics")
    prefixes = {name: by_botocore.operation_model(name).endpoint["hostPrefix"] for name in by_botocore.operation_names}
    shares = {"CreateShare", "AcceptShare", "GetShare", "ListShares", "DeleteShare"}
    expected = {name for name, prefix in prefixes.items() if prefix in ("workflows-", "tags-")} | shares
    assert set(MODEL.operations) == expected
    assert len(expected) == 46


@pytest.mark.source("model")
def test_success_statuses_are_those_of_the_model() -> None:
    by_botocore = botocore.session.get_session().get_service_model("omics")
    for name, operation in compile_operations(MODEL).items():
        assert operation.status == by_botocore.operation_model(name).http["responseCode"]
    assert {operation.status for operation in MODEL.operations.values()} == {200, 201, 202, 204}


@pytest.mark.source("model")
def test_there_is_one_class_for_each_modelled_error_of_our_operations() -> None:
    modelled = {kind.code for kind in errors.ApiError.__subclasses__() if kind is not errors.FrontEndError}
    range_of_reads = "RangeNotSatisfiableException"
    assert modelled == set(MODEL.error_statuses) - {range_of_reads}
    assert all(getattr(errors, code).code == code for code in modelled)
    by_botocore = botocore.session.get_session().get_service_model("omics")
    declared = {shape.name for name in MODEL.operations for shape in by_botocore.operation_model(name).error_shapes}
    assert declared <= modelled


def test_the_front_ends_errors_are_not_in_the_model_and_carry_their_status() -> None:
    front_end = errors.FrontEndError.__subclasses__()
    assert {kind.code for kind in front_end} & set(MODEL.error_statuses) == set()
    assert {kind.code: kind.status for kind in front_end} == {
        "SerializationException": 400,
        "UnknownOperationException": 404,
        "RequestTooLargeException": 413,
        "MissingAuthenticationTokenException": 403,
        "IncompleteSignatureException": 403,
        "UnrecognizedClientException": 403,
        "InvalidSignatureException": 403,
    }


@pytest.mark.source("model")
def test_every_operation_is_found_by_its_own_method_and_path() -> None:
    operations = compile_operations(MODEL)
    routes = Routes(operations)
    for operation in operations.values():
        path = b"/".join(b"{}" if segment.startswith(b"{") else segment for segment in operation.segments)
        assert routes.match(operation.method, path)[0] is operation


def test_two_operations_of_one_method_and_path_are_refused() -> None:
    operations = compile_operations(MODEL)
    with pytest.raises(ValueError, match="GetRun and GetRun have the same method and path"):
        Routes({"one": operations["GetRun"], "two": operations["GetRun"]})


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"service-2\.json\.gz is missing: install a botocore"):
        ServiceModel.load(tmp_path / "service-2.json.gz")


def test_serving_the_model_imports_neither_botocore_nor_boto3() -> None:
    program = (
        "import sys; import runomics.wire.asgi, runomics.wire.server; from runomics.wire.model import ServiceModel;"
        "from runomics.wire.codec import compile_operations; compile_operations(ServiceModel.load());"
        "print([name for name in sys.modules if name.split('.')[0] in ('botocore', 'boto3')])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
