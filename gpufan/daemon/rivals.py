"""Finds the program that probably sets the fans of a card besides gpufan. The name of the program is only logged."""

import logging
import math
import os
import threading
from collections.abc import Container
from functools import partial
from pathlib import Path

from gpufan.core.fan_programs import BOARD_FANS, OTHERS, READERS, board_fan_program, fan_program, program_name
from gpufan.errors import NoAnswer
from gpufan.system.background import call_with_timeout
from gpufan.system.printable import printable
from gpufan.system.processes import PROC, Process, processes

AGAIN_S = 60.0
"""Shortest time between two messages about a card, s."""

LOOK_S = 2.0
"""Time limit of the search, s."""

_MOST_NAMED = 3

_log = logging.getLogger(__name__)


class RivalLog:
    """Logs a message when another program begins to set the fans of a card."""

    def __init__(self) -> None:
        self._contested: set[str] = set()
        self._logged_s: dict[str, float] = {}

    def note(self, now_s: float, card: str, contested: bool, *, of_board: bool = False) -> None:
        """Record at `now_s` whether the card with the label `card` is contested: another program sets its fans.

        `of_board` says whether the fans are on the motherboard. When the card becomes contested, another thread
        searches for this program, and logs its name.
        """
        if not contested:
            self._contested.discard(card)
        elif card not in self._contested:
            self._contested.add(card)
            if now_s - self._logged_s.get(card, -math.inf) >= AGAIN_S:
                self._logged_s[card] = now_s
                threading.Thread(target=_log_rival, args=(card, of_board), daemon=True).start()


def _log_rival(card: str, of_board: bool) -> None:
    """Search for the program that probably sets the fans of the card with the label `card`, and log its name.

    `of_board` says whether the fans are on the motherboard.
    """
    search = likely_board_rival if of_board else likely_rival
    try:
        found = call_with_timeout(LOOK_S, partial(search, {os.getpid()}))
    except NoAnswer:
        found = ""
    _log.warning("another program sets the fans of %s: %s", card, found or "which one is unknown; see `gpufan doctor`")


def likely_board_rival(ours: Container[int | None], proc: Path = PROC) -> str:
    """Return the programs that may set fans of the motherboard; empty if none is found. See `likely_rival`."""
    found = [
        f"{BOARD_FANS[program]} (process {process.pid})"
        for process in processes(proc)
        if process.pid not in ours and (program := board_fan_program(process.words))
    ]
    return f"probably {_rivals_text(found)}" if found else ""


def likely_rival(ours: Container[int | None], proc: Path = PROC) -> str:
    """Return the programs that may set fans, such as `probably coolgpus (process 4711)`; empty if none is found.

    These are the known fan controllers. If none of them runs, they are the programs of root that have a card open,
    since only root can set fans. The processes `ours`, and the processes that these have started, do not count.

    The service has no right to trace processes. Without this right gpufan cannot see which cards a program with more
    rights has open.
    """
    others = [process for process in processes(proc) if process.pid not in ours and process.parent not in ours]
    if known := [_rival_text(process, program) for process in others if (program := fan_program(process.words))]:
        return f"probably {_rivals_text(known)}"
    users = [_rival_text(process, name) for process in others if (name := _rival_with_open_card(process))]
    return f"perhaps {_rivals_text(users)}" if users else ""


def _rival_with_open_card(process: Process) -> str | None:
    """Return the name of the program if it runs as root, has a card open and may set fans; else None."""
    name = program_name(process.words)
    may_set = name not in READERS and process.runs_as_root
    return name if may_set and process.has_open("/dev/nvidia") else None


def _rival_text(process: Process, program: str) -> str:
    """Return the text for the program with the name `program`, such as `coolgpus (process 4711)`."""
    return f"{printable(OTHERS.get(program, program))} (process {process.pid})"


def _rivals_text(names: list[str]) -> str:
    """Join up to three of the texts `names`, such as `coolgpus (process 4711) or gwe (process 4712)`.

    Further texts are only counted.
    """
    more = f" or {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return " or ".join(names[:_MOST_NAMED]) + more
