"""The rules that decide which messages to send. They see only snapshots and times: no files, clock or network."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gpufan.alerts.messages import Message, Phase, Trouble
from gpufan.core.news import News, news
from gpufan.core.sentences import card_sentence, settings_sentence
from gpufan.core.snapshot import GpuState, Snapshot

FLICKER_S = 15.0
"""If a trouble that was not reported yet is absent for less than this time, s, it still counts as present."""

OVER_AFTER_S = 120.0
"""A reported trouble is over after it was absent for this time, s. If the trouble comes back, this time doubles."""

MANY_RESTARTS = 3
RESTARTS_WITHIN_S = 1800.0
"""If gpufan is restarted `MANY_RESTARTS` times within this time, s, that is a trouble."""

TROUBLES = {
    News.THROTTLED: Trouble.THROTTLED,
    News.HOT: Trouble.HOT,
    News.LOST: Trouble.LOST,
    News.FAIL_SAFE: Trouble.FAIL_SAFE,
    News.FAN_STILL: Trouble.FAN_STILL,
    News.NOT_FOLLOWING: Trouble.NOT_FOLLOWING,
    News.ANOTHER_WRITER: Trouble.NOT_FOLLOWING,
    News.GIVEN_BACK: Trouble.GIVEN_BACK,
}
"""The news about a card that is reported, and the trouble that each is."""


class Key(NamedTuple):
    """Identifies a trouble of a card. The UUID is empty if the trouble concerns all cards."""

    uuid: str
    trouble: Trouble


class Found(NamedTuple):
    """A trouble that is present: the label of the card, and a sentence about the state of the card.

    If the trouble concerns all cards, the label is empty, and the sentence is about gpufan.
    """

    card: str
    detail: str


@dataclass
class _Episode:
    """One occurrence of a trouble, from its first sign until it is over."""

    found: Found
    since_s: float
    """When the trouble began, seconds since the epoch."""
    began_s: float
    """When the trouble began, by the monotonic clock."""
    times: int
    """The number of the report: 1, or more if the trouble has come back soon after it was over."""
    said_s: float | None = None
    """When the last message about this trouble was made, by the monotonic clock; None if there was no message."""
    absent_since: tuple[float, float] | None = None
    """Since when the trouble is absent: seconds since the epoch, and by the monotonic clock. None if present."""


class Rules:
    """Decides which messages to send.

    Callers pass the present time: `wall_s` in seconds since the epoch, `monotonic_s` by a clock that nobody sets.
    """

    def __init__(self, box: str, after_s: Mapping[Trouble, float], repeat_after_s: float) -> None:
        """Begin without any trouble.

        `box` is the host name for messages. `after_s` has the troubles to report, and how long each must last before
        its first message, s. While a trouble lasts, its message is repeated every `repeat_after_s` seconds.
        """
        self._box = box
        self._after_s = after_s
        self._repeat_after_s = repeat_after_s
        self._episodes: dict[Key, _Episode] = {}
        self._cards: dict[str, str] = {}
        """The label of each card that was in any snapshot, by UUID."""
        self._ended: dict[Key, tuple[float, int]] = {}
        """The end of the last reported episode of each trouble, by the monotonic clock, and its `times`."""
        self._run: tuple[int, float | None] | None = None
        """The process number and the start of the run that published last; None before the first snapshot."""
        self._restarts_s: deque[float] = deque()
        """The times of the last restarts, by the monotonic clock."""

    def see(self, snapshot: Snapshot, monotonic_s: float) -> list[Message]:
        """Judge a new snapshot, and return the messages that are due."""
        self._note_run(snapshot, monotonic_s)
        # A case fan that vanishes was removed from the settings.
        self._cards |= {gpu.uuid: gpu.label for gpu in snapshot.gpus}
        judged = {gpu.uuid: _apply_rules_to_card(gpu) for gpu in snapshot.states}
        present = dict(self._find(snapshot, judged))
        lines = {gpu.uuid: card_sentence(gpu) for gpu in snapshot.states}
        messages: list[Message] = []
        for key in [*present, *(key for key in self._episodes if key not in present)]:
            if key.uuid and key not in present and key.trouble not in judged.get(key.uuid, ()):
                continue  # unknown: for example whether heat slows down a card that does not answer
            calm = lines.get(key.uuid) or "; ".join(lines.values())
            messages += self._advance(key, present.get(key), calm, snapshot.time_s, monotonic_s)
        return messages

    def _note_run(self, snapshot: Snapshot, monotonic_s: float) -> None:
        """Count a restart if a new run of gpufan has published the snapshot. Forget old restarts."""
        run = snapshot.pid, snapshot.started_s
        if self._run not in (None, run):
            self._restarts_s.append(monotonic_s)
        self._run = run
        while self._restarts_s and monotonic_s - self._restarts_s[0] > RESTARTS_WITHIN_S:
            self._restarts_s.popleft()

    def miss(self, problem: str, wall_s: float, monotonic_s: float) -> list[Message]:
        """Note that no gpufan controls the fans, since there is no new snapshot. Return the messages that are due.

        `problem` says why there is no new snapshot. The state of the cards is unknown, so no other trouble begins or
        ends.
        """
        key = Key("", Trouble.NO_CONTROLLER)
        if key.trouble not in self._after_s:
            return []
        return list(self._advance(key, Found("", problem), "", wall_s, monotonic_s))

    def _find(self, snapshot: Snapshot, judged: Mapping[str, Mapping[Trouble, bool]]) -> Iterator[tuple[Key, Found]]:
        """Return the troubles that are present and that the settings want reported.

        `judged` has the result of `_apply_rules_to_card` for each card in the snapshot, by UUID.
        """
        for gpu in snapshot.states:
            for trouble, is_present in judged[gpu.uuid].items():
                if is_present and trouble in self._after_s:
                    yield Key(gpu.uuid, trouble), Found(gpu.label, card_sentence(gpu))
        for uuid, label in self._cards.items():
            if uuid not in judged and Trouble.LOST in self._after_s:
                yield Key(uuid, Trouble.LOST), Found(label, "gpufan no longer lists this card")
        if (refused := settings_sentence(snapshot)) and Trouble.SETTINGS_REFUSED in self._after_s:
            yield Key("", Trouble.SETTINGS_REFUSED), Found("", refused)
        if len(self._restarts_s) >= MANY_RESTARTS and Trouble.RESTARTS in self._after_s:
            minutes = f"{RESTARTS_WITHIN_S / 60:g} minutes"
            yield Key("", Trouble.RESTARTS), Found("", f"{len(self._restarts_s)} restarts in the last {minutes}")

    def _advance(
        self, key: Key, found: Found | None, calm: str, wall_s: float, monotonic_s: float
    ) -> Iterator[Message]:
        """Begin, continue or end the episode of the trouble `key`. Return the messages that are due.

        `found` is None if the trouble is absent. `calm` describes the present state, for the message that the trouble
        is over.
        """
        episode = self._episodes.get(key)
        if found is not None:
            if episode is None:
                episode = _Episode(found, wall_s, monotonic_s, self._times(key, monotonic_s))
                self._episodes[key] = episode
            episode.found, episode.absent_since = found, None
            said_s = episode.said_s
            if said_s is None and monotonic_s - episode.began_s >= self._after_s[key.trouble]:
                yield self._message(key, episode, Phase.BEGAN, found.detail, wall_s)
                episode.said_s = monotonic_s
            elif said_s is not None and monotonic_s - said_s >= self._repeat_after_s:
                yield self._message(key, episode, Phase.LASTS, found.detail, wall_s)
                episode.said_s = monotonic_s
        elif episode is not None:
            episode.absent_since = episode.absent_since or (wall_s, monotonic_s)
            end_s, absent_s = episode.absent_since
            if monotonic_s - absent_s >= self._over_after_s(episode):
                del self._episodes[key]
                if episode.said_s is not None:
                    self._ended[key] = monotonic_s, episode.times
                    yield self._message(key, episode, Phase.OVER, calm, end_s)

    def _times(self, key: Key, monotonic_s: float) -> int:
        """Return the number of the report about a trouble that begins now.

        This is 1. If the trouble has come back soon after it was over, it is 1 more than the last number.
        """
        ended_s, times = self._ended.get(key, (0.0, 0))
        return times + 1 if times and monotonic_s - ended_s < self._repeat_after_s else 1

    def _over_after_s(self, episode: _Episode) -> float:
        """Return how long a trouble must be absent before it is over, s.

        The time is longer if the trouble was reported, and longer still if it has come back.
        """
        if episode.said_s is None:
            return FLICKER_S
        return min(OVER_AFTER_S * 2.0 ** min(episode.times - 1, 20), max(self._repeat_after_s, OVER_AFTER_S))

    def _message(self, key: Key, episode: _Episode, phase: Phase, detail: str, time_s: float) -> Message:
        """Return a message about an episode of the trouble `key`.

        `detail` describes the state. `time_s` is the time of the message, seconds since the epoch.
        """
        return Message(
            phase=phase,
            trouble=key.trouble,
            box=self._box,
            card=episode.found.card,
            uuid=key.uuid,
            detail=detail,
            since_s=episode.since_s,
            time_s=time_s,
            times=episode.times,
        )


def _apply_rules_to_card(gpu: GpuState) -> Mapping[Trouble, bool]:
    """Return whether each trouble of a card is present.

    A trouble is missing from the result if the state of the card does not show whether it is present.
    """
    found: dict[Trouble, bool] = {}
    for kind, is_present in news(gpu).items():
        if trouble := TROUBLES.get(kind):
            found[trouble] = found.get(trouble, False) or is_present
    return found
