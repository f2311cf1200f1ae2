"""Starts the three processes of a network, waits until they answer, and ends them by their process ids.

What runs is written down in ``FOLDER/run.json``: name, process id, the instant the kernel started it, and its address.
A process counts as running only while the process of that id is the one that was started, so that an id which the
system has given to somebody else is never signalled. A lock file keeps two starts on one folder apart.

A network either belongs to the process that started it (``Supervisor`` as a context manager: children end with it, even
when it is killed, because they read the end of a pipe) or is left running on its own (``detached=True``).
"""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import httpx
import msgspec

from gateway.config import (
    LEDGERS,
    NODE_FILE,
    OPERATOR_FILE,
    Ports,
    load_node_config,
    load_operator_config,
    network_folder,
)
from gateway.replaying import last_note
from ledger.errors import Conflict, MalformedInput, Unavailable
from ledger.runtime import Runtime, free_port, port_is_free

__all__ = [
    "LOG_FOLDER",
    "NAMES",
    "RUN_FILES",
    "Process",
    "Supervisor",
    "configured_ports",
    "free_ports",
    "is_alive",
    "network_exists",
    "running",
    "set_ports",
    "stop_processes",
]

NAMES = ("sh", "hk", "operator")
"""The three processes, in the order in which they start; they end in the reverse order."""
RUN_FILE = "run.json"
LOCK_FILE = "run.lock"
RUN_FILES = (RUN_FILE, LOCK_FILE)
LOG_FOLDER = "logs"
READY_TIME_S_MAX = 60
STOP_TIME_S_MAX = 20
POLL_TIME_S = 0.05
LOG_TAIL_SIZE = 2_000
"""Bytes of a dead process's log that are looked at; its last line is shown."""


class Process(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One process that was started: ``started`` is its start in the kernel's ticks, so that the id is unmistakable."""

    name: Annotated[str, msgspec.Meta(pattern="^(sh|hk|operator)$")]
    pid: Annotated[int, msgspec.Meta(ge=2, lt=2**31)]
    started: Annotated[int, msgspec.Meta(ge=0)]
    url: str


class _RunFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    processes: tuple[Process, ...]


class Supervisor:
    """The three processes of one network, started by this process."""

    def __init__(
        self,
        folder: Path,
        runtime: Runtime,
        *,
        detached: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            folder: of the network.
            runtime: gives the time.
            detached: whether the processes outlive this one.
            environment: what to add to the children's environment.
        """
        self.folder = folder
        self._runtime = runtime
        self._detached = detached
        self._environment = dict(environment or {})
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._log_starts: dict[str, int] = {}
        """Where in its log each child begins."""
        self._pause = threading.Event()

    def __enter__(self) -> Self:
        """Take the folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what was started, unless it is to stay."""
        if not self._detached or kind is not None:
            self.stop()

    def start(self, names: Iterable[str] = NAMES, *, environment: Mapping[str, str] | None = None) -> None:
        """Start processes that are not running yet, and write down what runs.

        Args:
            names: which ones.
            environment: more for the environment of just these.

        Raises:
            Conflict: one of them runs already, or another start is under way.
            MalformedInput: the folder holds no network.
            Unavailable: a port is taken.
        """
        with _locked(self.folder):
            present = running(self.folder)
            taken = sorted(set(names) & {process.name for process in present})
            if taken:
                raise Conflict("ALREADY_RUNNING", "These processes run already.", names=" ".join(taken))
            self._refuse_taken_ports(names)
            started = [self._spawn(name, environment or {}) for name in NAMES if name in set(names)]
            _write_run_file(self.folder, [*present, *started])

    def wait_ready(
        self,
        names: Iterable[str] = NAMES,
        *,
        time_s_max: int = READY_TIME_S_MAX,
        progress: Callable[[int, int], None] = lambda _height, _count: None,
    ) -> None:
        """Wait until each answers its health address.

        Args:
            names: which ones.
            time_s_max: how long each may take; begins anew whenever a node says that it has replayed more blocks.
            progress: told the block that a node has come to, and how many it has.

        Raises:
            Unavailable: one of them ended, or did not answer in time.
        """
        urls = _urls(self.folder)
        with httpx.Client(timeout=2, trust_env=False) as client:
            for name in names:
                self._wait_for(name, functools.partial(_answers, client, urls[name]), time_s_max, progress)

    def _wait_for(
        self, name: str, answers: Callable[[], bool], time_s_max: int, progress: Callable[[int, int], None]
    ) -> None:
        """Wait until one answers, as long as it goes on replaying."""
        deadline_ns, said = self._runtime.monotonic_ns() + time_s_max * 1_000_000_000, None
        while not answers():
            self._refuse_ended(name)
            now_ns, note = self._runtime.monotonic_ns(), self._replayed(name)
            if note is not None and note != said:
                deadline_ns, said = now_ns + time_s_max * 1_000_000_000, note
                progress(*note)
            if now_ns > deadline_ns:
                raise Unavailable("NOT_READY", "A process did not become ready in time.", name=name)
            self._pause.wait(POLL_TIME_S)

    def _replayed(self, name: str) -> tuple[int, int] | None:
        """Give what a child has said last about its replay, if it has."""
        start = self._log_starts.get(name)
        return None if start is None else last_note(self.folder / LOG_FOLDER / f"{name}.log", start)

    def ended(self) -> dict[str, int]:
        """Give the children that have ended by themselves, with their exit status (negative: the signal)."""
        codes = {name: child.poll() for name, child in self._children.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def kill(self, name: str) -> int:
        """End one child without any farewell (SIGKILL) and wait for it; gives its exit status."""
        child = self._children[name]
        child.kill()
        status = child.wait()
        self._release(name)
        return status

    def await_end(self, name: str, *, time_s_max: int) -> int | None:
        """Wait for a child to end by itself; its exit status, or ``None`` when it is still there."""
        try:
            status = self._children[name].wait(time_s_max)
        except subprocess.TimeoutExpired:
            return None
        self._release(name)
        return status

    def process_id(self, name: str) -> int:
        """Give the process id of a child."""
        return self._children[name].pid

    def stop(self) -> None:
        """Ask all children to end (SIGTERM), wait, and kill those that do not."""
        for name in reversed(NAMES):
            if name in self._children:
                self._children[name].terminate()
        for child in self._children.values():
            try:
                child.wait(STOP_TIME_S_MAX)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for name in list(self._children):
            self._release(name)

    def _spawn(self, name: str, environment: Mapping[str, str]) -> Process:
        """Start one process in a session of its own: a Ctrl-C reaches only the one who supervises."""
        command = [sys.executable, "-m", "gateway.cli", *_arguments(self.folder, name)]
        if not self._detached:
            command.append("--stop-with-parent")
        logs = self.folder / LOG_FOLDER
        logs.mkdir(exist_ok=True)
        with (logs / f"{name}.log").open("ab") as log:
            self._log_starts[name] = log.tell()
            child = subprocess.Popen(  # noqa: S603 - our own interpreter with fixed arguments
                command,
                stdin=subprocess.DEVNULL if self._detached else subprocess.PIPE,  # a pipe closes when we are gone
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self._environment, **environment},
            )
        self._children[name] = child
        return Process(name, child.pid, _start_ticks(child.pid) or 0, _urls(self.folder)[name])

    def _refuse_taken_ports(self, names: Iterable[str]) -> None:
        ports = configured_ports(self.folder)
        for name in names:
            port = getattr(ports, name)
            if not port_is_free(port):
                raise Unavailable(
                    "PORT_TAKEN", "Somebody else listens on this port; --ports free takes others.", name=name, port=port
                )

    def _refuse_ended(self, name: str) -> None:
        child = self._children.get(name)
        status = child.poll() if child is not None else None
        if status is not None:
            tail = (self.folder / LOG_FOLDER / f"{name}.log").read_bytes()[-LOG_TAIL_SIZE:].decode(errors="replace")
            said = (tail.strip().splitlines() or [""])[-1]
            raise Unavailable(
                "PROCESS_ENDED", "A process ended before it was ready.", name=name, status=status, log=said
            )

    def _release(self, name: str) -> None:
        """Let go of a child that has ended, and take it out of the run file."""
        child = self._children.pop(name)
        if child.stdin is not None:
            child.stdin.close()
        _write_run_file(self.folder, [process for process in _read_run_file(self.folder) if process.name != name])


def network_exists(folder: Path) -> bool:
    """Say whether a network was laid out in this folder."""
    layout = network_folder(folder)
    return all((layout.node(ledger) / NODE_FILE).is_file() for ledger in LEDGERS)


def running(folder: Path) -> list[Process]:
    """Give the processes of this folder's network that are alive now, whoever started them."""
    return [process for process in _read_run_file(folder) if is_alive(process)]


def is_alive(process: Process) -> bool:
    """Say whether this very process is alive: the same id and the same start."""
    return _start_ticks(process.pid) == process.started


def stop_processes(folder: Path, runtime: Runtime) -> list[Process]:
    """End what runs in this folder, by process id: SIGTERM first, SIGKILL after a while. Gives what was ended."""
    found = sorted(running(folder), key=lambda process: NAMES.index(process.name), reverse=True)
    for process in found:
        _signal(process, signal.SIGTERM)
    deadline_ns = runtime.monotonic_ns() + STOP_TIME_S_MAX * 1_000_000_000
    pause = threading.Event()
    while any(map(is_alive, found)):
        if runtime.monotonic_ns() > deadline_ns:
            for process in found:
                _signal(process, signal.SIGKILL)
        pause.wait(POLL_TIME_S)
    _write_run_file(folder, running(folder))
    return found


def configured_ports(folder: Path) -> Ports:
    """Read the ports that the settings name.

    Raises:
        MalformedInput: the folder holds no network.
    """
    if not network_exists(folder):
        raise MalformedInput(
            "NETWORK_MISSING",
            "No network lies there; go to the folder of your clone, or name the network's folder with --dir.",
            folder=str(folder.resolve()),
        )
    layout = network_folder(folder)
    return Ports(
        sh=load_node_config(layout.sh).port,
        hk=load_node_config(layout.hk).port,
        operator=load_operator_config(layout.operator).port,
    )


def set_ports(folder: Path, ports: Ports) -> None:
    """Write other ports into the settings of all three processes.

    Raises:
        MalformedInput: the folder holds no network.
    """
    layout = network_folder(folder)
    configs = {ledger: load_node_config(layout.node(ledger)) for ledger in LEDGERS}
    operator = load_operator_config(layout.operator)
    numbers = {"SH": ports.sh, "HK": ports.hk}
    urls = {ledger: f"http://{configs[ledger].host}:{numbers[ledger]}" for ledger in LEDGERS}
    for ledger, other in (("SH", "HK"), ("HK", "SH")):
        changed = msgspec.structs.replace(configs[ledger], port=numbers[ledger], peer_url=urls[other])
        _write_whole(layout.node(ledger) / NODE_FILE, changed)
    changed_operator = msgspec.structs.replace(operator, port=ports.operator, sh_url=urls["SH"], hk_url=urls["HK"])
    _write_whole(layout.operator / OPERATOR_FILE, changed_operator)


def free_ports() -> Ports:
    """Give three different loopback ports that are free at this moment."""
    found: list[int] = []
    while len(found) < len(NAMES):
        port = free_port()
        if port not in found:
            found.append(port)
    return Ports(sh=found[0], hk=found[1], operator=found[2])


def _arguments(folder: Path, name: str) -> list[str]:
    where = ["--dir", str(folder)]
    return ["operator", *where] if name == "operator" else ["node", name, *where]


def _urls(folder: Path) -> dict[str, str]:
    ports = configured_ports(folder)
    return {name: f"http://127.0.0.1:{getattr(ports, name)}" for name in NAMES}


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/v1/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second start on the same folder out; the system lets go of the lock when its holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict("ALREADY_STARTING", "Another start on this folder is under way.") from error
        yield


def _start_ticks(pid: int) -> int | None:
    """Give when a process started, in ticks since boot; ``None`` when it is gone or only waits to be buried.

    Field 22 of /proc/PID/stat; the name in field 2 may hold blanks and brackets, so count from the last bracket.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


def _signal(process: Process, number: signal.Signals) -> None:
    if is_alive(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def _read_run_file(folder: Path) -> tuple[Process, ...]:
    try:
        return msgspec.json.decode((folder / RUN_FILE).read_bytes(), type=_RunFile).processes
    except FileNotFoundError:
        return ()
    except msgspec.DecodeError as error:
        raise MalformedInput("RUN_FILE_MALFORMED", f"{RUN_FILE} cannot be read: {error}") from error


def _write_run_file(folder: Path, processes: list[Process]) -> None:
    """Write down what runs; with nothing left the file goes."""
    if processes:
        _write_whole(folder / RUN_FILE, _RunFile(tuple(processes)))
    else:
        (folder / RUN_FILE).unlink(missing_ok=True)


def _write_whole(path: Path, content: msgspec.Struct) -> None:
    """Replace a file so that a reader sees the old one or the new one, never a part."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    draft.replace(path)
