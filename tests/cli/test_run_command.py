"""`runomics run` and its siblings against a real server: from a WDL file to files, and what is said when that fails."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

GREET = """version 1.1
workflow greet {
  input { File names  String greeting = "hello" }
  call say { input: names, greeting }
  output { File lines = say.lines  Int count = say.count }
}
task say {
  input { File names  String greeting }
  command <<< sed 's/^/~{greeting} /' ~{names} > lines.txt; wc -l < lines.txt >>>
  output { File lines = "lines.txt"  Int count = read_int(stdout()) }
}
"""
BREAK = """version 1.1
workflow break_down { call fail }
task fail { command <<< echo before the end; echo "no such tool" >&2; exit 3 >>> output { String s = "" } }
"""
LINGER = """version 1.1
workflow linger { call wait }
task wait { command <<< exec sleep 300 >>> output { String s = "" } }
"""


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """A DATA on which the first `run` starts a server."""
    with tempfile.TemporaryDirectory(prefix="ro-cli-") as directory:
        data = Path(directory) / "data"
        data.mkdir()
        (data / "runomics.toml").write_text(
            'listen = "127.0.0.1:0"\nstorage_reserve_gib = 1\nstorage_reserve_percent = 0\n'
        )
        yield data
        if (data / "endpoint.json").exists():
            runomics("stop", "--runs", "--data", str(data))


def runomics(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One command, not on a terminal."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNOMICS_")}
    return subprocess.run(
        [sys.executable, "-m", "runomics", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_workflow_runs_to_files_and_is_registered_once(data: Path, tmp_path: Path) -> None:
    write(tmp_path, "greet.wdl", GREET)
    write(tmp_path, "names.txt", "ann\nbob\n")
    write(tmp_path, "inputs.json", json.dumps({"greet.names": "names.txt", "greeting": "dear"}))
    arguments = ("run", "greet.wdl", "-i", "inputs.json", "--storage-type", "dynamic", "--data", str(data))

    first = runomics(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    said = first.stdout.splitlines()
    assert said[0].startswith("started a server at http://127.0.0.1:")
    run_id = next(line.split()[1] for line in said if line.startswith("run "))
    assert f"run {run_id} COMPLETED" in said
    outputs = json.loads((tmp_path / run_id / "logs" / "outputs.json").read_text())
    assert [name.rpartition(".")[2] for name in outputs] == ["lines", "count"]
    printed = json.loads(first.stdout[first.stdout.index("{") : first.stdout.rindex("}") + 1])
    lines = next(Path(value) for name, value in printed.items() if name.endswith("lines"))
    assert (tmp_path / lines).read_text() == "dear ann\ndear bob\n"
    assert said[-1].startswith(
        f"{sum(1 for path in (tmp_path / run_id).rglob('*') if path.is_file())} files in {run_id}, storage peak "
    )

    second = runomics(*arguments, "--outputs", "again", cwd=tmp_path)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "(same definition as before)" in second.stdout.splitlines()[0]
    assert (tmp_path / "again" / "logs" / "outputs.json").exists()


def test_a_failed_run_ends_with_1_its_reason_and_the_end_of_its_tasks_output(data: Path, tmp_path: Path) -> None:
    write(tmp_path, "main.wdl", BREAK)
    ended = runomics("run", "main.wdl", "--data", str(data), cwd=tmp_path)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    said = ended.stdout.splitlines()
    assert any(line.startswith("run ") and " FAILED: " in line for line in said)
    assert {"  before the end", "  no such tool"} <= set(said)


def test_a_definition_that_is_no_wdl_ends_with_1_and_its_place(data: Path, tmp_path: Path) -> None:
    write(tmp_path, "main.wdl", "version 1.1\nworkflow w {\n")
    ended = runomics("run", "main.wdl", "--data", str(data), cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("runomics: main.wdl:2:12: ")


def test_what_the_service_refuses_is_told_in_its_words(data: Path, tmp_path: Path) -> None:
    write(tmp_path, "greet.wdl", GREET)
    write(tmp_path, "inputs.json", json.dumps({"unknown": 1}))
    ended = runomics("run", "greet.wdl", "-i", "inputs.json", "--data", str(data), cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("runomics: StartRun: ValidationException: ")


def test_an_interrupt_away_from_a_terminal_leaves_the_run_alone(data: Path, tmp_path: Path) -> None:
    write(tmp_path, "main.wdl", LINGER)
    watching = subprocess.Popen(
        [sys.executable, "-m", "runomics", "run", "main.wdl", "--data", str(data)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    guard = threading.Timer(60, watching.kill)
    guard.start()
    said = []
    for line in watching.stdout:
        said.append(line.rstrip())
        if line.startswith("  task ") and line.endswith("RUNNING\n"):
            break
    watching.send_signal(signal.SIGINT)
    said += watching.stdout.read().splitlines()
    watching.stdout.close()
    code = watching.wait()
    guard.cancel()
    assert code == 130, said
    run_id = next(line.split()[1] for line in said if line.startswith("run "))
    assert said[-1] == f"run {run_id} goes on; see it with: runomics logs {run_id} --follow"


def test_an_interrupt_on_a_terminal_asks_and_cancels_when_told_so(data: Path, tmp_path: Path) -> None:
    write(tmp_path, "main.wdl", LINGER)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [sys.executable, "-m", "runomics", "run", "main.wdl", "--data", str(data)])
    guard = threading.Timer(60, os.kill, (child, signal.SIGKILL))
    guard.start()
    try:
        expect(terminal, "wait")
        os.write(terminal, b"\x03")
        expect(terminal, "[cancel/detach/continue]")
        os.write(terminal, b"cancel\n")
        expect(terminal, "CANCELLED")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        guard.cancel()
        os.close(terminal)
    assert code == 130


def expect(terminal: int, text: str) -> None:
    """Read what the terminal shows until `text`, colours left out."""
    shown = ""
    while text not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown):
        try:
            shown += os.read(terminal, 65536).decode(errors="replace")
        except OSError:
            raise AssertionError(f"{text!r} was not shown; the terminal shows: {shown}") from None


@pytest.mark.needs("awscli")
def test_the_aws_cli_reaches_the_server_through_runomics(data: Path) -> None:
    environment = {**os.environ, "RUNOMICS_DATA": str(data)}
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "runomics",
            "aws",
            "omics",
            "list-workflows",
            "--query",
            "items[].name",
            "--output",
            "text",
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert shown.returncode == 0, shown.stderr
    assert "greet" in shown.stdout.split()


def test_stopping_with_runs_cancels_them_first_and_the_next_server_shows_it(data: Path) -> None:
    stopped = runomics("stop", "--runs", "--data", str(data))
    assert stopped.returncode == 0, stopped.stderr
    said = stopped.stdout.splitlines()
    assert [line.split()[0] for line in said] == ["cancelled", "stopped"]
    assert str(data) not in Path("/proc/self/mounts").read_text()
    assert runomics("env", "--data", str(data)).returncode == 1
