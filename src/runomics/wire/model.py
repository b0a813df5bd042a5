"""The service model of HealthOmics, read from the file that botocore ships: operations, shapes, error statuses. Server process, at start.

botocore itself is not imported: its loader costs a tenth of a second and 20 MB, the file alone 3 ms.
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

API_VERSION = "2022-11-28"

HOST_PREFIXES = frozenset({"workflows-", "tags-"})
"""The operations with these host prefixes are served, all of them."""

SHARE_OPERATIONS = frozenset({"CreateShare", "AcceptShare", "GetShare", "ListShares", "DeleteShare"})
"""Workflows are shared through these; their host prefix (analytics-) also holds stores, which are not served."""


class ModelMissing(Exception):
    """The model file is not where botocore keeps it. The message says where it was looked for and what to install."""


@dataclass(frozen=True, slots=True)
class OperationModel:
    """One operation as the model has it. `input_shape` and `output_shape` name shapes; `status` is that of success."""

    name: str
    method: str
    uri: str
    status: int
    input_shape: str | None
    output_shape: str | None


@dataclass(frozen=True, slots=True)
class ServiceModel:
    """What the model says. Shapes are the model's own documents, by name; treat everything as read-only."""

    operations: Mapping[str, OperationModel]
    shapes: Mapping[str, Mapping[str, Any]]
    error_statuses: Mapping[str, int]
    signing_name: str

    @classmethod
    def load(cls, path: Path | None = None) -> ServiceModel:
        """The model in `path`, by default in the installed botocore.

        Raises:
            ModelMissing: there is no such file.
        """
        file = path or installed_model()
        try:
            document = orjson.loads(gzip.decompress(file.read_bytes()))
        except FileNotFoundError:
            raise ModelMissing(
                f"{file} is missing: install a botocore that has the omics model of {API_VERSION}"
            ) from None
        shapes = document["shapes"]
        return cls(
            operations={
                name: _operation(name, spec) for name, spec in document["operations"].items() if _is_served(name, spec)
            },
            shapes=shapes,
            error_statuses={
                name: shape["error"]["httpStatusCode"] for name, shape in shapes.items() if shape.get("exception")
            },
            signing_name=document["metadata"]["signingName"],
        )


def installed_model() -> Path:
    """Where the installed botocore keeps the model of this API version.

    Raises:
        ModelMissing: botocore is not installed.
    """
    spec = importlib.util.find_spec("botocore")
    if spec is None or not spec.submodule_search_locations:
        raise ModelMissing("botocore is not installed: the API is read from its service model")
    return Path(spec.submodule_search_locations[0], "data", "omics", API_VERSION, "service-2.json.gz")


def _is_served(name: str, spec: Mapping[str, Any]) -> bool:
    return spec.get("endpoint", {}).get("hostPrefix") in HOST_PREFIXES or name in SHARE_OPERATIONS


def _operation(name: str, spec: Mapping[str, Any]) -> OperationModel:
    return OperationModel(
        name=name,
        method=spec["http"]["method"],
        uri=spec["http"]["requestUri"],
        status=spec["http"]["responseCode"],
        input_shape=spec["input"]["shape"] if "input" in spec else None,
        output_shape=spec["output"]["shape"] if "output" in spec else None,
    )
