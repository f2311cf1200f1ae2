"""A private PostgreSQL server for tests: its own folder, a socket in it, no port, and gone with the process.

``make postgres`` runs this module to find or install the server's programs; with ``--serve`` it keeps a server for
whoever started it, until that one closes its standard input. When they are missing, the tests that need
them are skipped; with ``HUGANG_POSTGRESQL=required`` they fail instead, so that a pipeline cannot skip them unseen.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

Row = tuple[Any, ...]

PROGRAMS = ("initdb", "postgres")
DEBIAN_BINARIES = Path("/usr/lib/postgresql")
OTHER_BINARIES = (Path("/usr/pgsql-15/bin"), Path("/usr/libexec/postgresql"), Path("/usr/local/pgsql/bin"))
UNPRIVILEGED_USERS = ("postgres", "nobody", "daemon")
START_TIME_S_MAX = 60
STOP_TIME_S_MAX = 30
SOCKET_PATH_SIZE_MAX = 90
MISSING = (
    "PostgreSQL's server programs (initdb, postgres) are not on this machine; on Debian or Ubuntu install the package "
    "postgresql, on Fedora postgresql-server, on Alpine postgresql. The tests that need them are skipped."
)
# What makes a commit durable is left at the defaults of the server, which have it on.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "40",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "autovacuum": "off",
    "jit": "off",
    "log_min_messages": "warning",
    "lc_messages": "C",
}


def find_binaries() -> Path | None:
    """Find the folder of the server's programs: on the path, beside ``pg_config``, or where distributions put them."""
    folders: list[Path] = []
    found = shutil.which("postgres")
    if found is not None:
        folders.append(Path(found).resolve().parent)
    config = shutil.which("pg_config")
    if config is not None:
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(answer.stdout.strip() or "/nowhere"))
    versions = sorted(DEBIAN_BINARIES.glob("*/bin"), key=lambda path: _number(path.parent.name), reverse=True)
    for folder in (*folders, *versions, *OTHER_BINARIES):
        if all(os.access(folder / program, os.X_OK) for program in PROGRAMS):
            return folder
    return None


def _number(name: str) -> int:
    return int(re.sub(r"\D.*", "", name) or "0")


def version(binaries: Path) -> str:
    """Give what ``postgres --version`` says."""
    return subprocess.run(
        [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()


@dataclass
class PostgresqlServer:
    """One server in one folder. ``start``, ``kill`` and ``stop`` may follow each other as often as a test likes."""

    binaries: Path
    folder: Path
    user: str | None
    """Whose rights the server has; ``None`` for our own."""
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    schema_count: int = 0

    @property
    def socket_folder(self) -> Path:
        """Where the server listens."""
        return self.folder / "socket"

    def url(self, *, database: str = "postgres", options: str = "") -> str:
        """Give the URL of a database of this server; ``options`` are settings of the session, ``-cname=value``."""
        name = self.user or pwd.getpwuid(os.geteuid()).pw_name
        query = f"?host={quote(str(self.socket_folder), safe='')}"
        query += f"&options={quote(options, safe='')}" if options else ""
        return f"postgresql+psycopg://{name}@/{database}{query}"

    def start(self) -> None:
        """Start the server and wait until it answers; after a kill this recovers what was committed."""
        if self.process is not None:
            raise RuntimeError("the server runs already")
        options = [f"--{name}={value}" for name, value in (SETTINGS | self.settings).items()]
        options.append(f"--unix_socket_directories={self.socket_folder}")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.folder / "data", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent(os.getpid()),  # noqa: PLW1509 - set between fork and exec, or never
                cwd=self.folder,
                **self.rights(),
            )
        self._await(self.is_ready, START_TIME_S_MAX, "answer")

    def kill(self) -> None:
        """Kill the postmaster without a farewell, and wait until its children have noticed."""
        if self.process is None:
            return
        process, self.process = self.process, None
        children = _descendants(process.pid)
        process.kill()
        process.wait()
        deadline = time.monotonic() + STOP_TIME_S_MAX
        while alive := [child for child in children if _is_alive(child)]:
            if time.monotonic() > deadline:
                for child in alive:
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop the server for sure: at once, for its data are of no more use, and else by force."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(STOP_TIME_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def run(self, statement: str, values: Sequence[object] = (), *, options: str = "") -> list[Row]:
        """Run one statement (``%s`` for each value) by itself as the server's superuser, and give its rows."""
        import psycopg

        with psycopg.connect(self.url(options=options).replace("+psycopg", "", 1), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def new_schema(self) -> str:
        """Make an empty schema and give its name; it costs a fraction of a database."""
        self.schema_count += 1
        name = f"store_{self.schema_count}"
        self.run(f"CREATE SCHEMA {name}")
        return name

    def log(self) -> str:
        """Give what the server has written so far."""
        return (self.folder / "log").read_text(errors="replace")

    def _initialise(self) -> None:
        command = [self.binaries / "initdb", "-D", self.folder / "data", "--no-sync", "--auth=trust", "--no-locale"]
        with (self.folder / "log").open("wb") as log:
            done = subprocess.run(
                [*command, "--encoding=UTF8"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                check=False,
                **self.rights(),
            )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{self.log()}")

    def rights(self) -> dict[str, Any]:
        """Give the arguments with which a program runs as the unprivileged user: PostgreSQL refuses to run as root."""
        if self.user is None:
            return {}
        return {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}

    def is_ready(self) -> bool:
        """Say whether the server answers."""
        import psycopg

        if self.process is None or self.process.poll() is not None:
            self.process = None
            raise RuntimeError(f"the server ended by itself:\n{self.log()[-4000:]}")
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _await(self, condition: Callable[[], bool], time_s_max: int, what: str) -> None:
        deadline = time.monotonic() + time_s_max
        while not condition():
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the server did not {what} within {time_s_max} s:\n{self.log()[-4000:]}")
            time.sleep(0.02)


def new_server(settings: dict[str, str] | None = None) -> PostgresqlServer:
    """Make and start a server, or skip the test that asks for it when its programs are not on this machine."""
    binaries = find_binaries()
    user = unprivileged_user() if os.geteuid() == 0 else None
    reason = MISSING if binaries is None else "PostgreSQL does not run as root, and there is no other user here."
    if binaries is None or (os.geteuid() == 0 and user is None):
        if os.environ.get("HUGANG_POSTGRESQL") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="hugang-"))
    if len(str(folder)) > SOCKET_PATH_SIZE_MAX:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="hugang-", dir="/tmp"))
    server = PostgresqlServer(binaries, folder, user, settings or {})
    try:
        server.socket_folder.mkdir(mode=0o700)
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(server.socket_folder, user)
        server._initialise()
        server.start()
    except BaseException:
        remove(server)
        raise
    return server


def remove(server: PostgresqlServer) -> None:
    """Stop a server and remove its folder."""
    server.stop()
    shutil.rmtree(server.folder)


def unprivileged_user() -> str | None:
    """Name an existing user who is not root."""
    known = {entry.pw_name for entry in pwd.getpwall() if entry.pw_uid}
    return next((name for name in UNPRIVILEGED_USERS if name in known), None)


def _end_with_parent(parent: int) -> Callable[[], None]:
    """Ask the kernel to shut the server down when the test process dies, however it dies."""
    library = ctypes.CDLL(None)

    def ask() -> None:
        library.prctl(1, int(signal.SIGQUIT))
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listing.read_text().split():
            children += [int(child), *_descendants(int(child))]
    return children


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- make postgres ----------------------------------------------------------------------------------------------------

APT = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--no-install-recommends")
APT_CLUSTER = Path("/etc/postgresql-common/createcluster.conf")
INSTALLERS: dict[str, tuple[tuple[str, ...], ...]] = {
    # Debian starts a server of its own on installation unless it is told not to; the tests start theirs.
    "apt-get": (("apt-get", "update"), (*APT, "postgresql-common"), (*APT, "postgresql")),
    "dnf": (("dnf", "install", "--assumeyes", "postgresql-server"),),
    "apk": (("apk", "add", "postgresql"),),
}


def say(sentence: str) -> None:
    """Tell whoever runs ``make postgres``."""
    sys.stdout.write(f"postgres: {sentence}\n")
    sys.stdout.flush()


def install() -> None:
    """Install the server's programs with the system's package manager, as far as that is possible here."""
    manager = next((name for name in INSTALLERS if shutil.which(name)), None)
    if os.geteuid() != 0 or manager is None:
        return
    say(f"the server's programs are missing; installing them with {manager}")
    for command in INSTALLERS[manager]:
        if command[-1] == "postgresql" and APT_CLUSTER.is_file():
            _refuse_cluster()
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            say(f"this failed: {' '.join(command)}")
            return


def _refuse_cluster() -> None:
    lines = APT_CLUSTER.read_text()
    APT_CLUSTER.write_text(re.sub(r"(?m)^#?\s*create_main_cluster\b.*$", "create_main_cluster = false", lines))


def serve(settings: dict[str, str]) -> int:
    """Keep a server until standard input ends; print where it is as JSON: ``user``, ``socket`` and ``version``."""
    binaries = find_binaries()
    if binaries is None:
        sys.stderr.write(MISSING + "\n")
        return 1
    server = new_server(settings)
    try:
        user = server.user or pwd.getpwuid(os.geteuid()).pw_name
        where = {"user": user, "socket": str(server.socket_folder), "version": version(binaries)}
        sys.stdout.write(json.dumps(where) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
    finally:
        remove(server)
    return 0


def main(arguments: list[str]) -> int:
    """Say where the server's programs are, installing them if need be.

    With ``--check`` nothing is said or installed, and the result is 0 exactly when they are there. ``--serve``, and
    settings of the server as ``name=value``, keeps a server.
    """
    if arguments == ["--check"]:
        return int(find_binaries() is None)
    if arguments[:1] == ["--serve"]:
        return serve(dict(argument.split("=", 1) for argument in arguments[1:]))
    if find_binaries() is None:
        install()
    binaries = find_binaries()
    if binaries is None:
        say(MISSING)
        return 0
    say(f"{version(binaries)} in {binaries}; the tests start servers of their own from it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
