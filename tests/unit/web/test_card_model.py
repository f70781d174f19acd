"""The models of the cards on a box without scipy and numpy."""

import subprocess
import sys
from pathlib import Path

import pytest

from gpufan.errors import MissingExtra
from gpufan.web.card_model import fit_last_day


def test_the_page_starts_without_numpy() -> None:
    code = "import sys; sys.modules['numpy'] = None; import gpufan.web.run"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_fit_without_numpy_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name == "numpy" or name == "gpufan.tune.day_load"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingExtra, match="a fit needs scipy"):
        fit_last_day(tmp_path, 0.0)
