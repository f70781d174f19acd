"""The temporary folder of a simulated box: nobody else removes it, and it does not outlive its process for long."""

import os
import tempfile
from pathlib import Path

import pytest

from gpufan.web import temporary_folder as module
from gpufan.web.temporary_folder import PREFIX, temporary_folder


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_goes_with_its_content_even_after_an_error(temporary_files: Path) -> None:
    with pytest.raises(KeyboardInterrupt), temporary_folder() as folder:
        (folder / "history").mkdir()
        (folder / "history" / "file").write_text("x")
        raise KeyboardInterrupt
    assert list(temporary_files.iterdir()) == []


def test_folders_that_no_process_has_locked_are_removed_and_others_stay(temporary_files: Path) -> None:
    abandoned, other, target = (temporary_files / name for name in (f"{PREFIX}old", "gpufan-other", "target"))
    for folder in (abandoned, other, target):
        (folder / "history").mkdir(parents=True)
    link, file = temporary_files / f"{PREFIX}link", temporary_files / f"{PREFIX}file"
    link.symlink_to(target)
    file.write_text("x")
    with temporary_folder() as first, temporary_folder() as second:
        assert set(temporary_files.iterdir()) == {first, second, other, target, link, file}
        assert (target / "history").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_a_folder_of_another_user_stays(temporary_files: Path) -> None:
    folder = temporary_files / f"{PREFIX}nobody"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with temporary_folder():
        assert folder.is_dir()


def test_a_folder_that_another_process_removes_before_it_is_locked_is_made_again(
    monkeypatch: pytest.MonkeyPatch, temporary_files: Path
) -> None:
    made = []

    def open_folder(folder: Path) -> int:
        descriptor = os.open(folder, os.O_RDONLY)
        made.append(folder)
        if len(made) == 1:
            folder.rmdir()
        return descriptor

    monkeypatch.setattr(module, "_open_folder", open_folder)
    with temporary_folder() as folder:
        assert folder == made[1] and folder.is_dir()
