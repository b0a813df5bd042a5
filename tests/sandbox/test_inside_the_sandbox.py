"""What a run process can reach once it is inside: its own run, and nothing of the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runomics.sandbox import rights

pytestmark = pytest.mark.needs("userns")

ROOTLESS = os.geteuid() != 0
UID = os.geteuid() if ROOTLESS else 1_879_100_009

ATTEMPT = '''
import errno, os
def attempt(act, *arguments, **options):
    """The name of the error, or "done"."""
    try:
        act(*arguments, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "done"
'''


class Place:
    """Directories of one run, and the way into its sandbox."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree: dict[str, Any] = {
            "uid": UID,
            "gid": os.getegid() if ROOTLESS else UID,
            "base": str(root / "sandbox"),
        }
        for name in ("sandbox", "run/engine", "run/volume", "run/definition", "run/inputs", "run/gateway", "other-run"):
            (root / name).mkdir(parents=True)
        for name in ("engine", "volume", "definition", "inputs", "gateway"):
            self.tree[name] = str(root / "run" / name)
        for name in ("engine", "volume"):
            os.chown(root / "run" / name, UID, -1)
        (root / "run/definition/main.wdl").write_text("version 1.0")
        (root / "run/inputs/in.txt").write_text("in")
        (root / "other-run/secret").write_text("secret")

    def run(self, code: str, **changes: Any) -> Any:
        """What `answer` is after `code` ran inside."""
        request = {"tree": self.tree | changes, "rootless": ROOTLESS, "code": ATTEMPT + textwrap.dedent(code)}
        program = [sys.executable, str(Path(__file__).with_name("sandbox_inside.py")), json.dumps(request)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, env={**os.environ, "SECRET": "key"})
        assert done.returncode == 0, done.stderr
        return json.loads((self.root / "run/engine/answer.json").read_text())


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="ro-inside-") as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - a plain user's run process must pass it
        yield Place(Path(directory))


def test_nothing_of_the_host_is_there_but_the_system_and_the_interpreter(place: Place) -> None:
    outside = [
        str(place.root / "other-run/secret"),
        str(place.root / "run/volume"),
        "/etc/shadow",
        "/home",
        "/var",
        "/boot",
        "/sys",
        "/opt",
    ]
    found = place.run(
        f"""
        answer = {{
            "outside": [path for path in {outside!r} if os.path.lexists(path)],
            "root": sorted(os.listdir("/")),
            "etc": sorted(os.listdir("/etc")),
            "dev": sorted(os.listdir("/dev")),
            "workflow": sorted(os.listdir("/mnt/workflow")),
            "descriptors": sorted(os.listdir("/proc/self/fd"))[:3],
            "mounts": [line.split()[1] for line in open("/proc/self/mounts")],
        }}
        """
    )
    assert found["outside"] == []
    system = {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}
    interpreter = {
        Path(path).parts[1]
        for path in (sys.prefix, sys.base_prefix, *sys.path)
        if len(Path(path).parts) > 1 and os.path.isabs(path)
    }
    made = {"dev", "etc", "mnt", "proc", "run", "tmp"}
    assert set(found["root"]) - system - (interpreter - made) == made
    assert set(found["etc"]) <= {
        "alternatives",
        "group",
        "hosts",
        "ld.so.cache",
        "localtime",
        "nsswitch.conf",
        "passwd",
        "ssl",
    }
    assert found["dev"] == ["fd", "full", "null", "random", "shm", "urandom", "zero"]
    assert found["workflow"] == ["definition", "inputs"]


def test_only_the_volume_the_engine_directory_and_tmp_can_be_written(place: Place) -> None:
    found = place.run(
        f"""
        def write(path):
            with open(path, "w") as file: file.write("x")
        places = ["/x", "/usr/x", "/etc/x", "/etc/passwd", "/mnt/x", "/run/x", "/run/gateway/x", "/mnt/workflow/definition/x",
                  "/mnt/workflow/definition/main.wdl", "/mnt/workflow/inputs/in.txt", "/proc/sysrq-trigger", "/proc/sys/kernel/hostname",
                  {sys.prefix!r} + "/x", "/dev/x", "/tmp/x", "/dev/shm/x", "/mnt/workflow/x", "/run/engine/x", "/dev/null"]
        answer = {{path: attempt(write, path) for path in places}}
        """
    )
    allowed = {path for path, said in found.items() if said == "done"}
    assert allowed == {"/tmp/x", "/dev/shm/x", "/mnt/workflow/x", "/run/engine/x", "/dev/null"}
    if found["/proc/sysrq-trigger"] == "ENOENT":
        del found["/proc/sysrq-trigger"]  # a kernel without it
    assert {said for path, said in found.items() if path not in allowed} <= {"EROFS", "EACCES", "EPERM"}


def test_the_kernels_doors_are_shut(place: Place) -> None:
    found = place.run(
        """
        import ctypes, signal
        libc = ctypes.CDLL(None, use_errno=True)
        def call(name, *arguments):
            if getattr(libc, name)(*arguments) == -1:
                code = ctypes.get_errno(); raise OSError(code, name)
        answer = {
            "user namespace": attempt(call, "unshare", 0x10000000),
            "mount namespace": attempt(call, "unshare", 0x00020000),
            "mount": attempt(call, "mount", b"tmpfs", b"/tmp", b"tmpfs", 0, None),
            "remount": attempt(call, "mount", None, b"/usr", None, 32 | 4096, None),
            "umount": attempt(call, "umount2", b"/tmp", 2),
            "mknod": attempt(os.mknod, "/tmp/disk", 0o60600, os.makedev(8, 0)),
            "ptrace": attempt(call, "ptrace", 0, 0, 0, 0),
            "setuid": attempt(os.setuid, 0),
            "chroot": attempt(os.chroot, "/tmp"),
            "sethostname": attempt(call, "sethostname", b"x", 1),
            "kill the service": attempt(os.kill, SERVICE, signal.SIGTERM),
        }
        """.replace("SERVICE", str(os.getpid()))
    )
    assert found.pop("kill the service") == "ESRCH"
    assert found.pop("setuid") == ("EINVAL" if ROOTLESS else "EPERM")  # a plain user's namespace has no user 0
    assert found == dict.fromkeys(found, "EPERM")


def test_there_is_no_network_but_loopback(place: Place) -> None:
    found = place.run(
        """
        import socket
        server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen()
        def tcp(where): socket.create_connection(where, timeout=2).close()
        def udp(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53))
        answer = {"loopback": attempt(tcp, server.getsockname()), "tcp": attempt(tcp, ("192.0.2.1", 80)), "udp": attempt(udp),
                  "interfaces": [name for _, name in socket.if_nameindex()]}
        """
    )
    assert found["interfaces"][:1] == ["lo"]
    assert [found["loopback"], found["tcp"], found["udp"]] == ["done", "ENETUNREACH", "ENETUNREACH"]


def test_only_its_own_processes_and_no_environment_of_the_service_are_seen(place: Place) -> None:
    found = place.run(
        """
        answer = {"pid": os.getpid(), "processes": [name for name in os.listdir("/proc") if name.isdigit()],
                  "host": os.uname().nodename, "user": (os.getuid(), os.getgid(), os.getgroups() if os.getuid() >= 1 << 20 else []),
                  "status": {line.split(":")[0]: line.split(":")[1].strip() for line in open("/proc/self/status")}}
        """
    )
    assert found["pid"] == 1
    assert found["processes"] == ["1"]
    assert found["host"] == "engine"
    assert found["user"] == [UID, place.tree["gid"], []]
    status = found["status"]
    kept = "0" * 16 if ROOTLESS else f"{1 << 0 | 1 << 1 | 1 << 3:016x}"
    assert [status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")] == [kept, kept, "0" * 16, "0" * 16]
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_a_child_by_exec_has_no_capability_left(place: Place) -> None:
    found = place.run(
        """
        import subprocess
        text = subprocess.run(["/bin/grep", "^Cap[PEIA]", "/proc/self/status"], capture_output=True, text=True).stdout
        answer = sorted({line.split()[1] for line in text.splitlines()})
        """
    )
    assert found == ["0" * 16]


@pytest.mark.needs("root")
def test_files_that_tasks_wrote_as_root_can_be_read_and_changed_in_the_volume(place: Place) -> None:
    private = place.root / "run/volume/private"
    private.write_text("data")
    private.chmod(0o600)
    found = place.run('os.chmod("/mnt/workflow/private", 0o644); answer = open("/mnt/workflow/private").read()')
    assert found == "data"


def test_what_engines_load_late_still_works(place: Place) -> None:
    found = place.run(
        """
        import ssl, sqlite3, multiprocessing, tempfile, pwd, subprocess
        multiprocessing.Lock()
        with tempfile.TemporaryFile() as file: file.write(b"x")
        sum = subprocess.run(["/bin/bash", "-c", "echo $((1+1))"], capture_output=True, text=True).stdout
        answer = [pwd.getpwuid(os.getuid()).pw_name, sum]
        """
    )
    assert found[0] in ("engine", "root")
    assert found[1] == "2\n"


def test_inputs_staged_later_appear_and_the_gateway_can_be_made_again(place: Place) -> None:
    """The directory is bound, not the file: what the server does in it is seen inside."""
    (place.root / "run/gateway/sock").write_text("1")
    found = place.run('answer = [open("/run/gateway/sock").read(), attempt(os.unlink, "/run/gateway/sock")]')
    assert found == ["1", "EROFS"]


@pytest.mark.parametrize("name", ["definition", "inputs"])
def test_a_link_in_the_place_of_a_mount_is_not_followed(place: Place, name: str) -> None:
    (place.root / "run/volume" / name).symlink_to("/etc")
    with pytest.raises(AssertionError, match=f"/mnt/workflow/{name} in the run's storage is no directory"):
        place.run("answer = 1")


@pytest.mark.parametrize(
    ("release", "counts"), [("5.13.19-x", False), ("5.14.0-427.el9", True), ("6.1.0-18-amd64", True), ("4.18", False)]
)
def test_processes_of_a_plain_user_are_limited_where_linux_counts_by_namespace(release: str, counts: bool) -> None:
    assert rights.counts_by_namespace(release) is counts
