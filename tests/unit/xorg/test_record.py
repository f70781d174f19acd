"""The record of `setup-xorg`: whatever happens, nothing that a user wrote is lost."""

import contextlib
import errno
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpufan.cli.setup_xorg import setup_xorg
from gpufan.errors import GpufanError
from gpufan.system import files
from gpufan.system.lock import folder_locks
from gpufan.xorg import record, search
from tests.doubles.xorg_files import SAMPLES, make_file_set

ORIGINAL = SAMPLES["nvidia-xconfig"]
SNIPPET = (
    b'Section "Device"\n Identifier "a"\n Driver "nvidia"\n BusID "PCI:10:0:0"\nEndSection\n'
    b'Section "ServerLayout"\n Identifier "l"\n Screen 0 "s"\nEndSection\n'
)
SCREEN = b'Section "Screen"\n Identifier "s"\n Device "a"\nEndSection\n'


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A missing xorg.conf beside an empty folder of snippets."""
    (tmp_path / "X11/xorg.conf.d").mkdir(parents=True)
    monkeypatch.setattr(search, "SYSTEM_FOLDERS", ())
    monkeypatch.setattr(search, "LOCAL_FOLDERS", (tmp_path / "X11/xorg.conf.d",))
    return tmp_path / "X11/xorg.conf"


@pytest.fixture
def snippet(output: Path) -> Path:
    """A snippet that has the layout and the Device of the first card, while xorg.conf has its Screen."""
    output.write_bytes(SCREEN)
    path = output.parent / "xorg.conf.d/20.conf"
    path.write_bytes(SNIPPET)
    return path


def command(output: Path, *arguments: str):
    line = ["--output", str(output), "--simulate", "dual-1080ti", *arguments]
    return CliRunner().invoke(setup_xorg, line, catch_exceptions=False)


def content(output: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(output.parent)): path.read_bytes() for path in output.parent.rglob("*.*") if path.is_file()
    }


def in_child(action: Callable[[], object]) -> int:
    """Run `action` in a process of its own; returns its process number."""
    if pid := os.fork():
        return pid
    status = 70
    try:
        action()
        status = 0
    except GpufanError as error:
        status = error.exit_status
    finally:
        os._exit(status)


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_restore_gives_back_every_file_with_its_times_and_links(output: Path, snippet: Path, tmp_path: Path) -> None:
    os.link(output, tmp_path / "other name")
    os.utime(output, ns=(10**18, 10**18))
    before, inode = content(output), output.stat().st_ino
    result = command(output)
    assert f"note: {output} has another hard link, which does not change with it" in result.stderr
    assert snippet.read_bytes() != SNIPPET
    assert (tmp_path / "other name").read_bytes() == SCREEN
    command(output, "--restore")
    assert content(output) == before
    assert (output.stat().st_ino, output.stat().st_mtime_ns) == (inode, 10**18)


def test_restore_after_several_runs_gives_back_the_first_content(output: Path) -> None:
    output.write_bytes(ORIGINAL)
    for bits in ("4", "12", "28"):
        command(output, "--coolbits", bits)
    command(output, "--restore")
    assert content(output) == {"xorg.conf": ORIGINAL}


def test_restore_stops_and_shows_the_difference_where_the_user_has_written_since(output: Path) -> None:
    output.write_bytes(ORIGINAL)
    command(output)
    mine = output.read_bytes() + b"# my own line\n"
    output.write_bytes(mine)
    before = content(output)
    result = CliRunner().invoke(setup_xorg, ["--output", str(output), "--restore"])
    assert isinstance(result.exception, GpufanError)
    assert str(result.exception).startswith(f"{output} has changed since gpufan wrote it; nothing was restored")
    assert "-# my own line\n" in result.stdout
    assert content(output) == before


def test_restore_never_removes_a_file_that_the_user_has_written_since(output: Path) -> None:
    command(output)
    output.write_bytes(b"# mine\n")
    with pytest.raises(GpufanError, match=f"has changed since gpufan wrote it; .*: move {output} away, or remove it"):
        command(output, "--restore")
    assert output.read_bytes() == b"# mine\n"


@pytest.mark.parametrize("written", [None, b"# mine\n"])
@pytest.mark.parametrize("keeps", [False, True])
def test_restore_says_how_a_file_of_the_user_is_restored_or_kept(
    output: Path, snippet: Path, written: bytes | None, keeps: bool
) -> None:
    before = content(output)
    command(output)
    snippet.unlink()
    if written is not None:
        snippet.write_bytes(written)
    with pytest.raises(GpufanError) as caught:
        command(output, "--restore")
    original = f"{snippet}.gpufan-original"
    assert str(caught.value) == (
        f"{snippet} {'was removed' if written is None else 'has changed'} since gpufan wrote it; nothing was restored:"
        f" restore it with `mv {original} {snippet}`, or leave it as it is and remove {original}; then run this again"
    )
    if keeps:
        Path(original).unlink()
        before = {name: data for name, data in before.items() if name != "xorg.conf.d/20.conf"}
        before |= {} if written is None else {"xorg.conf.d/20.conf": written}
    else:
        Path(original).replace(snippet)
    assert (
        f"left {snippet} as it is, since its original was removed\n" in command(output, "--restore").stdout
    ) == keeps
    assert content(output) == before


def test_nothing_is_left_of_a_file_of_ours_that_the_user_has_removed(output: Path) -> None:
    command(output)
    output.unlink()
    assert "has nothing to restore" in command(output, "--restore").stdout
    assert content(output) == {}


def test_one_file_of_the_user_stops_the_restore_of_all(output: Path, snippet: Path) -> None:
    command(output)
    snippet.write_bytes(snippet.read_bytes() + b"# mine\n")
    before = content(output)
    with pytest.raises(GpufanError, match=str(snippet)):
        command(output, "--restore")
    assert content(output) == before


def test_what_the_user_wrote_since_is_the_original_of_the_next_change(output: Path) -> None:
    output.write_bytes(ORIGINAL)
    command(output)
    mine = ORIGINAL.replace(b'"8"', b'"16"')
    output.write_bytes(mine)
    command(output)
    command(output, "--restore")
    assert output.read_bytes() == mine
    assert content(output) == {"xorg.conf": mine, "xorg.conf.gpufan-1": ORIGINAL}, "the older original is not lost"
    assert "has nothing to restore" in command(output, "--restore").stdout


def test_a_change_back_by_hand_is_no_change_of_the_user(output: Path) -> None:
    output.write_bytes(ORIGINAL)
    command(output)
    output.write_bytes(ORIGINAL)
    assert "its content is the original" in command(output, "--restore").stdout
    assert content(output) == {"xorg.conf": ORIGINAL}


def test_a_full_disk_leaves_every_file_and_no_record(
    output: Path, snippet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, fsync, calls = content(output), os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GpufanError, match=r"cannot write .*: No space left on device"):
        command(output)
    monkeypatch.undo()
    assert content(output) == before


@pytest.mark.parametrize("works", range(4))
def test_a_disk_that_is_full_after_some_writes_leaves_the_older_original_where_the_record_has_it(
    output: Path, monkeypatch: pytest.MonkeyPatch, works: int
) -> None:
    output.write_bytes(ORIGINAL)
    command(output)
    output.write_bytes(ORIGINAL.replace(b'"8"', b'"16"'))
    before, fsync, calls = content(output), os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == works + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GpufanError, match="No space left on device"):
        command(output)
    monkeypatch.undo()
    assert content(output) == before


@pytest.mark.parametrize(
    "name", ["replace", *(pytest.param(n, marks=pytest.mark.slow) for n in ("fsync", "link", "unlink"))]
)
@pytest.mark.parametrize("restore", [False, True])
def test_after_a_kill_at_any_step_nothing_is_lost_and_the_next_runs_clear_up(
    output: Path, snippet: Path, name: str, restore: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(output)
    for step in range(1, 12):
        if restore:
            command(output)

        def die(step: int = step) -> None:
            left, function = [step], getattr(os, name)

            def counted(*arguments: object, **options: object) -> object:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            setattr(os, name, counted)
            command(output, *(["--restore"] if restore else []))

        status = status_of(in_child(die))
        assert status in (0, -signal.SIGKILL)
        assert set(before) <= set(content(output)), "every file is there at any time"
        search.read_configuration(output, [snippet.parent])  # raises if X would refuse it
        command(output)
        command(output, "--restore")
        assert content(output) == before
        if status == 0:
            return
    pytest.fail("the command has more steps than this test")


def test_after_a_kill_of_a_second_run_the_content_of_the_first_one_is_still_ours(output: Path) -> None:
    output.write_bytes(ORIGINAL)
    command(output)

    def die() -> None:
        replace = files.replace

        def replace_only_the_record(path: Path, *rest: object, **more: object) -> None:
            if path == output:
                os._exit(9)
            replace(path, *rest, **more)

        files.replace = replace_only_the_record
        command(output, "--coolbits", "12")

    assert status_of(in_child(die)) == 9
    command(output, "--restore")
    assert content(output) == {"xorg.conf": ORIGINAL}


def test_overlapping_runs_of_setup_and_restore_lose_no_original(output: Path, snippet: Path) -> None:
    before = content(output)
    for _ in range(4):
        runs = [in_child(lambda: command(output)) for _ in range(2)]
        runs += [in_child(lambda: command(output, "--restore")) for _ in range(2)]
        assert [status_of(run) for run in runs] == [0] * 4
        command(output, "--restore")
        assert content(output) == before


def test_a_lock_that_is_never_free_is_an_error(output: Path) -> None:
    with (
        folder_locks([output.parent]),
        pytest.raises(GpufanError, match=f"another process has locked {output.parent}"),
        folder_locks([output.parent], limit_s=0.05),
    ):
        pass


def test_what_a_killed_run_has_left_is_removed_even_if_nothing_is_to_be_changed(output: Path, snippet: Path) -> None:
    command(output)
    before = content(output)
    for path in (output, snippet):
        path.with_name(f".{path.name}.gpufan-abcd1234").touch()
    assert "needs no change" in command(output).stdout
    assert content(output) == before


def test_a_file_of_the_user_with_the_name_of_a_temporary_file_stays(output: Path) -> None:
    theirs = output.with_name(".xorg.conf.original")
    theirs.write_bytes(b"mine")
    command(output)
    command(output, "--restore")
    assert theirs.read_bytes() == b"mine"


@pytest.mark.parametrize("damage", [b"", b"{}{", b'{"format": 2, "files": []}', b'{"files": [1]}'])
def test_a_damaged_record_is_one_clear_line(output: Path, damage: bytes) -> None:
    output.with_name("xorg.conf.gpufan-record").write_bytes(damage)
    for arguments in ([], ["--restore"]):
        with pytest.raises(GpufanError, match=r"is damaged|was written by a newer gpufan"):
            command(output, *arguments)
    assert not output.exists()


@pytest.mark.parametrize("name", ["original", "record"])
def test_a_folder_or_link_in_the_place_of_our_files_loses_nothing(output: Path, name: str, tmp_path: Path) -> None:
    output.write_bytes(ORIGINAL)
    place = output.with_name(f"xorg.conf.gpufan-{name}")
    place.mkdir()
    if name == "record":
        with pytest.raises(GpufanError, match="cannot read"):
            command(output)
    else:
        command(output)
        command(output, "--restore")
    place.rmdir()
    place.symlink_to(tmp_path / "nowhere")
    command(output)
    command(output, "--restore")
    assert output.read_bytes() == ORIGINAL


def test_a_record_of_another_user_is_not_trusted(output: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    output.write_bytes(ORIGINAL)
    command(output)
    os.chown(output.with_name("xorg.conf.gpufan-record"), 1234, 1234)
    with pytest.raises(GpufanError, match="belongs to another user, so it is not trusted"):
        command(output, "--restore")


def test_a_backup_with_other_content_is_not_restored(output: Path) -> None:
    output.write_bytes(ORIGINAL)
    command(output)
    output.with_name("xorg.conf.gpufan-original").write_bytes(b"")
    before = content(output)
    with pytest.raises(GpufanError, match="is not the original of"):
        command(output, "--restore")
    assert content(output) == before


@pytest.mark.parametrize("suffix", ["original", "created"])
def test_a_backup_of_an_older_version_is_named(output: Path, suffix: str) -> None:
    output.write_bytes(ORIGINAL)
    output.with_name(f"xorg.conf.gpufan-{suffix}").write_bytes(b"old")
    with pytest.raises(GpufanError, match="has no record of what it wrote"):
        command(output, "--restore")
    assert output.read_bytes() == ORIGINAL


def test_a_file_that_changes_between_plan_and_write_is_not_overwritten(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output.write_bytes(ORIGINAL)
    load = record.load_record

    def load_late(main: Path) -> record.Record:
        output.write_bytes(b"# of another program\n")
        return load(main)

    monkeypatch.setattr(
        record, "_check_changes", lambda changes, check=record._check_changes: (load_late(output), check(changes))
    )
    with pytest.raises(GpufanError, match="changed by another program"):
        command(output)
    assert output.read_bytes() == b"# of another program\n"


@pytest.mark.parametrize("seed", range(12))
def test_no_sequence_of_edits_setups_and_restores_loses_what_the_user_wrote(output: Path, seed: int) -> None:
    choice = random.Random(seed)
    paths = [output, *(output.parent / "xorg.conf.d" / name for name in ("10.conf", "20.conf"))]
    mine: dict[Path, bytes] = {}
    for _ in range(14):
        path = choice.choice(paths)
        action = choice.choice(("write", "write", "append", "remove", "setup", "setup", "restore"))
        if action == "write" or (action == "append" and path.exists()):
            data = b"".join(piece.data for piece in make_file_set(choice.randrange(10**6))[-1])
            mine[path] = (path.read_bytes() if action == "append" else data) + b"\n# %d\n" % choice.randrange(10**9)
            path.write_bytes(mine[path])
        elif action == "remove":
            path.unlink(missing_ok=True)
            mine.pop(path, None)
        else:
            untouched = [path for path, data in mine.items() if path.read_bytes() == data]
            with contextlib.suppress(GpufanError):
                command(output, *(["--restore"] if action == "restore" else ["--yes"]))
            assert set(mine.values()) <= set(content(output).values()), "nothing of the user is lost"
            if action == "restore":
                assert all(path.read_bytes() == mine[path] for path in untouched), "nothing of the user is reverted"
