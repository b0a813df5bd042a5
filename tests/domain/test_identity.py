"""ARNs, S3 URIs and ids."""

from __future__ import annotations

import pytest

from runomics.domain import identity
from runomics.domain.identity import Arn, MalformedName, S3Uri


@pytest.mark.source("guide")
def test_arns_are_built_as_published() -> None:
    assert identity.run_arn("us-west-2", "123456789012", 7) == "arn:aws:omics:us-west-2:123456789012:run/7"
    assert identity.task_arn("us-west-2", "123456789012", 7) == "arn:aws:omics:us-west-2:123456789012:task/7"
    assert identity.workflow_arn("us-west-2", "123456789012", 7) == "arn:aws:omics:us-west-2:123456789012:workflow/7"


@pytest.mark.source("observed")
def test_ready2run_workflows_have_no_account_in_their_arn() -> None:
    assert identity.workflow_arn("us-west-2", "123456789012", 7, "READY2RUN") == "arn:aws:omics:us-west-2::workflow/7"


def test_an_arn_is_taken_apart() -> None:
    assert identity.parse_arn("arn:aws:omics:us-west-2::workflow/7/version/a:b") == Arn(
        "aws", "omics", "us-west-2", "", "workflow/7/version/a:b"
    )
    with pytest.raises(MalformedName, match="'run/7' is not an ARN"):
        identity.parse_arn("run/7")


@pytest.mark.source("guide")
def test_log_streams_have_full_arns() -> None:
    assert identity.log_stream_arn("us-east-1", "123456789012", identity.task_stream(1, 2)) == (
        "arn:aws:logs:us-east-1:123456789012:log-group:/aws/omics/WorkflowLog:log-stream:run/1/task/2"
    )


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("s3://bucket", S3Uri("bucket", "")),
        ("s3://bucket/", S3Uri("bucket", "")),
        ("s3://my.bucket-1/a//b c/ü?#", S3Uri("my.bucket-1", "a//b c/ü?#")),
    ],
)
def test_an_s3_uri_keeps_its_key_as_written(text: str, uri: S3Uri) -> None:
    assert identity.parse_s3_uri(text) == uri


@pytest.mark.parametrize(
    "text",
    ["bucket/key", "https://bucket/key", "s3:/bucket", "s3://", "s3://B/x", "s3://a..b/x", "s3://ab", "S3://bucket/x"],
)
def test_what_is_no_s3_uri_is_refused_by_its_text(text: str) -> None:
    with pytest.raises(MalformedName) as caught:
        identity.parse_s3_uri(text)
    assert f"'{text}'" in str(caught.value)


def test_a_key_longer_than_s3_has_is_refused() -> None:
    with pytest.raises(MalformedName, match="more than 1024 bytes"):
        identity.parse_s3_uri("s3://bucket/" + "é" * 600)


@pytest.mark.source("guide")
def test_a_run_writes_below_its_id() -> None:
    assert identity.run_output_uri("s3://bucket/out", 7, None) == "s3://bucket/out/7"
    assert identity.run_output_uri("s3://bucket/out/", 7, "SERVICE_DEFINED") == "s3://bucket/out/7"
    assert identity.run_output_uri("s3://bucket", 7, None) == "s3://bucket/7"


@pytest.mark.source("model")
def test_a_run_may_write_without_a_prefix() -> None:
    assert identity.run_output_uri("s3://bucket/out/", 7, "NONE_WITH_OVERWRITE") == "s3://bucket/out"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1000001", 1000001), ("0", 0), ("01", None), ("", None), ("-1", None), ("١", None), ("9" * 19, None)],
)
def test_an_id_is_found_only_as_we_write_it(text: str, value: int | None) -> None:
    assert identity.number(text) == value
