"""Steps of an install or uninstall: undo all steps, or only warn, if one fails; and say why it failed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from gpufan.errors import GpufanError
from gpufan.system import signals

Say = Callable[[str], None]
"""Shows a line to the person at the terminal."""
AddUndo = Callable[..., None]
"""Registers a function and its arguments, to be called if a later step fails."""


@contextmanager
def undone_on_failure(say: Say, at_last: Callable[[], object] = lambda: None) -> Iterator[AddUndo]:
    """Undo the steps of the block if the block fails. The block gets a function that registers undo steps.

    Undo steps are called in reverse order. If one fails, `say` gets a line, and the other steps still follow. If none
    fails, `at_last` is called. Raises the error of the block; if that is an OSError, raises a GpufanError.
    """
    steps: list[Callable[[], object]] = []
    try:
        yield lambda step, *arguments: steps.append(partial(step, *arguments))
    except BaseException as error:
        with signals.ignored():
            is_undone = True
            for step in reversed(steps):
                try:
                    step()
                except Exception as undo_error:  # of any kind: the remaining steps must run
                    is_undone = False
                    with suppress(OSError, ValueError):  # the terminal may be gone
                        say(f"not undone: {why_step_failed(undo_error)}; try `sudo gpufan uninstall-service`")
            if is_undone:
                at_last()
        if isinstance(error, OSError):
            raise GpufanError(f"{why_step_failed(error)}{'; all changes are undone' * is_undone}") from error
        raise


def warn_on_failure(say: Say, step: Callable[..., None], *arguments: object) -> None:
    """Call `step`. If it fails, only warn the user through `say`: the fans are under control already."""
    try:
        step(*arguments)
    except (GpufanError, OSError) as error:
        say(f"warning: {why_step_failed(error)}; gpufan controls the fans nevertheless")


def why_step_failed(error: Exception) -> str:
    """Return why a step has failed, in words for the user.

    >>> why_step_failed(PermissionError(13, "Permission denied", "/opt/gpufan"))
    'cannot change /opt/gpufan: Permission denied'
    """
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot change {error.filename}: {error.strerror}"
    return str(error)
