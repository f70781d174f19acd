"""Checks after every step of the storm what always holds, by what the fans do and not by what gpufan says."""

from dataclasses import dataclass
from pathlib import Path

from gpufan.core.reasons import Control
from gpufan.core.sentences import state_sentence
from gpufan.core.snapshot import GpuState
from gpufan.daemon import snapshot_file
from gpufan.errors import GpufanError
from gpufan.system.paths import SNAPSHOT
from tests.doubles.nvml import AUTO, MANUAL, Kind
from tests.integration.storm.faults import Demand
from tests.integration.storm.scene import FOREIGN, FOREIGN_PERCENT, RECOVERY_S, Card, Scene, duty_percent

HEALTHY_S = 3.0
"""A card without a fault is out of control no longer than this, s."""

CALM_S = 40.0
"""Without a fault for so long, the fans run no faster than the temperature asks for, s."""

LIE_S = 8.0
"""The snapshot is true after this time, s."""

SILENT_S = 5.0
"""gpufan calls some card at least this often, s."""

DELAY_S = 0.5
"""Without a call for so long, another card hangs, s. This delays the other cards by 2 s, which the mean leaves out."""

WATCHDOG_S = 15.0
"""WatchdogSec of the unit: a service that controls a card says more often that it is alive, s."""

UNCONTROLLED_S = 75.0
"""A service without any card under control for so long says no more that it is alive, s."""

TOLERANCE = 5
"""Points by which a target may differ from the curve: gpufan leaves out small changes."""

MEAN_TOLERANCE = 10
"""Points by which the mean target may be below the curve while another program sets the fans."""


@dataclass(frozen=True)
class Finding:
    """Something that did not hold. `invariant` is its number in the list of the design."""

    invariant: int
    time_s: float
    clock: str
    """The wall clock of gpufan, as in its log."""
    card: int | None
    fault: str
    text: str

    def __str__(self) -> str:
        card = "" if self.card is None else f" card {self.card}"
        return f"({self.invariant}) at {self.time_s:.1f} s ({self.clock}){card}, {self.fault}: {self.text}"


class Judge:
    """Collects findings: each once for each occasion, which is a fault or a time out of control."""

    def __init__(self, scene: Scene, runtime_folder: Path) -> None:
        self.findings: list[Finding] = []
        self._scene = scene
        self._snapshot = runtime_folder / SNAPSHOT
        self._known: set[tuple[int, int | None, float]] = set()
        self._calls, self._called_s = 0, 0.0
        self._pinged_s = 0.0

    def find(self, invariant: int, index: int | None, text: str, *, fault: str = "", occasion: float) -> None:
        """Note a finding unless its occasion is known."""
        if (invariant, index, occasion) in self._known:
            return
        self._known.add((invariant, index, occasion))
        card = None if index is None else self._scene.cards[index]
        if index is not None:
            gpu = self._said().get(index)
            text += f"; it says: {'nothing' if gpu is None else state_sentence(gpu)}"
        now_s, clock = self._scene.now_s, self._scene.clock.wall_time
        self.findings.append(Finding(invariant, now_s, clock, index, fault or self._around(card), text))

    def look(self, *, running: bool, started_s: float) -> None:
        """Check all cards. `running`: whether gpufan runs, and is not asked to end."""
        for index, card in enumerate(self._scene.cards):
            self._look_at(index, card, running and self._scene.driver_back_s is None, started_s)
        if self._scene.fresh_second:
            self._compare_snapshot(running)
        self._look_for_calls(running)
        self._look_at_foreign()

    def look_at_watchdog(self, *, running: bool, pinged: bool) -> None:
        """Check that a service says that it is alive as long as it controls a card, and not for long after that.

        `running`: whether it has sent READY=1, and is not asked to end. systemd demands no sign of life before that. A
        service that waits for a driver which is not loaded cannot give one, while fans may still be as before.
        """
        now_s = self._scene.now_s
        if pinged or not running or not self.controlled():
            self._pinged_s = now_s
        elif now_s - self._pinged_s > WATCHDOG_S:
            text = f"no sign of life for {WATCHDOG_S:g} s although cards {self.controlled()} are controlled"
            self.find(11, None, text, occasion=self._pinged_s)
        held_s = max(card.held_s for card in self._scene.cards)
        if pinged and now_s - held_s > UNCONTROLLED_S:
            text = f"a sign of life although no card was controlled for {now_s - held_s:.0f} s"
            self.find(11, None, text, occasion=held_s)

    def judge_mean(self, index: int) -> None:
        """Check the mean target after a fault in which another program set the fans."""
        means = self._scene.cards[index].means[30:]
        if len(means) > 100:
            is_percent, want_percent = (sum(values) / len(means) for values in zip(*means, strict=True))
            if is_percent < want_percent - MEAN_TOLERANCE:
                text = f"mean target {is_percent:.0f} % instead of {want_percent:.0f} %"
                self.find(2, index, text, occasion=self._scene.cards[index].began_s)

    def controlled(self) -> list[int]:
        """Cards that were under control in the last 50 s, by the fans and by the snapshot."""
        now_s = self._scene.now_s
        return [i for i, card in enumerate(self._scene.cards) if now_s - min(card.good_s, card.ours_s) < 50]

    def set_by(self, pid: int) -> list[int]:
        """Cards with fans that process `pid` set, that are in manual mode, and that the driver would take back."""
        if self._scene.driver_back_s is not None:
            return []
        manual = {
            (index, number)
            for index, card in enumerate(self._scene.cards)
            if card.fault is None or card.fault.demand not in (Demand.NOTHING, Demand.MEAN)
            for number, fan in enumerate(self._scene.fans(index))
            if fan.policy == MANUAL
        }
        setters = {
            (call.card, call.fan): call.pid for call in self._scene.double.log() if call.operation == Kind.SET_FAN
        }
        return sorted({index for index, fan in manual if setters.get((index, fan)) == pid})

    def _around(self, card: Card | None) -> str:
        """The last fault of `card`, or of the driver if that was later."""
        scene = self._scene
        if card is None:
            return scene.driver_fault
        if scene.restarted_s > card.began_s or scene.driver_back_s is not None:
            return f"{card.last_fault}, {scene.driver_fault}"
        return card.last_fault

    def _said(self) -> dict[int, GpuState]:
        """What the snapshot says of each card."""
        try:
            snapshot = snapshot_file.read_snapshot(self._snapshot)
        except GpufanError:
            return {}
        said = {gpu.uuid: gpu for gpu in snapshot.gpus}
        uuids = [self._scene.double.cards[index].uuid.decode() for index in range(len(self._scene.cards))]
        return {index: said[uuid] for index, uuid in enumerate(uuids) if uuid in said}

    def _look_at(self, index: int, card: Card, running: bool, started_s: float) -> None:
        fans, now_s = self._scene.fans(index), self._scene.now_s
        low = duty_percent(min(list(card.recent_c)[-30:])) - TOLERANCE
        if all(fan.policy == MANUAL for fan in fans):
            card.held_s = now_s
        if all(fan.policy == MANUAL and fan.target >= low for fan in fans):
            card.good_s, card.lost_by = now_s, ""
        elif not card.lost_by:
            card.lost_by = self._around(card)
        if not running or not any(fan.policy == MANUAL and fan.target < low for fan in fans):
            card.safe_s = now_s
        if not running:
            card.owes_in(now_s, HEALTHY_S)
        elif now_s > card.due_s:
            demand = Demand.CONTROL if card.fault is None else card.fault.demand
            if demand is Demand.CONTROL:
                self._demand_control(index, card)
            elif demand is Demand.MEAN:
                if now_s - self._called_s < DELAY_S:
                    target = sum(fan.target if fan.policy == MANUAL else 0 for fan in fans) / len(fans)
                    card.means.append((target, low + TOLERANCE))
            elif card.fault and now_s - max(card.began_s, started_s, self._scene.restarted_s) > card.fault.patience_s:
                self._demand_safety(index, card, demand, started_s)

    def _demand_control(self, index: int, card: Card) -> None:
        now_s = self._scene.now_s
        if now_s - max(card.good_s, card.due_s - HEALTHY_S) > HEALTHY_S:
            recovering = card.fault is None and card.good_s < max(card.ends_s, self._scene.restarted_s) + 0.2
            text = f"{self._seen(index)}, out of control for {now_s - card.good_s:.1f} s"
            self.find(
                11 if recovering else 2 if card.fault else 3, index, text, fault=card.lost_by, occasion=card.good_s
            )
        if card.fault is None and now_s > card.due_s + CALM_S:
            most = max(duty_percent(max(card.recent_c)) + TOLERANCE, card.floor_percent)
            if any(fan.policy == MANUAL and fan.target > most for fan in self._scene.fans(index)):
                text = f"{self._seen(index)} after {CALM_S:g} s without a fault; {most:.0f} % is enough"
                self.find(11, index, text, occasion=card.began_s)

    def _demand_safety(self, index: int, card: Card, demand: Demand, started_s: float) -> None:
        fans, out_s = self._scene.fans(index), self._scene.now_s - card.safe_s
        text = ""
        if demand is Demand.SAFETY and out_s > RECOVERY_S:
            text = f"for {out_s:.1f} s"
        elif demand is Demand.FULL and any(fan.policy == MANUAL and fan.target < 100 for fan in fans):
            text = "while the temperature is in doubt"
        elif card.fault and card.fault.is_relative and max(started_s, self._scene.restarted_s) > card.began_s - 10:
            return
        elif demand is Demand.OTHERS_FULL and (fans[1].policy == AUTO or fans[1].target < 100):
            text = "while fan 0 stands still"
        if text:
            self.find(2, index, f"{self._seen(index)} {text}", occasion=card.began_s)

    def _seen(self, index: int) -> str:
        duties = ", ".join(f"{fan.target} %" if fan.policy == MANUAL else "auto" for fan in self._scene.fans(index))
        return f"fans {duties} at {self._scene.cards[index].load.true_c:.0f} °C"

    def _compare_snapshot(self, running: bool) -> None:
        """The snapshot says of no card for long that it is controlled while it is not."""
        said, now_s = self._said(), self._scene.now_s
        for index, card in enumerate(self._scene.cards):
            gpu = said.get(index)
            ours = gpu is not None and gpu.control is Control.OURS and gpu.fault is None
            if ours:
                card.ours_s = now_s
            if not running or not ours or card.held_s > now_s - 1:
                card.true_s = now_s
            elif now_s > card.true_s + LIE_S:
                text = f"the snapshot says for {LIE_S:g} s that the card is controlled"
                self.find(10, index, text, occasion=card.held_s)

    def _look_for_calls(self, running: bool) -> None:
        """While it runs, gpufan calls some card every few seconds; NVML counts no calls that find it restarted."""
        scene = self._scene
        can_call = running and scene.driver_back_s is None and scene.now_s > max(c.due_s for c in scene.cards)
        if not can_call or scene.calls != self._calls:
            self._calls, self._called_s = scene.calls, scene.now_s
        elif scene.now_s - self._called_s > SILENT_S:
            self.find(3, None, f"no call to any card for {SILENT_S:g} s", occasion=self._called_s)

    def _look_at_foreign(self) -> None:
        calls = dict(zip(Kind, self._scene.double.cards[FOREIGN].calls, strict=True))
        if any(calls.values()):
            text = f"it was opened or read: { {kind.name: count for kind, count in calls.items() if count} }"
            self.find(12, None, text, fault="the foreign card", occasion=0)
        if any(fan.policy != MANUAL or fan.target != FOREIGN_PERCENT for fan in self._scene.fans(FOREIGN)):
            self.find(12, None, "its fans were changed", fault="the foreign card", occasion=1)
