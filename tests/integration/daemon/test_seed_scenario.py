"""What this program is there for, in one go: no xorg.conf, two cards, a driver that sets fans over X only, and the X
server of a display manager, which nobody must disturb."""

import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpufan.xorg.authority import write_cookie
from gpufan.xorg.client import Connection, Display
from gpufan.xorg.config import ConfigFile
from tests.doubles import require
from tests.doubles.nvml import wait_for
from tests.integration.gpu.x_box import CURVE, XBox, end

DUMMY = 'Section "Device"\nIdentifier "card"\nDriver "dummy"\nEndSection\n'


@contextmanager
def lightdm(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Display]]:
    """The X server of a display manager: the real Xorg, with the dummy driver, on a free display."""
    folder.mkdir()
    (folder / "xorg.conf").write_text(DUMMY)
    (folder / "snippets").mkdir()
    write_cookie(folder / "Xauthority", bytes(16))
    files = ["-config", "xorg.conf", "-configdir", "snippets", "-logfile", "log", "-auth", "Xauthority"]
    ready, told = os.pipe()
    # Without a display's number it takes the lowest that is free, as a display manager's does.
    command = [require("Xorg", "xserver-xorg-core xserver-xorg-video-dummy"), "-displayfd", str(told), *files]
    with (
        os.fdopen(ready) as number,
        subprocess.Popen([*command, "-noreset", "-novtswitch", "-sharevts"], cwd=folder, pass_fds=[told]) as server,
    ):
        os.close(told)
        try:
            assert select.select([number], [], [], 10)[0]
            yield server, Display(int(number.readline()), folder / "Xauthority")
        finally:
            server.terminate()


def test_seed_scenario(tmp_path: Path) -> None:
    with lightdm(tmp_path / "lightdm") as (other, its_display):
        client = Connection(its_display)
        box = XBox(tmp_path)
        assert [card.pci for card in box.double.cards[:2]] == [b"00000000:0A:00.0", b"00000000:41:00.0"]

        path = tmp_path / "xorg.conf"
        status, out, err = box.gpufan("setup-xorg", "--output", str(path))
        assert (status, err) == (0, "")
        assert "+++ " in out and f"wrote {path}" in out
        config = ConfigFile(path.read_bytes(), "xorg.conf")
        devices = config.of_kind("device")
        assert [device.value("busid").text for device in devices] == ["PCI:10:0:0", "PCI:65:0:0"]
        assert [device.option("coolbits").value.text for device in devices] == ["4", "4"]
        assert box.gpufan("setup-xorg", "--output", str(path))[1] == f"{path} needs no change\n"

        with box.double.live(speed=20), box.running("run", *CURVE) as process:
            for temperatures in ((60, 50), (70, 75)):
                for card, temperature_c in zip(box.double.cards, temperatures, strict=False):
                    card.temperature = temperature_c
                wait_for(lambda wanted=temperatures: box.fans() == [[duty] * 2 for duty in wanted])
                wait_for(lambda wanted=temperatures: tuple(c.fans[1].speed for c in box.double.cards[:2]) == wanted)
            (ours,) = box.xorgs()
            assert ours != other.pid
            assert end(process) == (0, "")
        assert box.fans() == [[None, None]] * 2
        assert box.xorgs() == []

        assert other.poll() is None
        assert client.extension("XTEST") is not None, "who was connected still is"
        Connection(its_display).close()
        client.close()
