"""Which files X reads, and in which order."""

import os
from pathlib import Path

import pytest

from gpufan.errors import GpufanError, InputError
from gpufan.xorg import search


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("usr/share/X11/xorg.conf.d", "etc/X11/xorg.conf.d"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def files_read(root: Path, main: Path) -> list[str]:
    found = search.read_configuration(main, search.snippet_folders(root))
    return [str(Path(file.name).relative_to(root)) for file in found.files]


def test_snippets_of_packages_come_first_then_those_of_the_user_then_xorg_conf(root: Path) -> None:
    for name in (
        "etc/X11/xorg.conf.d/20-b.conf",
        "etc/X11/xorg.conf.d/10-c.conf",
        "usr/share/X11/xorg.conf.d/90-a.conf",
    ):
        (root / name).touch()
    assert files_read(root, search.main_config_file(root)) == [
        "usr/share/X11/xorg.conf.d/90-a.conf",
        "etc/X11/xorg.conf.d/10-c.conf",
        "etc/X11/xorg.conf.d/20-b.conf",
        "etc/X11/xorg.conf",
    ]


def test_hidden_files_folders_and_other_names_are_no_snippets(root: Path) -> None:
    folder = root / "etc/X11/xorg.conf.d"
    for name in (".10.conf", ".conf", "10.conf.gpufan-original", "10.CONF", "10"):
        (folder / name).touch()
    (folder / "20.conf").mkdir()
    (folder / "30.conf").symlink_to("nowhere")
    (folder / "40.conf").symlink_to("40.conf")
    (folder / "50.conf").symlink_to("/dev/null")
    assert files_read(root, search.main_config_file(root)) == ["etc/X11/xorg.conf"]


def test_a_folder_of_another_distribution_counts_where_the_usual_one_has_no_snippet(root: Path) -> None:
    (root / "usr/lib/X11/xorg.conf.d").mkdir(parents=True)
    (root / "usr/lib/X11/xorg.conf.d/10.conf").touch()
    assert files_read(root, search.main_config_file(root))[0] == "usr/lib/X11/xorg.conf.d/10.conf"


def test_a_folder_with_a_name_of_a_snippet_hides_the_next_folder_of_snippets(root: Path) -> None:
    (root / "usr/lib/X11/xorg.conf.d").mkdir(parents=True)
    (root / "usr/lib/X11/xorg.conf.d/10.conf").touch()
    (root / "usr/share/X11/xorg.conf.d/20.conf").mkdir()
    assert files_read(root, search.main_config_file(root)) == ["etc/X11/xorg.conf"]


def test_more_files_than_x_reads_are_an_input_error(root: Path) -> None:
    for number in range(63):
        (root / f"etc/X11/xorg.conf.d/{number}.conf").touch()
    assert len(files_read(root, search.main_config_file(root))) == 64
    (root / "usr/share/X11/xorg.conf.d/10.conf").mkdir()
    with pytest.raises(InputError, match="X reads 64 files at most, and there would be 65"):
        files_read(root, search.main_config_file(root))


@pytest.mark.parametrize(
    "name", ["etc/X11/xorg.conf", "etc/xorg.conf", "usr/etc/X11/xorg.conf", "usr/lib/X11/xorg.conf"]
)
def test_the_main_file_is_the_first_that_exists(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    for path in (name, "usr/lib/X11/xorg.conf"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    assert search.main_config_file(root) == root / name


def test_x_reads_only_the_first_main_file_and_the_snippets(root: Path) -> None:
    folders = [root / "etc/X11/xorg.conf.d"]
    (root / "etc/xorg.conf").touch()
    (root / "etc/X11/link.conf").symlink_to("xorg.conf")
    read = {
        name: search.is_read_by_x(root / name, folders, root)
        for name in (
            *("etc/X11/xorg.conf.d/new.conf", "etc/X11/xorg.conf", "etc/X11/link.conf", "etc/xorg.conf"),
            *("etc/X11/other.conf", "usr/lib/X11/xorg.conf"),
        )
    }
    assert [name for name, is_read in read.items() if not is_read] == ["etc/X11/other.conf", "usr/lib/X11/xorg.conf"]


def test_an_output_among_the_snippets_is_read_once_in_its_place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, usual = root / "etc/X11/xorg.conf.d", root / "etc/X11/xorg.conf"
    monkeypatch.setattr(search, "main_config_file", lambda: usual)
    for path in (folder / "10.conf", folder / "30.conf", usual):
        path.touch()
    snippets = [f"etc/X11/xorg.conf.d/{number}.conf" for number in (10, 20, 30)]
    assert files_read(root, folder / "20.conf") == [*snippets, "etc/X11/xorg.conf"]
    assert files_read(root, folder / "30.conf") == [*snippets[::2], "etc/X11/xorg.conf"]


@pytest.mark.parametrize("name", ["20-gpufan", ".gpufan.conf"])
def test_an_output_among_the_snippets_that_x_would_not_read_is_an_input_error(root: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"X reads only files \*\.conf in this folder"):
        files_read(root, root / "etc/X11/xorg.conf.d" / name)


def test_a_pipe_for_which_x_would_wait_is_named(root: Path) -> None:
    path = root / "etc/X11/xorg.conf.d/10.conf"
    os.mkfifo(path)
    with pytest.raises(GpufanError, match=f"cannot read {path}: it is not a file"):
        files_read(root, search.main_config_file(root))


def test_a_snippet_that_cannot_be_read_is_named(root: Path) -> None:
    path = root / "etc/X11/xorg.conf.d/10.conf"
    path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(GpufanError, match=f"cannot read {path}: it is too large"):
        files_read(root, search.main_config_file(root))
