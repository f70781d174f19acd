"""Makes the workers of the cards of one box. The cards may be real or simulated."""

from collections.abc import Mapping, Sequence

from gpufan.control.law import Learnt
from gpufan.core.gpu import Gpu
from gpufan.daemon.instructions import LocalTime, SettingsFor
from gpufan.daemon.taken import Taken
from gpufan.daemon.worker import Worker


def make_workers(
    gpus: Sequence[Gpu],
    settings_for: SettingsFor,
    *,
    box: list[Worker] | None = None,
    dry_run: bool = False,
    learnt: Mapping[str, Learnt] | None = None,
    taken: Taken | None = None,
    wall_clock: LocalTime | None = None,
) -> list[Worker]:
    """Make a worker for each card of `gpus`. Each worker knows all workers, so that neighbours help each other.

    `box` has the workers of other cards of the box. The new workers are added to it.

    `learnt` maps the UUID of a card to the model that an earlier run learnt of it. `taken` records the cards whose fans
    are set. `wall_clock` replaces the clock of this machine for quiet hours.
    """
    known = learnt or {}
    workers = [
        Worker(
            gpu,
            settings_for,
            dry_run=dry_run,
            learnt=known.get(gpu.info.uuid),
            taken=taken,
            wall_clock=wall_clock,
        )
        for gpu in gpus
    ]
    box = [] if box is None else box
    box += workers
    for worker in workers:
        worker.box = box
    return workers
