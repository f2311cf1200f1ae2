"""The supervisor's bookkeeping: which process is alive, which ports are used, and who may start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import supervisor
from gateway.config import Ports, init_network, load_node_config, load_operator_config, network_folder
from gateway.supervisor import Process, Supervisor, configured_ports, free_ports, is_alive, running, set_ports
from ledger.errors import Conflict, MalformedInput, Unavailable
from ledger.runtime import ManualRuntime, SystemRuntime


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A network on ports that are free."""
    init_network(tmp_path, ManualRuntime(), ports=free_ports())
    return tmp_path


def own_process(name: str = "sh", *, late_ticks: int = 0) -> Process:
    """This very process, or one that the kernel started ``late_ticks`` later under the same id."""
    return Process(name, os.getpid(), (supervisor._start_ticks(os.getpid()) or 0) + late_ticks, "http://127.0.0.1:1")


def test_a_process_is_known_by_its_start() -> None:
    """A process counts as alive only when both its id and its start are those written down."""
    assert is_alive(own_process())
    assert not is_alive(own_process(late_ticks=1))


def test_a_process_that_nobody_has_buried_is_not_alive() -> None:
    """A process that has ended but was not waited for is not alive."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process("sh", child.pid, supervisor._start_ticks(child.pid) or 0, "")
    assert is_alive(process)
    child.kill()
    while supervisor._start_ticks(child.pid) is not None:
        os.sched_yield()
    assert not is_alive(process)
    child.communicate()


def test_a_folder_without_run_file_runs_nothing(tmp_path: Path) -> None:
    """Where nothing was started, nothing runs and there is nothing to end."""
    assert running(tmp_path) == []
    assert supervisor.stop_processes(tmp_path, SystemRuntime()) == []


def test_the_run_file_goes_with_the_last_process(tmp_path: Path) -> None:
    """The run file names what runs, and is removed when nothing does."""
    supervisor._write_run_file(tmp_path, [own_process(), own_process("hk", late_ticks=1)])
    assert [process.name for process in running(tmp_path)] == ["sh"]
    supervisor._write_run_file(tmp_path, [])
    assert not (tmp_path / supervisor.RUN_FILE).exists()


def test_a_torn_run_file_is_refused(tmp_path: Path) -> None:
    """A run file that cannot be read is an error and not an empty list."""
    (tmp_path / supervisor.RUN_FILE).write_bytes(b'{"processes": [')
    with pytest.raises(MalformedInput, match="RUN_FILE_MALFORMED"):
        running(tmp_path)


def test_ports_reach_all_three_settings(folder: Path) -> None:
    """Changing the ports changes every address that names one of the three processes."""
    set_ports(folder, Ports(sh=9001, hk=9002, operator=9003))
    layout = network_folder(folder)
    assert configured_ports(folder) == Ports(sh=9001, hk=9002, operator=9003)
    assert load_node_config(layout.sh).peer_url == "http://127.0.0.1:9002"
    assert load_node_config(layout.hk).peer_url == "http://127.0.0.1:9001"
    operator = load_operator_config(layout.operator)
    assert (operator.sh_url, operator.hk_url) == ("http://127.0.0.1:9001", "http://127.0.0.1:9002")


def test_free_ports_differ() -> None:
    """Three free ports are three different ports."""
    ports = free_ports()
    assert len({ports.sh, ports.hk, ports.operator}) == 3


def test_nothing_starts_without_a_network(tmp_path: Path) -> None:
    """A folder that holds no network cannot be started."""
    with pytest.raises(MalformedInput, match="NETWORK_MISSING"), Supervisor(tmp_path, SystemRuntime()) as processes:
        processes.start()


def test_what_runs_is_not_started_again(folder: Path) -> None:
    """A process that is written down and alive is not started a second time."""
    supervisor._write_run_file(folder, [own_process("hk")])
    with pytest.raises(Conflict, match="ALREADY_RUNNING"):
        Supervisor(folder, SystemRuntime()).start()


def test_two_starts_do_not_meet(folder: Path) -> None:
    """While one start holds the folder, another is refused."""
    with supervisor._locked(folder), pytest.raises(Conflict, match="ALREADY_STARTING"):
        Supervisor(folder, SystemRuntime()).start()


def test_a_taken_port_is_named(folder: Path) -> None:
    """When somebody listens on a port, the start is refused before any process is started."""
    from http.server import BaseHTTPRequestHandler, HTTPServer

    server = HTTPServer(("127.0.0.1", configured_ports(folder).hk), BaseHTTPRequestHandler)
    with server, pytest.raises(Unavailable, match="PORT_TAKEN") as caught:
        Supervisor(folder, SystemRuntime()).start()
    assert caught.value.fields["name"] == "hk"
    assert running(folder) == []
