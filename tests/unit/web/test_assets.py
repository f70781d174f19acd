"""The files of the page: all that the page names are served, compressed, and nothing from outside is named."""

import gzip
import os
import re
import stat
from pathlib import Path

import pytest

from gpufan.errors import MissingExtra
from gpufan.web import assets
from gpufan.web.assets import PLOTLY, Assets
from gpufan.web.preload import _is_readable_for
from gpufan.web.rights import User


@pytest.fixture(scope="module")
def files() -> Assets:
    return Assets()


def test_every_file_that_the_page_names_is_served_under_the_hash_of_all(files: Assets) -> None:
    named = re.findall(r'(?:src|href)="([^"]+)"', files.index())
    own = [address for address in named if address.startswith("/static/")]
    assert own and all(address.startswith(f"/static/{files.digest}/") for address in own)
    assert {address.rpartition("/")[2] for address in own} <= set(files.files)


def test_every_module_that_a_module_imports_is_served(files: Assets) -> None:
    for name, asset in files.files.items():
        if name.endswith(".js") and name != PLOTLY:
            imported = re.findall(
                r'^(?:import|export) (?:[^"]*? from )?"([^"]+)";', asset.content().decode(), re.MULTILINE
            )
            assert all(path.startswith("./") and path[2:] in files.files for path in imported), (name, imported)


def test_no_file_of_the_page_names_another_server(files: Assets) -> None:
    for name, asset in files.files.items():
        if name != PLOTLY:
            addresses = set(re.findall(r"https?://[^\s\"'`)]+", asset.content().decode()))
            assert addresses <= {"http://www.w3.org/2000/svg"}, name  # the name of SVG, which nothing loads


def test_files_are_compressed_once(files: Assets) -> None:
    asset = files.files["app.js"]
    assert gzip.decompress(asset.packed()) == asset.content()
    assert asset.packed() is asset.packed()
    assert len(files.files[PLOTLY].packed()) < 1_600_000


def test_without_plotly_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"plotly.*gpufan\[web\]"):
        Assets()


def test_code_below_a_private_folder_is_hidden_from_others(tmp_path: Path) -> None:
    file = tmp_path / "private/code.py"
    file.parent.mkdir(mode=0o700)
    file.write_text("")
    owner = User(os.geteuid(), os.getegid())
    stranger = User(owner.uid + 12345, owner.gid + 12345)
    assert not _is_readable_for(file, stranger)
    assert _is_readable_for(Path("/etc/passwd"), stranger)
    assert _is_readable_for(Path("/etc/passwd"), owner)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
