"""The lock of the controller: one process at a time, and free again when that process ends."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpufan.errors import GpufanError, NoPermission
from gpufan.system.lock import controller_lock


def nothing_to_warn_of(text: str) -> None:
    raise AssertionError(text)


def test_a_second_controller_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    with (
        controller_lock(tmp_path, nothing_to_warn_of),
        pytest.raises(GpufanError, match=rf"another gpufan \(process {os.getpid()}\) controls the fans"),
        controller_lock(tmp_path, nothing_to_warn_of),
    ):
        pass


def test_the_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with controller_lock(tmp_path, nothing_to_warn_of):
            pass


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), controller_lock(tmp_path, nothing_to_warn_of):
        raise ZeroDivisionError
    with controller_lock(tmp_path, nothing_to_warn_of):
        pass


def test_another_process_holds_the_lock_until_it_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from gpufan.system.lock import controller_lock\n"
        "with controller_lock(pathlib.Path(sys.argv[1]), print): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(GpufanError, match=f"process {holder.pid}"), controller_lock(tmp_path, nothing_to_warn_of):
            pass
        holder.kill()
    with controller_lock(tmp_path, nothing_to_warn_of):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_removed_lock_and_folder_are_created_again_and_still_refuse_a_second_controller(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with controller_lock(folder, nothing_to_warn_of) as lock:
        assert lock is not None
        lock.renew()
        shutil.rmtree(folder)
        lock.renew()
        with pytest.raises(GpufanError, match="another gpufan"), controller_lock(folder, nothing_to_warn_of):
            pass
        (folder / "lock").unlink()
        with (
            controller_lock(folder, nothing_to_warn_of),
            pytest.raises(GpufanError, match="another gpufan"),
        ):
            lock.renew()
    with controller_lock(folder, nothing_to_warn_of):
        pass


def test_a_child_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    with controller_lock(tmp_path, nothing_to_warn_of):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with controller_lock(tmp_path, nothing_to_warn_of):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_shorter_process_number_replaces_a_longer_one_completely(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("99999999999999\n")
    with controller_lock(tmp_path, nothing_to_warn_of):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_the_folder_is_created_if_need_be(tmp_path: Path) -> None:
    with controller_lock(tmp_path / "run" / "gpufan", nothing_to_warn_of):
        assert (tmp_path / "run" / "gpufan" / "lock").exists()


def test_without_a_folder_there_is_no_lock() -> None:
    with controller_lock(None, nothing_to_warn_of), controller_lock(None, nothing_to_warn_of):
        pass


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_an_error_of_the_file_system_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    warnings: list[str] = []
    with controller_lock(tmp_path, warnings.append):
        assert warnings == [
            f"{tmp_path}/lock: {os.strerror(number)}; gpufan continues without a lock: make sure that no other one runs"
        ]


def test_a_file_system_without_locks_is_only_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    warnings: list[str] = []
    with controller_lock(tmp_path, warnings.append):
        assert warnings == [
            f"{tmp_path}/lock: No locks available; gpufan continues without a lock: make sure that no other one runs"
        ]


def test_a_file_in_place_of_the_folder_is_only_a_warning(tmp_path: Path) -> None:
    (tmp_path / "gpufan").write_text("")
    warnings: list[str] = []
    with controller_lock(tmp_path / "gpufan", warnings.append):
        assert len(warnings) == 1


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to("victim")
    warnings: list[str] = []
    with controller_lock(tmp_path, warnings.append):
        assert (tmp_path / "victim").read_text() == "precious"
    assert len(warnings) == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_user_without_rights_is_told_to_use_sudo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NoPermission, match="run this with sudo"), controller_lock(tmp_path, nothing_to_warn_of):
        pass
