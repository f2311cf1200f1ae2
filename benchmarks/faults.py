"""Kill processes while they work, start them again on the same data, and look for anything lost.

``python -m benchmarks.faults --points 60 --seed 1`` starts two nodes and the settlement operator as processes on
loopback, funds a small network, and then, point by point: sends payments both ways and settles the window, while one of
the three is killed (SIGKILL) at a crossing or at a random instant; starts it again on the same data; sends again, under
the same keys, what was not acknowledged; lets the window settle. After each point it checks that every acknowledged
payment has settled on both sides, that both nodes say the same of the window, and that each participant holds exactly
what follows from the payments; at the end it verifies and reconciles both exports.

It prints one JSON document, and exits with 0 only if everything was recovered and nothing was lost.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import NAMES, Processes
from gateway.cli.exits import ExitCode
from gateway.client import Client, ClientError, ProblemError
from gateway.config import init_network, network_folder
from gateway.demo.cast import Bank, institution
from gateway.demo.opening import Opening
from gateway.names import party_key
from gateway.supervisor import free_ports
from gateway.verification import find_exports, verify_exports
from ledger.exports import FILE_NAME
from ledger.runtime import SystemRuntime
from settlement.workload import Day, wholesale_day

__all__ = ["main"]

PARTICIPANT_COUNT = 4
FUNDING = 1_000_000_00
PAYMENT_COUNT = 6
"""Payments of one point, half of them in each direction."""
AMOUNT_MAX = 1_000_00
SETTLE_S_MAX = 90
CLEAN_CROSSING = 10**8


class _Silent:
    """Shows nothing."""

    def advance(self, count: int = 1) -> None:
        """Go on."""


@dataclass
class Payment:
    """One payment: who pays whom (indices), and whether a node has acknowledged it."""

    uetr: str
    key: str
    payer: int
    payee: int
    amount: int
    acknowledged: bool = False


@dataclass
class Point:
    """Where a process is killed: at its n-th crossing, or so many seconds into the round."""

    process: str
    crossing: int | None = None
    delay_s: float | None = None
    reached: str = ""
    """The crossing's name, ``instant``, or empty when the round was over before."""


@dataclass
class Result:
    """What all points came to."""

    tried: int = 0
    recovered: int = 0
    not_reached: int = 0
    acknowledged: int = 0
    lost: int = 0
    failures: list[str] = field(default_factory=list)
    by_point: collections.Counter[str] = field(default_factory=collections.Counter)


class Trial:
    """One network that is killed again and again."""

    def __init__(self, processes: Processes, day: Day, seed: int) -> None:
        """Use a network whose processes do not run yet."""
        self.processes = processes
        self.day = day
        self.result = Result()
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.runtime = SystemRuntime()
        self.keys = network_folder(processes.folder).keys()
        self.balances = [FUNDING] * len(day.participants)
        self.window = 0
        self._addresses: list[str] = []

    # --- before the first point ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start everything, open accounts and carry money to Hong Kong through the first window."""
        for name in NAMES:
            self.processes.start(name)
        for name in NAMES:
            self.processes.wait_ready(name)
        banks: tuple[Bank, ...] = tuple(institution(participant, FUNDING) for participant in self.day.participants)
        opening = Opening(self.processes.folder, banks, self.runtime, customers=())
        opening.register()
        opening.join(_Silent())
        opening.issue()
        opening.send_abroad()
        self._addresses = [opening.names.find(bank.code.lower()).address for bank in banks]
        self._finish_window()

    def clean_round(self) -> tuple[dict[str, int], float]:
        """Go through one round unharmed; gives the crossings of each node and the time of the round."""
        for name in ("sh", "hk"):
            if not self._restart(name, crash_at=CLEAN_CROSSING):
                raise RuntimeError(f"{name} did not start")
        started = time.monotonic()
        payments = self._payments()
        self._send(payments)
        self._finish_window()
        spent = time.monotonic() - started
        counts = {}
        for name in ("sh", "hk"):
            self.processes.children[name].terminate()
            self.processes.children[name].join()
            counts[name] = int(self.processes.trace(name).read_text())
            self.processes.start(name)
            self.processes.wait_ready(name)
        self._check(payments, "the clean round")
        return counts, spent

    # --- one point ----------------------------------------------------------------------------------------------------

    def attempt(self, point: Point) -> None:
        """Kill at one point, recover, check."""
        process = self.processes
        ready = self._restart(point.process, crash_at=point.crossing) if point.crossing is not None else True
        payments = self._payments()
        killer = None
        if point.delay_s is not None:
            killer = threading.Timer(point.delay_s, process.kill, (point.process,))
            killer.start()
        if ready:
            self._send(payments)
            self._begin()
            self._watch(point.process)
        if killer is not None:
            killer.join()
            point.reached = "instant"
        if not process.is_alive(point.process):
            if point.crossing is not None:
                point.reached = process.trace(point.process).read_text()
            process.children[point.process].join()
        if point.reached or point.crossing is not None:
            self._restart(point.process)  # also one that is armed still: it must not die in a later round
        self._send(payments)
        self._finish_window()
        if point.reached:
            self.result.tried += 1
            self.result.by_point[f"{point.process} {point.reached}"] += 1
            if self._check(payments, f"{point.process} at {point.reached} ({point.crossing or point.delay_s})"):
                self.result.recovered += 1
        else:
            self.result.not_reached += 1
            self._check(payments, "a round that was over before its point")

    def _restart(self, name: str, *, crash_at: int | None = None) -> bool:
        """Kill a process if it runs, and start it on the same data; whether it became ready."""
        if self.processes.is_alive(name):
            self.processes.kill(name)
        self.processes.start(name, crash_at=crash_at)
        return self.processes.wait_ready(name)

    def _payments(self) -> list[Payment]:
        half = len(self.day.participants) // 2
        made = []
        for number in range(PAYMENT_COUNT):
            home, abroad = self.random.integers(0, half, 2)
            payer, payee = int(home), int(abroad) + half
            if number % 2:
                payer, payee = payee, payer
            amount = int(self.random.integers(1, AMOUNT_MAX))
            made.append(Payment(str(self.runtime.uuid4()), str(self.runtime.uuid4()), payer, payee, amount))
        return made

    def _send(self, payments: list[Payment]) -> None:
        """Send what is not acknowledged yet, each once, under its own key."""
        for payment in payments:
            if payment.acknowledged:
                continue
            participant = self.day.participants[payment.payer]
            key = party_key(self.processes.folder, participant.bic)
            with self.processes.client(participant.ledger.lower(), key, try_count=1) as client:
                try:
                    client.pay(
                        debtor=self._addresses[payment.payer],
                        creditor=self._addresses[payment.payee],
                        asset="CNY",
                        amount=payment.amount,
                        uetr=payment.uetr,
                        idempotency_key=payment.key,
                    )
                except ProblemError as error:
                    if error.status != 503:
                        raise
                except ClientError:
                    pass
                else:
                    payment.acknowledged = True

    def _begin(self) -> None:
        """Ask for a cycle; whoever has just died cannot answer."""
        try:
            with self.processes.client("operator", self.keys.settlement, try_count=1) as client:
                client.start_cycle()
        except ClientError:
            pass

    def _watch(self, name: str) -> None:
        """Wait until the process has died or the window has settled."""
        deadline = time.monotonic() + SETTLE_S_MAX
        while self.processes.is_alive(name) and time.monotonic() < deadline:
            if all(state == "SETTLED" for state in self._states(self.window + 1)):
                return
            time.sleep(0.02)

    def _states(self, number: int) -> Iterator[str]:
        """Give the state of a window at each node; a node that does not answer says nothing."""
        for ledger in ("sh", "hk"):
            try:
                with self._auditor(ledger, try_count=1) as client:
                    yield str(client.window(number)["state"])
            except ClientError:
                yield "?"

    def _auditor(self, ledger: str, *, try_count: int = 6) -> Client:
        return self.processes.client(ledger, self.keys.auditor, try_count=try_count)

    def _finish_window(self) -> None:
        """Let the window that is under way settle on both sides, asking again for as long as it takes."""
        number = self.window + 1
        deadline = time.monotonic() + SETTLE_S_MAX
        asked = 0.0
        while not all(state == "SETTLED" for state in self._states(number)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"window {number} is not settled on both sides; alive: {self._alive()}")
            if time.monotonic() > asked:
                asked = time.monotonic() + 0.5
                if "OPEN" in set(self._states(number)):
                    self._begin()
            time.sleep(0.02)
        self.window = number

    def _alive(self) -> list[str]:
        return [name for name in NAMES if self.processes.is_alive(name)]

    # --- what must hold -----------------------------------------------------------------------------------------------

    def _check(self, payments: list[Payment], where: str) -> bool:
        """Hold both nodes against what was sent; whatever is wrong is noted."""
        faults = []
        with self._auditor("sh") as shanghai, self._auditor("hk") as hong_kong:
            nodes = {"SH": shanghai, "HK": hong_kong}
            for payment in payments:
                ledger = self.day.participants[payment.payer].ledger
                other = self.day.participants[payment.payee].ledger
                self.result.acknowledged += payment.acknowledged
                states = [self._state(nodes[at], payment.uetr) for at in (ledger, other)]
                if not payment.acknowledged:
                    faults.append(f"payment {payment.uetr} was never acknowledged")
                elif states != ["SETTLED", "SETTLED"]:
                    self.result.lost += 1
                    faults.append(f"payment {payment.uetr} is {states}")
                self.balances[payment.payer] -= payment.amount
                self.balances[payment.payee] += payment.amount
            views = {at: client.window(self.window) for at, client in nodes.items()}
            if (
                views["SH"]["statements"] != views["HK"]["statements"]
                or views["SH"]["attempt"] != views["HK"]["attempt"]
            ):
                faults.append(f"the nodes hold other statements of window {self.window}")
            for participant, address, amount in zip(self.day.participants, self._addresses, self.balances, strict=True):
                held = int(nodes[participant.ledger].account(address)["available"])
                if held != amount:
                    faults.append(f"{participant.bic} holds {held}, not {amount}")
        self.result.failures += [f"{where}: {fault}" for fault in faults]
        return not faults

    @staticmethod
    def _state(client: Client, uetr: str) -> str:
        try:
            return str(client.payment(uetr)["state"])
        except ProblemError as error:
            return error.code

    def verdict(self, folder: Path) -> dict[str, Any]:
        """Export both journals and verify them together."""
        for ledger in ("sh", "hk"):
            place = folder / ledger
            place.mkdir(parents=True)
            with self._auditor(ledger) as client:
                client.export_to(place / FILE_NAME)
        checked = verify_exports(find_exports(folder), runtime=self.runtime)
        proved = sum(window.settled for window in checked.windows)
        return {
            "verdict": checked.verdict,
            "windows": len(checked.windows),
            "payments": proved,
            "failure": None if checked.failure is None else checked.failure.sentence,
        }


def schedule(generator: np.random.Generator, count: int, crossings: dict[str, int], round_s: float) -> list[Point]:
    """Spread points over the crossings of both nodes, evenly from a random start, and over instants of all three.

    Two of three are crossings: there the process stands exactly between two things that matter.
    """
    points = []
    numbers = {name: int(generator.integers(0, total)) for name, total in crossings.items()}
    at_crossings = max(1, 2 * count // 3)
    for index in range(count):
        if index % 3 == 2:
            name = NAMES[index // 3 % 3]
            points.append(Point(name, delay_s=float(generator.uniform(0, 1.2 * round_s))))
        else:
            name = ("sh", "hk")[index % 3]
            step = max(1, round(2 * crossings[name] / at_crossings))
            points.append(Point(name, crossing=numbers[name] % crossings[name] + 1))
            numbers[name] += step
    return points


def run(*, points: int, seed: int, time_s_max: int) -> dict[str, Any]:
    """Try ``points`` points, or as many as fit into the time."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "network"
        init_network(folder, SystemRuntime(), ports=free_ports())
        day = wholesale_day(seed, payment_count=1, participant_count=PARTICIPANT_COUNT)
        with Processes(folder) as processes:
            trial = Trial(processes, day, seed)
            trial.open()
            crossings, round_s = trial.clean_round()
            planned = schedule(trial.random, points, crossings, round_s)
            for number, point in enumerate(planned, start=1):
                if time.monotonic() - started > time_s_max:
                    break
                trial.attempt(point)
                print(f"{number:4} of {points}: {point.process:8} {point.reached or 'not reached'}", file=sys.stderr)
            verdict = trial.verdict(Path(place) / "exports")
    result = trial.result
    return {
        "seed": seed,
        "points": points,
        "tried": result.tried,
        "recovered": result.recovered,
        "lost": result.lost,
        "not_reached": result.not_reached,
        "acknowledged": result.acknowledged,
        "crossings": crossings,
        "by_point": dict(sorted(result.by_point.items())),
        "verifier": verdict,
        "failures": result.failures,
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description="Kill processes while they work, and look for anything lost.")
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=600, help="start no further point after this time")
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    found = run(points=options.points, seed=options.seed, time_s_max=options.seconds)
    print(json.dumps(found, indent=2))
    good = found["tried"] == found["recovered"] > 0 and not found["lost"] and not found["failures"]
    sys.exit(ExitCode.OK if good and found["verifier"]["verdict"] == "verified" else ExitCode.INTEGRITY)


if __name__ == "__main__":
    main()
