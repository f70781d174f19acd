"""Steps of an install or uninstall: undo them if one fails, and say why it failed."""

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
    """Yields a function that registers an undo step. If the block fails, the steps are called in reverse order.

    `say` gets a line for each step that fails. `at_last` is called after the steps if none has failed. Raises the error
    of the block; GpufanError instead of OSError.
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
                        say(f"not undone: {why_failed(undo_error)}; try `sudo gpufan uninstall-service`")
            if is_undone:
                at_last()
        if isinstance(error, OSError):
            raise GpufanError(f"{why_failed(error)}{'; all changes are undone' * is_undone}") from error
        raise


def why_failed(error: Exception) -> str:
    """Why a step has failed, in words for a person.

    >>> why_failed(PermissionError(13, "Permission denied", "/opt/gpufan"))
    'cannot change /opt/gpufan: Permission denied'
    """
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot change {error.filename}: {error.strerror}"
    return str(error)
