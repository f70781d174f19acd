"""How a gpufan was installed, and the copy for the service."""

import sys
from pathlib import Path

import pytest

from gpufan import __version__
from gpufan.service import installation, package, root_copy
from gpufan.service.installation import Installation, Kind, copied_installation, this_installation


@pytest.mark.parametrize(
    ("mark", "kind"),
    [("pipx_metadata.json", Kind.PIPX), ("uv-receipt.toml", Kind.UV), ("pyvenv.cfg", Kind.ENVIRONMENT)],
)
def test_the_tool_that_made_an_environment_is_known_by_its_file(
    mark: str, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(installation, "_is_editable", lambda: False)
    (tmp_path / mark).touch()
    assert this_installation() == Installation(kind, tmp_path, __version__)


def test_package_copy_and_the_python_of_the_system_are_known_by_their_folders(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installation, "_is_editable", lambda: False)
    for folder, kind in (
        (package.PACKAGE, Kind.PACKAGE),
        (root_copy.COPY, Kind.COPY),
        (Path(sys.base_prefix), Kind.SYSTEM),
    ):
        monkeypatch.setattr(sys, "prefix", str(folder))
        assert this_installation().kind is kind


def test_the_version_of_the_copy_is_known_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(root_copy, "COPY", tmp_path)
    assert copied_installation() is None
    (tmp_path / "lib/python3.11/site-packages/gpufan-0.1.0.dist-info").mkdir(parents=True)
    assert copied_installation() == Installation(Kind.COPY, tmp_path, "0.1.0")
