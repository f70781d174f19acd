"""The real X server reads our files. It cannot only check a file, but it reads the file before it looks for cards.

Without a card it ends at once, and its messages distinguish a syntax error from a missing driver.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings

from gpufan.core.pci import PciAddress
from gpufan.xorg.config import Config
from gpufan.xorg.edit import Wanted, edit
from tests.doubles.xorg_files import SAMPLES, legal_files

CARDS = [PciAddress.parse(text) for text in ("0a:00.0", "41:00.0", "1:01:00.0")]
COMPLAINTS = "Parse error", "Data incomplete", "Error parsing", "Problem parsing"


class Verdict(NamedTuple):
    complaints: list[str]
    """Errors of the file itself."""
    log: str


@pytest.fixture(scope="session")
def referee(tmp_path_factory):
    """Lets Xorg read a file; skipped if Xorg is missing, but not in CI."""
    server = Path("/usr/lib/xorg/Xorg")
    found = str(server) if server.exists() else shutil.which("Xorg")
    if found is None:
        missing = "Xorg is missing: apt-get install xserver-xorg-core"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    folder = tmp_path_factory.mktemp("xorg")
    (folder / "snippets").mkdir()

    def judge(data: bytes) -> Verdict:
        config, log = folder / "xorg.conf", folder / "log"
        config.write_bytes(data)
        arguments = ["-config", config, "-configdir", folder / "snippets", "-logfile", log]
        quiet = ["-noreset", "-novtswitch", "-sharevts"]
        with subprocess.Popen([found, ":97", *arguments, *quiet], stderr=subprocess.PIPE) as server:
            try:
                _, said = server.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                # It uses a card of this machine, so it has read the file.
                server.terminate()
                _, said = server.communicate(timeout=10)
        text = log.read_text("latin-1") if log.exists() else ""
        lines = (said.decode("latin-1") + text).splitlines()
        assert any(str(config) in line for line in lines), f"the server did not read the file: {lines}"
        return Verdict([line for line in lines if any(complaint in line for complaint in COMPLAINTS)], text)

    return judge


def edited(data: bytes, wanted: Wanted | None = None) -> bytes:
    return edit(Config(data, "xorg.conf"), CARDS, wanted or Wanted()).data


def test_server_reads_our_file_and_misses_only_the_driver(referee):
    verdict = referee(edited(b""))
    assert verdict.complaints == []
    assert 'Failed to load module "nvidia"' in verdict.log


def test_server_sees_every_screen_that_the_layout_names(referee):
    log = referee(edited(b"")).log
    for number, card in enumerate(CARDS):
        assert f'|-->Screen "Screen {card}" ({number})' in log
        assert f'|   |-->Device "NVIDIA {card}"' in log


def test_server_reads_a_file_with_a_pretended_monitor(referee):
    assert referee(edited(b"", Wanted(edid="/etc/X11/gpufan-edid.bin"))).complaints == []


@pytest.mark.parametrize("sample", SAMPLES)
def test_server_reads_each_sample_after_the_edit_as_before(referee, sample):
    assert referee(SAMPLES[sample]).complaints == []
    assert referee(edited(SAMPLES[sample])).complaints == []


def test_referee_sees_a_syntax_error(referee):
    assert "Parse error on line 2 of section Device" in referee(b'Section "Device"\nEndSektion\n').complaints[0]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(legal_files(unknown=False))
def test_server_reads_generated_files_after_the_edit_as_before(referee, pieces):
    data = b"".join(piece.data for piece in pieces)
    assert referee(data).complaints == []
    assert referee(edited(data)).complaints == []
