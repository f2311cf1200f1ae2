"""The demonstration, step by step: it prints each command it runs, runs it, and compares what comes of it.

What must come of it is worked out here, from what was sent, never read from a node. The first step measures nothing but
the compiled kernel's cache; the last says what to do next.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.cli import run
from gateway.cli.connect import as_auditor
from gateway.cli.doctor import findings
from gateway.cli.exits import ExitCode
from gateway.cli.options import DEFAULT_FOLDER
from gateway.cli.terminal import Terminal, money, thousands
from gateway.config import load_genesis, network_folder
from gateway.demo.bulk import Sent, send_day, uetr_text
from gateway.demo.cast import BANKS, CUSTOMERS, ENDINGS, FX_PROVIDER, QUOTES, institution
from gateway.demo.opening import Opening
from gateway.demo.report import REPORT_FILE, Report
from gateway.demo.tamper import flip_amount
from gateway.names import NAMES_FILE, save_names
from gateway.supervisor import LOG_FOLDER, RUN_FILES, Supervisor, free_ports, network_exists, running
from gateway.verification import Verification
from ledger.errors import Conflict
from ledger.exports import FILE_NAME
from ledger.genesis import genesis_hash
from ledger.meters import business_day
from ledger.runtime import Runtime
from settlement.warm import warm
from settlement.workload import Day

__all__ = ["Demonstration", "clear_folder"]

EXPORT_FOLDER = "exports"
TAMPERED_FOLDER = "tampered"
QUOTE_DAYS = 30
OWN_ENTRIES = frozenset(
    {"sh", "hk", "operator", "keys", LOG_FOLDER, EXPORT_FOLDER, TAMPERED_FOLDER, NAMES_FILE, REPORT_FILE, *RUN_FILES}
)
"""All that a demonstration ever writes into its folder."""


def clear_folder(folder: Path) -> None:
    """Remove what an earlier demonstration left, and nothing else.

    Raises:
        Conflict: its processes still run, or something else lies there.
    """
    if not folder.exists():
        return
    if running(folder):
        raise Conflict(
            "STILL_RUNNING", "A network of this folder still runs; end it with `hugang down`.", folder=str(folder)
        )
    foreign = sorted({entry.name for entry in folder.iterdir()} - OWN_ENTRIES)
    if foreign:
        raise Conflict("FOLDER_IN_USE", "Something else lies in this folder.", folder=str(folder), entry=foreign[0])
    if any(folder.iterdir()) and not network_exists(folder) and not (folder / REPORT_FILE).exists():
        raise Conflict("FOLDER_IN_USE", "This is no folder of a demonstration.", folder=str(folder))
    shutil.rmtree(folder)


class Demonstration:
    """One run in one folder. ``run`` does everything; ``report`` says what was found, also after a failure."""

    def __init__(self, folder: Path, day: Day, runtime: Runtime, terminal: Terminal) -> None:
        """Play this day in this folder, which must be empty."""
        self.folder = folder
        self.day = day
        self.report = Report(runtime, seed=day.seed)
        self._runtime = runtime
        self._terminal = terminal
        self._step = 0

    def run(self) -> None:
        """Go through all steps; the three processes end at the end, or when a step fails.

        Raises:
            LedgerError: a step could not be done.
            ClientError: a node or the settlement operator said no where it must not.
        """
        with self._stage("environment", "The environment"):
            self._environment()
        with self._stage("start", "Three processes on free loopback ports"):
            supervisor = self._start()
        with supervisor:
            with self._stage("open", "Issuers, institutions, customers; the first window carries CNY to Hong Kong"):
                self._open()
            with self._stage("payments", "Single payments, each signed by its payer"):
                self._pay()
            with self._stage("day", "A day of wholesale payments in signed bulk messages"):
                sent = self._send_day()
            with self._stage("settle", "The window closes"):
                self._settle_day()
            with self._stage("balances", "What both ledgers hold"):
                self._check_balances()
            with self._stage("export", "Both journals are exported"):
                self._command("export", str(self.folder / EXPORT_FOLDER))
            with self.report.stage("stop"):
                supervisor.stop()
        with self._stage("verify", "An auditor replays them from the genesis keys alone"):
            self._verify()
        with self._stage("tamper", "One byte of a copy is changed"):
            self._tamper(sent)

    # --- 1 and 2 ------------------------------------------------------------------------------------------------------

    def _environment(self) -> None:
        faults = [finding for finding in findings(self.folder) if finding.verdict == "fault"]
        started_ns = self._runtime.monotonic_ns()
        warm()
        seconds = (self._runtime.monotonic_ns() - started_ns) / 1e9
        self._terminal.say(
            f"Python {sys.version.split()[0]}, {os.cpu_count()} cores; the kernels are compiled ({seconds:.1f} s)"
        )
        for fault in faults:
            self._terminal.fail(f"{fault.subject}: {fault.text}")
        self.report.expect("faults that hugang doctor finds", len(faults), 0)

    def _start(self) -> Supervisor:
        ports = free_ports()
        self._command("init", "--ports", f"{ports.sh},{ports.hk},{ports.operator}")
        self.report.network = load_genesis(network_folder(self.folder).sh / "genesis.json").network
        self._echo("up")
        supervisor = Supervisor(self.folder, self._runtime)
        try:
            supervisor.start()
            supervisor.wait_ready()
            self._run("status")
        except BaseException:
            supervisor.stop()
            raise
        return supervisor

    # --- 3 ------------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        funding = self.day.funding()
        wholesale = tuple(
            institution(participant, int(funding[participant.index])) for participant in self.day.participants
        )
        self.opening = opening = Opening(self.folder, BANKS + wholesale, self._runtime)
        count = opening.register()
        with self._terminal.progress("participants join", len(opening.banks)) as meter:
            opening.join(meter)
        issued = opening.issue()
        opening.open_customers()
        save_names(self.folder, opening.names)
        self._terminal.say(
            f"{thousands(count)} parties registered, {len(opening.banks)} institutions have joined, "
            f"{len(CUSTOMERS)} accounts opened; issued {money(issued['CNY'], 'CNY')} and {money(issued['HKD'], 'HKD')}"
        )
        example = self.day.participants[0]
        self._terminal.say(f"all are invented, such as {example.name}: BIC {example.bic}, LEI {example.lei}")
        sent = opening.send_abroad()
        self._count_batch(sent["accepted_count"], sent["refused_count"])
        self.report.stored += opening.fund_customers("SH")
        self._terminal.say(f"the issuer in Shanghai pays {sent['item_count']} institutions in Hong Kong their CNY")
        self.book_payment = self._paid("pay", "lin", "book-shop", "66.00")
        self._settle(payment_count=sent["item_count"] + 1)
        self.report.stored += opening.fund_customers("HK")
        self._quote()
        self._limit()

    def _quote(self) -> None:
        """Let the FX provider publish what it pays for what."""
        until = dt.datetime.fromtimestamp(self._runtime.now_ns() // 10**9, dt.UTC) + dt.timedelta(days=QUOTE_DAYS)
        with self.opening.party("HK", FX_PROVIDER) as client:
            for offer in QUOTES:
                answer = client.quote(
                    sell=offer.sell,
                    maximum=offer.maximum,
                    buy=offer.buy,
                    rate=offer.rate,
                    expires=f"{until:%Y-%m-%dT%H:%M:%SZ}",
                )
                self.opening.names.quotes[f"{offer.buy}/{offer.sell}"] = answer["quote"]
                self._terminal.say(f"quote: {offer.rate} {offer.sell} for 1 {offer.buy}, signed by {FX_PROVIDER}")
        save_names(self.folder, self.opening.names)

    def _limit(self) -> None:
        """Let the registrar in Hong Kong bring the limits of the pilot, and a bank put a wallet under them."""
        today = dt.date(1970, 1, 1) + dt.timedelta(days=business_day(self._runtime.now_ns()))
        self._command("rules", "hk", "--bring", "hong-kong-wallets", "--valid-from", today.isoformat())
        self._command("account", "chan", "--class", "HK", says="the ledger itself keeps to the limits of the class")

    # --- 4 and 5 ------------------------------------------------------------------------------------------------------

    def _pay(self) -> None:
        uetr = str(self._runtime.uuid4())
        exchange = ("pay", "lin", "ferry-shop", "1280.00", "--uetr", uetr, "--key", "ferry-1")
        first = self._paid(*exchange, says="e-CNY to Hong Kong dollars, both legs or neither")
        self._paid("pay", "chan", "tea-house", "88.00", says="a Hong Kong wallet at a Shanghai merchant")
        self._paid("pay", "chan-hkd", "lin", "5000.00", says="northbound: the payee gets CNY")
        self._paid(
            "pay", "pearl-import", "jade-export", "3600000.00", "--purpose", "GDDS", "--reference", "contract 2025-117",
            says="a corporate trade payment",
        )  # fmt: skip
        self._paid(
            "pay", "book-shop", "lin", "20.00", "--refund-of", self.book_payment["uetr"], says="part of it comes back"
        )
        code, refused = self._run("pay", "lin", "ferry-shop", "500000.00", says="more than there is")
        self.report.refused += 1
        self.report.expect("exit code of a refused payment", code, ExitCode.REFUSED)
        self.report.expect(
            "reason of a refused payment", (refused["code"], refused["iso_reason"]), ("DEBIT_LIMIT", "AM04")
        )
        code, refused = self._run(
            "pay", "chan", "tea-house", "2500.00", says="enough, but its class lets out less at once"
        )
        self.report.refused += 1
        self.report.expect("exit code of a payment beyond its class", code, ExitCode.REFUSED)
        self.report.expect(
            "reason of a payment beyond its class", (refused["code"], refused["iso_reason"]), ("ITEM_LIMIT", "AM02")
        )
        code, again = self._run(*exchange, says="the same request again")
        self.report.replayed += 1
        self.report.expect("exit code of a repeated payment", code, ExitCode.OK)
        self.report.expect("a repeated payment", again, {**first, "replayed": True})

    def _send_day(self) -> Sent:
        day = self.day
        volume, value = day.concentration()
        self._terminal.say(
            f"seed {day.seed}: {thousands(len(day.payments))} payments of {len(day.participants)} participants, "
            f"{money(day.gross, 'CNY')}; the five largest send {volume / 10:.1f} % of them, {value / 10:.1f} % by value"
        )
        with self._terminal.progress("payments sent", len(day.payments)) as meter:
            sent = send_day(self.opening, day, meter)
        self._count_batch(sent.accepted, sent.refused)
        self.report.expect("payments of the day accepted", sent.accepted, len(day.payments))
        self._terminal.say(f"{thousands(sent.accepted)} accepted in {len(sent.positions)} bulk messages")
        return sent

    # --- 6 ------------------------------------------------------------------------------------------------------------

    def _settle_day(self) -> None:
        self._settle(payment_count=len(self.day.payments) + 5)

    def _settle(self, *, payment_count: int) -> int:
        """Settle the open window and hold the operator's account of it against what was sent."""
        result = self._command("settle")
        window = int(result["window"])
        self.report.windows[str(window)] = result
        self.report.expect(f"payments settled in window {window}", result["settled"], payment_count)
        return window

    def _check_balances(self) -> None:
        code, windows = self._run("window")
        states = {(item["window"], item["ledger"]): item["state"] for item in windows}
        for number, ledger in itertools.product((1, 2), ("SH", "HK")):
            self.report.expect(f"state of window {number} at {ledger}", states.get((number, ledger)), "SETTLED")
        code, _ = self._run("trial-balance")
        self.report.expect("exit code of hugang trial-balance", code, ExitCode.OK)
        held = self._held()
        for name, amount in ENDINGS.items():
            self.report.expect(f"what {name} holds", held.get(self.opening.names.find(name).address), amount)
        expected = self.day.funding() + self.day.net()
        wrong = [
            participant.bic
            for participant in self.day.participants
            if held.get(self.opening.names.find(participant.bic.lower()).address) != expected[participant.index]
        ]
        self.report.expect("participants whose position differs from funding and net", wrong, [])
        rows = [
            (name, self.opening.names.find(name).title, money(amount, self.opening.names.find(name).asset))
            for name, amount in ENDINGS.items()
        ]
        self._terminal.table("", ("name", "", "holds"), rows, right=(2,))

    def _held(self) -> dict[str, int]:
        """Give the available balance of every account of both ledgers by its address."""
        held = {}
        for ledger in ("SH", "HK"):
            with as_auditor(self.folder, ledger) as client:
                held.update({account["address"]: int(account["available"]) for account in client.accounts()})
        return held

    # --- 7 ------------------------------------------------------------------------------------------------------------

    def _verify(self) -> None:
        hashes = [hash_of for ledger in ("sh", "hk") for hash_of in ("--genesis-hash", self._genesis_hash(ledger))]
        code, result = self._run("verify", str(self.folder / EXPORT_FOLDER), *hashes)
        self.report.verifier = result.to_builtins() if isinstance(result, Verification) else {}
        self.report.expect("exit code of hugang verify", code, ExitCode.OK)
        windows = {entry["window"]: entry for entry in self.report.verifier.get("windows", [])}
        sums = [total for entry in windows.values() for total in entry["net_sums"].items()]
        self.report.net_sums = {asset: str(sum(int(v) for a, v in sums if a == asset)) for asset, _ in sums}
        self.report.expect("sum of net positions by asset (I6)", set(self.report.net_sums.values()), {"0"})
        settled = {str(number): entry["settled"] for number, entry in windows.items()}
        said = {number: entry["settled"] for number, entry in self.report.windows.items()}
        self.report.expect("payments settled, proved against said", settled, said)

    def _tamper(self, sent: Sent) -> None:
        row = self.day.payments[len(self.day.payments) // 2]
        payer = self.day.participants[int(row["payer"])]
        position = sent.positions[payer.index]
        source = self.folder / EXPORT_FOLDER / payer.ledger.lower() / FILE_NAME
        copy = self.folder / TAMPERED_FOLDER
        flip = flip_amount(source, copy, uetr_text(row))
        self._terminal.say(
            f"in {copy}, byte {thousands(flip.offset)} of {payer.ledger}'s journal becomes {flip.after} instead of "
            f"{flip.before}: in payment {uetr_text(row)}, which stands in the message at position {position}"
        )
        code, result = self._run("verify", str(copy))
        found = result.failure
        self.report.tampered = {
            "refused": found is not None,
            "code": found and found.code,
            "block": found and found.block,
            "position": found and found.position,
            "expected_position": position,
        }
        self.report.expect("exit code of hugang verify on the changed copy", code, ExitCode.INTEGRITY)
        self.report.expect("position that the verifier names", found and found.position, position)

    def _genesis_hash(self, ledger: str) -> str:
        return genesis_hash(load_genesis(network_folder(self.folder).node(ledger) / "genesis.json")).hex()

    # --- running commands ---------------------------------------------------------------------------------------------

    @contextmanager
    def _stage(self, name: str, title: str) -> Iterator[None]:
        self._step += 1
        self._terminal.say(f"\n{self._step}. {title}", style="bold")
        with self.report.stage(name):
            yield

    def _echo(self, *arguments: str, says: str = "") -> list[str]:
        """Print a command line as one would type it; gives it with the folder in which it runs here."""
        where = ["--dir", str(self.folder)] if "verify" not in arguments else []
        shown = [*arguments, *([] if str(self.folder) == DEFAULT_FOLDER else where)]
        self._terminal.say(f"$ hugang {shlex.join(shown)}" + (f"   # {says}" if says else ""), style="cyan")
        return [*arguments, *where]

    def _run(self, *arguments: str, says: str = "") -> tuple[int, Any]:
        """Run a command in this process; gives its exit code and what it hands over."""
        results: list[object] = []
        code = run(self._echo(*arguments, says=says), results, is_step=True)
        return code, results[-1] if results else None

    def _command(self, *arguments: str, says: str = "") -> Any:
        """Run a command that must succeed.

        Raises:
            Conflict: it did not.
        """
        code, result = self._run(*arguments, says=says)
        if code != ExitCode.OK:
            raise Conflict(
                "STEP_FAILED", "A command of the demonstration failed.", command=arguments[0], exit_code=code
            )
        return result

    def _paid(self, *arguments: str, says: str = "") -> Any:
        """Run a payment that must be taken, and count it."""
        result = self._command(*arguments, says=says)
        self.report.stored += 1
        return result

    def _count_batch(self, accepted: int, refused: int) -> None:
        self.report.stored += accepted
        self.report.refused += refused
