"""The copy of gpufan that only root can write, and the search for files that others can write."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, PathDistribution, distribution
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpufan.errors import GpufanError
from gpufan.service import exposure, root_copy
from gpufan.service.steps import undone_on_failure
from gpufan.system import systemctl


def test_files_that_others_can_write_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposure, "_HIDDEN", [Path("/home")])
    assert exposure.first_exposure([Path("/usr/bin/env")]) is None
    # A file in a folder that everybody can write is exposed, whatever its own mode is.
    assert "/tmp is writable" in str(exposure.first_exposure([Path("/tmp/x")]))
    # With below=False the content of a folder does not count.
    assert exposure.first_exposure([Path("/")], below=False) is None
    assert exposure.first_exposure([tmp_path / "none"], below=False) is not None
    assert exposure.first_exposure([Path("/home/a/venv")]) == "/home/a/venv lies in /home"


def test_a_python_that_hangs_or_is_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(systemctl, "TIMEOUT_S", 0.02)
    with pytest.raises(GpufanError, match=r"^sleep 60 has not answered for 0\.02 s$"):
        systemctl.program_output("sleep", "60")
    with pytest.raises(GpufanError, match=r"^/nowhere/python3 cannot be run: No such file or directory$"):
        systemctl.program_output("/nowhere/python3")


def test_the_copy_includes_the_metrics_extra_if_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    def names() -> set[str]:
        return {found.metadata["Name"].lower().replace("-", "_") for found in root_copy._distributions_to_copy()}

    def without_extras(name: str) -> Distribution:
        if name.startswith("prometheus"):
            raise PackageNotFoundError
        return distribution(name)

    assert {"click", "prometheus_client"} <= names()
    monkeypatch.setattr(root_copy, "distribution", without_extras)
    assert "click" in names()
    assert not {"prometheus_client", "pytest"} & names()


def test_the_copy_includes_only_the_script_of_plotly():
    names = {name for name in root_copy._files_to_copy() if name.startswith("plotly/")}
    assert names == {"plotly/package_data/plotly.min.js"}


def test_the_copy_includes_no_pth_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/_editable_impl_gpufan.pth").write_text("/home/a/gpufan\n")
    (tmp_path / "site/needed.py").write_text("")

    files = [PackagePath("_editable_impl_gpufan.pth"), PackagePath("needed.py")]
    for file in files:
        file.dist = PathDistribution(tmp_path / "site/gpufan.dist-info")
    monkeypatch.setattr(root_copy, "_distributions_to_copy", lambda: [SimpleNamespace(files=files)])
    assert not [name for name in root_copy._files_to_copy() if name.endswith(".pth")]
    assert "needed.py" in root_copy._files_to_copy()


@pytest.mark.slow
def test_the_copy_runs_and_is_current_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(root_copy, "COPY", tmp_path / "gpufan")
    monkeypatch.setattr(root_copy, "_root_python", lambda: Path(getattr(sys, "_base_executable", sys.executable)))
    exposed: list[Path] = []
    monkeypatch.setattr(
        root_copy,
        "first_exposure",
        lambda paths, **_: next((f"{path} is bad" for path in paths if path in exposed), None),
    )
    root_copy.check_copy()
    assert not root_copy.copy_is_current(root_copy.copied_files_digest())
    root_copy.make_copy()
    root_copy.draft_copy_folder().rename(root_copy.COPY)
    assert root_copy.copy_is_current(root_copy.copied_files_digest())
    exposed.append(root_copy.COPY)
    assert not root_copy.copy_is_current(root_copy.copied_files_digest())
    exposed[:] = [tmp_path]
    with pytest.raises(GpufanError, match=f"a copy in {tmp_path} would not be safe: {tmp_path} is bad"):
        root_copy.check_copy()
    exposed.clear()
    assert (root_copy.COPY / "bin/gpufan").read_text().startswith(f"#!{root_copy.COPY}/bin/python3 -I\n")
    (root_copy.COPY / root_copy._MARK).write_text("older")
    assert not root_copy.copy_is_current(root_copy.copied_files_digest())
    (root_copy.COPY / root_copy._MARK).unlink()
    with pytest.raises(Exception, match="exists already"):
        root_copy.check_copy()


@pytest.mark.parametrize("exposed", ["draft", "path"])
def test_a_copy_that_would_run_code_of_other_users_is_refused_before_it_runs(
    exposed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    folder = tmp_path / "gpufan.new" if exposed == "draft" else theirs
    monkeypatch.setattr(root_copy, "COPY", tmp_path / "gpufan")
    monkeypatch.setattr(root_copy, "_root_python", lambda: Path(getattr(sys, "_base_executable", sys.executable)))
    monkeypatch.setattr(root_copy, "_files_to_copy", lambda: {"test.py": Path(__file__)})
    monkeypatch.setattr(
        root_copy, "first_exposure", lambda paths: next((f"{p} is bad" for p in paths if p == folder), None)
    )
    ran: list[tuple[str, ...]] = []
    run = root_copy.program_output
    monkeypatch.setattr(root_copy, "program_output", lambda *words: (ran.append(words), f"{theirs}\n" + run(*words))[1])
    with pytest.raises(GpufanError, match=f"that other users can change: {folder} is bad"):
        root_copy.make_copy()
    assert not [words for words in ran if "-m" in words or "-S" not in words]


def test_without_an_interpreter_of_root_there_is_no_copy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposure, "_is_writable_by_others", lambda _: True)
    assert exposure.installation_exposure() is not None
    with pytest.raises(Exception, match="no python3"):
        root_copy.check_copy()


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """An upgrade of a copy in which the file `good` is. It fails after the copy was replaced, at the latest."""
    monkeypatch.setattr(root_copy, "COPY", tmp_path / "gpufan")
    monkeypatch.setattr(root_copy, "make_copy", lambda: root_copy.draft_copy_folder().mkdir())
    root_copy.COPY.mkdir()
    (root_copy.COPY / "good").touch()

    def fail() -> None:
        with suppress(OSError, GpufanError), undone_on_failure(print) as undo:
            root_copy.replace_copy(undo)
            assert not (root_copy.COPY / "good").exists()
            raise GpufanError("later")
        assert (root_copy.COPY / "good").exists()
        assert os.listdir(tmp_path) == ["gpufan"]

    return fail


def test_the_old_copy_survives_an_upgrade_that_fails(upgrade: Callable[[], None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "rename", None)  # it is replaced in one step
    upgrade()


@pytest.mark.parametrize("failing", [None, 0, 1, 2])
def test_the_old_copy_survives_where_folders_can_only_be_renamed(
    upgrade: Callable[[], None], failing: int | None, monkeypatch: pytest.MonkeyPatch
):
    calls: list[Path] = []
    rename = Path.rename

    def rename_or_fail(path: Path, to: Path) -> Path:
        calls.append(path)
        if len(calls) - 1 == failing:
            raise OSError(18, "Invalid cross-device link")
        return rename(path, to)

    monkeypatch.setattr(root_copy, "_RENAME_EXCHANGE", 64)  # an unknown flag is refused
    monkeypatch.setattr(Path, "rename", rename_or_fail)
    upgrade()


def test_the_old_copy_of_an_install_that_was_killed_between_two_renames_is_restored(upgrade: Callable[[], None]):
    root_copy.COPY.rename(root_copy.old_copy_folder())
    upgrade()
