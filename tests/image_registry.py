"""A real registry on loopback (Debian's docker-registry), with a login or without, and images built for it from pieces of this host."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("docker-registry")
USER, PASSWORD = "AWS", "token"
BASH_PIECES = (
    "/bin/bash",
    "/bin/cat",
    "/bin/ls",
    "/bin/sleep",
    "/usr/bin/id",
    "/usr/bin/stat",
    "/usr/bin/head",
    "/usr/bin/env",
)
SECONDS = 20.0

Entry = tuple[tarfile.TarInfo, bytes]


def file(path: str, content: bytes | str = b"", mode: int = 0o644, uid: int = 0, gid: int = 0) -> Entry:
    """A regular file of a layer."""
    info = tarfile.TarInfo(path)
    data = content.encode() if isinstance(content, str) else content
    info.size, info.mode, info.uid, info.gid = len(data), mode, uid, gid
    return info, data


def folder(path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, uid, gid
    return info, b""


def link(path: str, target: str) -> Entry:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


def hard_link(path: str, target: str) -> Entry:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info, b""


def device(path: str, major: int = 8, minor: int = 0) -> Entry:
    info = tarfile.TarInfo(path)
    info.type, info.devmajor, info.devminor, info.mode = tarfile.BLKTYPE, major, minor, 0o666
    return info, b""


def layer(*entries: Entry) -> bytes:
    """The tar of a layer."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


def userland() -> bytes:
    """A layer with bash and a few tools of this host, and the libraries they need."""
    entries = [folder(name) for name in ("bin", "usr", "usr/bin", "lib64", "etc", "tmp")]
    entries.append(file("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nalice:x:1234:1235::/people/alice:/bin/bash\n"))
    entries.append(file("etc/group", "root:x:0:\nalice:x:1235:\nlab:x:1300:alice\n"))
    entries += [folder("people"), folder("people/alice", uid=1234, gid=1235, mode=0o700)]
    libraries: set[str] = set()
    for program in BASH_PIECES:
        real = os.path.realpath(program)
        entries.append(file(program[1:], Path(real).read_bytes(), 0o755))
        said = subprocess.run(["ldd", real], capture_output=True, text=True, check=True).stdout
        libraries |= set(re.findall(r"(/[^ ]+) \(0x", said))
    for library in sorted(libraries):
        entries.append(file(library[1:], Path(library).resolve().read_bytes(), 0o755))
    return layer(*entries)


def build(
    place: Path, layers: Sequence[bytes], *, config: Mapping[str, Any] | None = None, compress: bool = True
) -> str:
    """Write an OCI layout with one image at `place`; its digest as it is in the layout."""
    blobs = place / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    kind = "application/vnd.oci.image"
    listed = [
        {
            **put(gzip.compress(tar, 1, mtime=0) if compress else tar),
            "mediaType": f"{kind}.layer.v1.tar" + "+gzip" * compress,
        }
        for tar in layers
    ]
    settings = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": {**put(json.dumps(settings).encode()), "mediaType": f"{kind}.config.v1+json"},
        "layers": listed,
    }
    described = {**put(json.dumps(manifest).encode()), "mediaType": f"{kind}.manifest.v1+json"}
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return str(described["digest"])


@dataclass
class Registry:
    """A registry that runs. `login`: the user name and password it wants, None when it wants none."""

    place: Path
    login: tuple[str, str] | None = None
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def auth_file(self) -> Path:
        """A file of logins as podman and docker write it."""
        path = self.place / "auth.json"
        if not path.exists():
            self.write_login(path, *(self.login or ("nobody", "nothing")))
        return path

    def write_login(self, path: Path, user: str, password: str) -> Path:
        path.write_text(json.dumps({"auths": {self.host: {"auth": b64encode(f"{user}:{password}".encode()).decode()}}}))
        return path

    def start(self) -> None:
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        settings: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.place / "data")}, "delete": {"enabled": True}},
            "http": {"addr": self.host},
        }
        if self.login is not None:
            (self.place / "htpasswd").write_text(f"{self.login[0]}:{bcrypt(self.login[1])}\n")
            settings["auth"] = {"htpasswd": {"realm": "test", "path": str(self.place / "htpasswd")}}
        (self.place / "registry.yml").write_text(json.dumps(settings))
        assert PROGRAM is not None
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "serve", str(self.place / "registry.yml")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        pause = threading.Event()
        for _ in range(int(SECONDS / 0.02)):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            pause.wait(0.02)
        raise AssertionError((self.place / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def push(self, name: str, layers: Sequence[bytes], *, config: Mapping[str, Any] | None = None) -> str:
        """Put an image there as `name` (repository:tag); the digest that the registry gave it."""
        layout = self.place / "image"
        build(layout, layers, config=config)
        digest = self.place / "digest"
        command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--digestfile", str(digest)]
        command += ["--authfile", str(self.auth_file), f"oci:{layout}", f"docker://{self.host}/{name}"]
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(layout)
        self.digests[name] = digest.read_text().strip()
        return self.digests[name]

    def requests(self) -> list[str]:
        """`GET /v2/…` and the like, each request that was answered with 200, in order."""
        found = re.findall(r'"((?:GET|HEAD|PUT|POST) [^ ]+) HTTP/1.1" 200 ', (self.place / "log").read_text())
        return [str(each) for each in found]

    def blob(self, digest: str) -> Path:
        """Where the registry keeps a blob."""
        plain = digest.removeprefix("sha256:")
        return self.place / "data/docker/registry/v2/blobs/sha256" / plain[:2] / plain / "data"

    def manifest(self, name: str, tag: str) -> dict[str, Any]:
        """The manifest of an image, as the registry gives it."""
        request = urllib.request.Request(f"http://{self.host}/v2/{name}/manifests/{tag}")
        request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
        if self.login is not None:
            request.add_header("Authorization", "Basic " + b64encode(":".join(self.login).encode()).decode())
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
        return found


@contextlib.contextmanager
def registry(*, login: tuple[str, str] | None = (USER, PASSWORD)) -> Iterator[Registry]:
    """A registry of one's own."""
    place = Path(tempfile.mkdtemp(prefix="ro-reg-"))
    made = Registry(place, login)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(place)


def bcrypt(password: str) -> str:
    """The password as htpasswd files have it, by the C library's crypt(3): the registry takes only bcrypt."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt"))
    library.crypt.restype = ctypes.c_char_p
    hashed = library.crypt(password.encode(), b"$2b$05$abcdefghijklmnopqrstuu")
    return bytes(hashed).decode()
