"""What `doctor` tries for images: whether skopeo is here and copies one that is made for the purpose. Runs in the user's process."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from runomics.images import skopeo
from runomics.ports import Finding

SECONDS = 20.0


def probe(place: Path) -> Sequence[Finding]:
    """One finding. `place` is a directory on the file system of the data."""
    name = "container images (skopeo)"
    remedy = f"{skopeo.REMEDY[0].upper()}{skopeo.REMEDY[1:]}; without it tasks run on this host's own tools, and named images fail."
    program = skopeo.find()
    if program is None:
        return [Finding(name, works=False, detail="not installed", remedy=remedy)]
    with tempfile.TemporaryDirectory(prefix="probe-", dir=place) as scratch:
        try:
            said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=SECONDS, check=True)
            _copy(Path(scratch), program)
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            return [Finding(name, works=False, detail=str(error), remedy=remedy)]
    return [Finding(name, works=True, detail=said.stdout.strip().replace(" version", ""))]


def _copy(scratch: Path, program: str) -> None:
    """Have skopeo copy an image of one empty layer.

    Raises:
        subprocess.SubprocessError: it cannot. OSError: it did, and there is no copy.
    """
    _make(scratch / "from")
    command = [program, *skopeo.policy(), "--tmpdir", str(scratch), "copy", "--quiet"]
    command += [f"oci:{scratch / 'from'}", f"oci:{scratch / 'to'}"]
    subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
    (scratch / "to" / "index.json").stat()


def _make(layout: Path) -> None:
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data), "mediaType": f"application/vnd.oci.image.{kind}"}

    content = io.BytesIO()
    tarfile.open(fileobj=content, mode="w").close()
    layer = put(content.getvalue(), "layer.v1.tar")
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = put(orjson.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}), "config.v1+json")
    manifest = put(orjson.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}), "manifest.v1+json")
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_bytes(orjson.dumps({"schemaVersion": 2, "manifests": [manifest]}))
