"""Files that are read with care, and written completely or not at all."""

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpufan.errors import GpufanError, InputError
from gpufan.system.files import (
    check_folder_is_writable,
    create_folder,
    read_file,
    remove,
    rename,
    replace,
    why_root_cannot_write,
    write_files,
    write_output,
)

CONTENTS = {"a.json": b"1", "sub/b.yml": b"2"}


def test_only_a_regular_file_of_a_sensible_size_is_read(tmp_path: Path) -> None:
    file, giant, pipe = (tmp_path / name for name in ("file", "giant", "pipe"))
    file.write_bytes(b"all of it")
    with giant.open("wb") as opened:
        opened.truncate(1 << 40)
    os.mkfifo(pipe)
    assert read_file(file) == b"all of it"
    for path in (giant, pipe, tmp_path, Path("/dev/zero"), tmp_path / "none"):
        with pytest.raises(OSError):
            read_file(path)


def test_a_device_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    monkeypatch.setattr(os, "open", None)
    with pytest.raises(OSError, match="it is not a file"):
        read_file(tmp_path / "link")


def test_all_files_are_written_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert write_files(folder, CONTENTS) == [f"wrote {folder}/a.json", f"wrote {folder}/sub/b.yml"]
    assert {name: (folder / name).read_bytes() for name in CONTENTS} == CONTENTS
    assert write_files(folder, CONTENTS) == [f"{folder / name} is up to date" for name in CONTENTS]


def test_a_file_with_other_content_is_not_overwritten_and_no_other_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("mine")
    with pytest.raises(InputError, match=r"a\.json would be overwritten: add --force"):
        write_files(tmp_path, CONTENTS)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_link_that_leads_nowhere_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("elsewhere")
    with pytest.raises(InputError, match=r"a\.json would be overwritten: add --force"):
        write_files(tmp_path, CONTENTS)
    assert [path.readlink() for path in tmp_path.iterdir()] == [Path("elsewhere")]


def test_force_replaces_a_file_with_other_content(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("mine")
    write_files(tmp_path, CONTENTS, force=True)
    assert (tmp_path / "a.json").read_bytes() == CONTENTS["a.json"]


@pytest.mark.parametrize("folder", ["/proc", "/proc/folder", f"{__file__}/folder"])
def test_a_folder_that_cannot_be_written_is_an_error_with_a_remedy(folder: str) -> None:
    with pytest.raises(GpufanError, match=rf"^cannot \w+ {folder}.*: [^;]*; choose another --output$"):
        write_files(Path(folder), CONTENTS)


def test_removing_a_file_whose_folder_is_gone_is_no_error(tmp_path: Path) -> None:
    remove(tmp_path / "gone" / "file")


@pytest.mark.parametrize("place", ["a.svg", "folder/a.svg", "ours.svg"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_link_of_another_user_is_not_followed(tmp_path: Path, place: str) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/a.svg").write_text("precious")
    (tmp_path / "ours.svg").symlink_to("a.svg")
    for link, target in (("a.svg", "victim/a.svg"), ("folder", "victim")):
        (tmp_path / link).symlink_to(target)
        os.chown(tmp_path / link, 1234, -1, follow_symlinks=False)
    with pytest.raises(GpufanError, match="is a link of another user"):
        write_output(tmp_path / place, b"new")
    assert (tmp_path / "victim/a.svg").read_text() == "precious"


def test_a_link_that_appears_after_the_check_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.svg").symlink_to("victim")
    monkeypatch.setattr(Path, "resolve", lambda path: path)  # as if there was no link yet
    with pytest.raises(GpufanError, match="cannot write"):
        write_output(tmp_path / "a.svg", b"new")
    assert not (tmp_path / "victim").exists()


def test_an_output_behind_a_circle_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.svg").symlink_to("a.svg")
    with pytest.raises(GpufanError, match="circle"):
        write_output(tmp_path / "a.svg", b"new")


@pytest.fixture
def protect(tmp_path: Path) -> Iterator[Callable[[str, Path], None]]:
    """Set an attribute as `chattr` does, until the end of the test."""
    protected = []

    def set_attribute(letter: str, path: Path) -> None:
        protected.append(path)
        done = subprocess.run(["chattr", f"+{letter}", path], capture_output=True, timeout=10, check=False)
        if done.returncode != 0:
            pytest.skip("needs root, and a file system with attributes")

    yield set_attribute
    for path in protected:
        subprocess.run(["chattr", "-ia", path], capture_output=True, timeout=10, check=False)


@pytest.mark.parametrize(
    ("letter", "protected", "action"),
    [
        ("i", "my file", lambda path: replace(path, b"new")),
        ("a", "my file", lambda path: replace(path, b"new")),
        ("i", "my file", lambda path: rename(path, path.with_name("other"))),
        ("i", "my file", remove),
        ("a", "", remove),
        ("i", "", lambda path: create_folder(path.with_name("a") / "b")),
        ("i", "", lambda path: check_folder_is_writable(path.with_name("a") / "b")),
    ],
)
def test_what_is_protected_from_root_is_named_with_the_remedy(
    tmp_path: Path,
    protect: Callable[[str, Path], None],
    letter: str,
    protected: str,
    action: Callable[[Path], None],
) -> None:
    path = tmp_path / "my file"
    path.write_bytes(b"mine")
    target = tmp_path / protected
    protect(letter, target)
    command = f"`chattr -{letter} {shlex.quote(str(target))}` first"
    with pytest.raises(GpufanError, match=f"{target} has the attribute {letter}, .*; run {command}"):
        action(path)
    assert path.read_bytes() == b"mine"


def test_a_folder_that_is_protected_from_root_is_no_read_only_one(
    tmp_path: Path, protect: Callable[[str, Path], None]
) -> None:
    assert why_root_cannot_write(tmp_path) == f"{tmp_path} is read-only: mount it writable, and try again"
    protect("i", tmp_path)
    assert why_root_cannot_write(tmp_path).startswith(f"{tmp_path} has the attribute i")
