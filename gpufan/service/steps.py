"""Handle a failed step of an install or uninstall: undo all steps, or only warn the user."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from gpufan.errors import GpufanError
from gpufan.system import signals
from gpufan.system.own_command import with_own_command

Say = Callable[[str], None]
"""A function that shows a line of text to the user."""
AddUndo = Callable[..., None]
"""A function that registers an undo step.

It is called with another function and the arguments for that function. If a later step fails, that function is called
with these arguments.
"""


@contextmanager
def undone_on_failure(say: Say, at_last: Callable[[], object] = lambda: None) -> Iterator[AddUndo]:
    """Undo the steps of the block if the block fails. The block gets a function that registers undo steps.

    Undo steps are called in reverse order. If an undo step fails, `say` gets a line of text, and the other undo steps
    still follow. If no undo step fails, `at_last` is called. Then the error of the block is raised. An OSError is
    raised as a GpufanError.
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
                        again = with_own_command("`sudo gpufan uninstall-service`")
                        say(f"not undone: {why_step_failed(undo_error)}; try {again}")
            if is_undone:
                at_last()
        if isinstance(error, OSError):
            raise GpufanError(f"{why_step_failed(error)}{'; all changes are undone' * is_undone}") from error
        raise


def warn_on_failure(say: Say, step: Callable[..., None], *arguments: object) -> None:
    """Call `step` with `arguments`. If the step fails, only warn the user through `say`.

    A warning is enough, because gpufan controls the fans already.
    """
    try:
        step(*arguments)
    except (GpufanError, OSError) as error:
        say(f"warning: {why_step_failed(error)}; gpufan controls the fans nevertheless")


def why_step_failed(error: Exception) -> str:
    """Return a text for the user that says why a step failed. `error` is the error of the step.

    >>> why_step_failed(PermissionError(13, "Permission denied", "/opt/gpufan"))
    'cannot change /opt/gpufan: Permission denied'
    """
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot change {error.filename}: {error.strerror}"
    return str(error)
