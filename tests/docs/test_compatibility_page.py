"""The table of operations says of each what the server really does with it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from botocore.loaders import Loader

from runomics.operations.registry import handlers

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROW = re.compile(r"^\| (\w+) \| `(\w+) (\S+)` \| (\w+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def text() -> str:
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location("compatibility", DOCS / "compatibility.py")
        assert spec is not None
        assert spec.loader is not None
        module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    page: str = module.pages()["user/compatibility.md"]
    return page


@pytest.mark.source("model")
def test_each_workflow_operation_of_the_model_has_one_row_with_its_path(text: str) -> None:
    operations = Loader().load_service_model("omics", "service-2")["operations"]
    ours = {
        (name, found["http"]["method"], found["http"]["requestUri"])
        for name, found in operations.items()
        if found["endpoint"]["hostPrefix"] in ("workflows-", "tags-") or name.endswith(("Share", "Shares"))
    }
    rows = [(name, method, path) for name, method, path, _ in ROW.findall(text)]
    assert len(rows) == 46
    assert set(rows) == ours


def test_an_operation_is_supported_exactly_when_it_is_registered(text: str) -> None:
    said = {name: word for name, _, _, word in ROW.findall(text)}
    registered = set(handlers())
    assert {name for name, word in said.items() if word == "supported"} == registered
    assert {word for name, word in said.items() if name not in registered} <= {"NotSupportedOperationException"}
    assert f"{len(registered)} of the 46 workflow operations" in text


def test_what_an_operation_does_differently_stands_with_it(text: str) -> None:
    assert (
        "- CreateWorkflow: definitionRepository needs a connection that the operator of the server has listed" in text
    )
    assert "- GetRun: while PENDING, statusMessage says what the run waits for." in text
