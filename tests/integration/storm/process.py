"""gpufan as a process in the storm: started whenever it has ended, as a service manager does, and hit by signals.

Each process is either a service, which sends messages to its service manager and whose fans that manager gives back
when it has ended, or a run in a terminal, which has a guardian.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.integration.storm.judge import HEALTHY_S, Finding, Judge
from tests.integration.storm.scene import CARDS, CURVE, RECOVERY_S, Scene

STEP_S = 0.1

END_S = 5.0
"""A process that is asked to end gives all fans back in this time, s."""

START_AGAIN_S = 1.0

LAUNCHER = """
import pathlib, sys
from gpufan.gpu import kernel_cards
from gpufan.daemon import sd_notify
kernel = pathlib.Path(sys.argv.pop(1))
kernel_cards.DRIVER_FOLDER, kernel_cards.CARDS_FOLDER = kernel / "driver", kernel / "gpus"
sd_notify.DRIVER_NODE = kernel / "node"
from gpufan.cli.main import main
main()
"""
"""gpufan, but with the kernel's lists of cards and the node of the driver in another folder."""

RESTORE_S = 8.0
"""Time limit for `gpufan restore --taken`, real s."""

SIGNALS = (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGHUP, signal.SIGSTOP)


class Storm:
    """A scene, gpufan on it, and the judge."""

    def __init__(self, folder: Path, seed: int, faults: int) -> None:
        self._rng = random.Random(seed)
        self._folder = folder
        self.scene = Scene(folder, self._rng, faults)
        self.judge = Judge(self.scene, folder / "run")
        self.ends: Counter[str] = Counter()
        """How often the process ended in which way."""
        self.last_end = "none"
        self.log = folder / "stderr"
        self._settings = folder / "config.toml"
        uuids = [self.scene.double.cards[card].uuid.decode() for card in CARDS]
        self._settings.write_text(
            f'gpus = {uuids}\nbackend = "nvml"\ncurve = "{CURVE}"\nhysteresis_c = 0\nhold_s = 0\n'
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._start_s = 0.0
        self._stopping = ""
        """The signal that is to end the process; empty if there was none."""
        self._is_service = self._is_ready = False
        """Whether the process has a service manager, and whether it has sent READY=1."""
        self._messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._messages.bind(str(folder / "notify"))
        self._stop_by_s = self._resume_s = float("inf")
        self._next_signal_s = self._rng.uniform(20, 60)

    def run(self) -> list[Finding]:
        """Let all faults happen, then end the process; returns what did not hold."""
        self._start()
        while not self.scene.over:
            self.step()
        self._next_signal_s = float("inf")
        for _ in range(round((RECOVERY_S + HEALTHY_S + 1) / STEP_S)):
            self.step()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._stopping, self._stop_by_s = "SIGTERM", self.scene.now_s + END_S
            while self._process is not None and self.scene.now_s < self._stop_by_s:
                self.scene.advance(STEP_S)
                self._see_end()
            if self.last_end != "status 0 after SIGTERM":
                text = f"the last end was: {self.last_end}"
                self.judge.find(1, None, text, occasion=self.scene.now_s)
        return self.judge.findings

    def step(self) -> None:
        """Let one step of time pass, and check."""
        scene = self.scene
        scene.advance(STEP_S)
        if scene.now_s >= self._next_signal_s:
            self._send_signal()  # in the middle of what the threads do
        self._see_end()
        if self._process is None and scene.now_s >= self._start_s:
            self._start()
        if scene.now_s > self._stop_by_s and self._process is not None:
            self.judge.find(1, None, f"no end in {END_S:g} s after {self._stopping}", occasion=scene.now_s)
            self._process.kill()
            self._stop_by_s = float("inf")
        if scene.now_s >= self._resume_s and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._resume_s = float("inf")
        for index in scene.let_faults_begin_and_end():
            self.judge.judge_mean(index)
        running = self._process is not None and not self._stopping and self._resume_s == float("inf")
        self.judge.look(running=running, started_s=self._start_s)
        pinged = self._was_pinged()
        self.judge.look_at_watchdog(running=running and self._is_ready, pinged=pinged)

    def close(self) -> None:
        """End the process, whatever it does."""
        self.scene.double.let_go()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._messages.close()

    def _start(self) -> None:
        self.scene.clock.forget_ended()
        self._is_service = self._rng.random() < 0.5
        self._was_pinged()  # by the process before
        self._is_ready = False
        environment = self._environment(**self.scene.clock.environment())
        if self._is_service:
            environment["NOTIFY_SOCKET"] = str(self._folder / "notify")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("run"),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._start_s, self._stopping = self.scene.now_s, ""
        self._stop_by_s = self._resume_s = float("inf")
        # To load its modules costs the process real time only.
        before, end_s = self.scene.calls, time.monotonic() + 20
        while self.scene.calls == before and self._process.poll() is None and time.monotonic() < end_s:
            time.sleep(0.002)
        for card in self.scene.cards:
            card.owes_in(self.scene.now_s, HEALTHY_S)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", LAUNCHER, str(self._folder), *arguments, "--config", str(self._settings)]

    def _environment(self, **more: str) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "INVOCATION_ID")}
        folders = {"GPUFAN_RUNTIME_DIR": str(self._folder / "run"), "STATE_DIRECTORY": str(self._folder / "state")}
        return {**plain, **folders, **self.scene.double.environment(), **more}

    def _was_pinged(self) -> bool:
        """Whether the process has sent since the last call that it is alive."""
        pinged = False
        with suppress(BlockingIOError):
            while True:
                message = self._messages.recv(65536)
                pinged |= b"WATCHDOG=1" in message
                self._is_ready |= b"READY=1" in message
        return pinged

    def _send_signal(self) -> None:
        if self._process is None or self._stopping:
            return
        number = self._rng.choice(SIGNALS)
        self._process.send_signal(number)
        self.scene.happened[number.name] += 1
        if number == signal.SIGSTOP:
            self._resume_s = self.scene.now_s + self._rng.uniform(1, 6)
        elif number != signal.SIGHUP:
            self._stopping, self._stop_by_s = number.name, self.scene.now_s + END_S
        self._next_signal_s = self.scene.now_s + self._rng.uniform(60, 150)

    def _see_end(self) -> None:
        """Let the threads of the process finish what is due now; if the process has ended, check what it left."""
        if self._process is None or self.scene.clock.settle(self._process.pid):
            return
        pid, status = self._process.pid, self._process.wait(10)
        self._process = None
        self._start_s = self.scene.now_s + START_AGAIN_S
        after = self._stopping or "nothing"
        self.last_end = f"status {status} after {after}"
        self.ends[self.last_end] += 1
        controlled = self.judge.controlled()
        recovering = self.scene.driver_back_s is not None or self.scene.now_s < self.scene.restarted_s + RECOVERY_S
        if not self._stopping and controlled and not recovering:
            text = f"the process ended with status {status} although cards {controlled} were controlled"
            self.judge.find(3, None, text, occasion=max(card.began_s for card in self.scene.cards))
        if self._is_service:  # as ExecStopPost of the unit
            with self.log.open("ab") as log, suppress(subprocess.TimeoutExpired):
                command = self._command("restore", "--taken")
                subprocess.run(command, env=self._environment(), stdout=log, stderr=log, timeout=RESTORE_S)
        elif self._stopping == "SIGKILL":
            end_s = time.monotonic() + 3  # the guardian needs real time
            while self.judge.set_by(pid) and time.monotonic() < end_s:
                time.sleep(0.01)
                self.scene.advance(0.01)
        if cards := self.judge.set_by(pid):
            text = f"fans of cards {cards} are in manual mode after {self._stopping or f'status {status}'}"
            self.judge.find(1, None, text, occasion=self.scene.now_s)
