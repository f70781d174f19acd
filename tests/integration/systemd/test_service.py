"""The service once installed: every way to die, after which fans go back to the driver at once, and its sandbox.

An out-of-memory kill is a SIGKILL.
"""

import ctypes
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pynvml import NVML_ERROR_UNKNOWN

from gpufan.service.units import COMPANIONS, DROP_IN, unit_files
from tests.doubles.nvml import AUTO, MANUAL, Kind, wait_for
from tests.integration.systemd.conftest import Boot
from tests.integration.systemd.rig import Rig

pytestmark = pytest.mark.systemd
Measured = Callable[[str, float], None]

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207  # sys/ptrace.h
AFTER_KILL_S = 2.0
WATCHDOG_S = 6
"""In place of the unit's own, so that the test takes seconds. A snapshot every 2 s, and 2 s for a call, are less."""


def policies(rig: Rig) -> list[int]:
    return [card.fans[0].policy for card in rig.double.cards[:2]]


def wait_until_active(rig: Rig, not_pid: int) -> None:
    wait_for(lambda: rig.show("gpufan.service", "MainPID") not in ("0", str(not_pid)), 20)
    wait_for(lambda: rig.show("gpufan.service", "ActiveState") == "active", 20)
    assert policies(rig) == [MANUAL, MANUAL]


def die(rig: Rig, how: Callable[[], None], limit_s: float = 30.0) -> float:
    """Make the service die by `how`; seconds until the last fan was given back, before it was controlled again."""
    wait_for(lambda: policies(rig) == [MANUAL, MANUAL])
    pid = int(rig.show("gpufan.service", "MainPID"))
    seen = len(rig.double.log())
    start_ns = time.monotonic_ns()
    how()
    wait_until_active(rig, pid)
    given_back = {}
    for call in rig.double.log()[seen:]:
        if call.operation == Kind.SET_DEFAULT and call.pid != pid and call.result == 0:
            given_back.setdefault(call.card, call.time_ns)
    assert sorted(given_back) == [0, 1], "not every fan was given back"
    return (max(given_back.values()) - start_ns) / 1e9


@pytest.fixture
def short_watchdog(installed: Rig):
    installed.drop_in(f"[Service]\nWatchdogSec={WATCHDOG_S}\n")
    yield
    installed.drop_in("")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_after_a_kill_the_driver_controls_the_fans_at_once(number: signal.Signals, installed: Rig, measured: Measured):
    pid = installed.host_pid()
    seconds = die(installed, lambda: os.kill(pid, number))
    measured(f"after {number.name}", seconds)
    assert seconds <= AFTER_KILL_S


def test_after_a_hang_the_driver_controls_the_fans(installed: Rig, short_watchdog: None, measured: Measured):
    pid = installed.host_pid()
    seconds = die(installed, lambda: os.kill(pid, signal.SIGSTOP))
    measured(f"after SIGSTOP, WatchdogSec={WATCHDOG_S}", seconds)
    assert seconds <= WATCHDOG_S + AFTER_KILL_S
    assert "watchdog" in installed.journal()


def test_a_card_that_hangs_leaves_the_other_under_control_and_the_service_alive(installed: Rig, short_watchdog: None):
    pid = installed.show("gpufan.service", "MainPID")
    installed.double.cards[0].hang[Kind.TEMPERATURE] = 1
    wait_for(lambda: "lost" in installed.show("gpufan.service", "StatusText"), 15)
    time.sleep(WATCHDOG_S + 1)
    assert installed.show("gpufan.service", "MainPID") == pid
    assert installed.double.cards[1].fans[0].policy == MANUAL
    installed.double.let_go()
    wait_for(lambda: "lost" not in installed.show("gpufan.service", "StatusText"), 15)


def test_lost_cards_end_the_daemon_and_a_new_one_finds_them(installed: Rig):
    # A minute is what the daemon waits; patched, so that this test does not.
    site = "/opt/gpufan/lib/python3*/site-packages/gpufan/daemon/*.py"
    installed.run("sh", "-c", f"sed -i 's/^ALL_LOST_S = .*/ALL_LOST_S = 2.0/' {site}")
    installed.run("systemctl", "restart", "gpufan.service")
    pid = int(installed.show("gpufan.service", "MainPID"))
    for card in installed.double.cards[:2]:
        card.lost = 1
    wait_for(lambda: installed.show("gpufan.service", "MainPID") not in ("0", str(pid)), 20)
    for card in installed.double.cards[:2]:
        card.lost = 0
    wait_until_active(installed, pid)
    assert "no card was under control for 2 s" in installed.journal()


def test_a_stop_gives_the_fans_back_and_a_start_sets_them(installed: Rig):
    installed.run("systemctl", "stop", "gpufan.service")
    assert policies(installed) == [AUTO, AUTO]
    assert installed.show("gpufan.service", "Result") == "success"
    installed.run("systemctl", "start", "gpufan.service")
    assert policies(installed) == [MANUAL, MANUAL]


def test_a_card_that_the_service_does_not_control_is_left_alone_by_a_kill_and_a_stop(installed: Rig):
    installed.write("/etc/gpufan/config.toml", "gpus = [0]\n")
    installed.run("systemctl", "restart", "gpufan.service")
    for fan in installed.double.cards[1].fans:
        fan.policy, fan.target = MANUAL, 55  # another program's
    installed.double.cards[1].error[Kind.SET_DEFAULT] = NVML_ERROR_UNKNOWN
    pid = int(installed.show("gpufan.service", "MainPID"))
    os.kill(installed.host_pid(), signal.SIGKILL)
    wait_until_active(installed, pid)
    installed.run("systemctl", "stop", "gpufan.service")
    assert installed.show("gpufan.service", "Result") == "success"
    assert policies(installed) == [AUTO, MANUAL]
    assert installed.double.cards[1].fans[0].target == 55
    installed.double.cards[1].error[Kind.SET_DEFAULT] = 0
    installed.write("/etc/gpufan/config.toml", "")
    installed.run("systemctl", "start", "gpufan.service")


def test_a_stop_of_a_hung_daemon_takes_at_most_5_s_and_gives_the_fans_back(installed: Rig, measured: Measured):
    stop_thread(installed.host_pid())
    start_s = time.monotonic()
    installed.run("systemctl", "stop", "gpufan.service")
    seconds = time.monotonic() - start_s
    measured("systemctl stop of a hung daemon", seconds)
    assert policies(installed) == [AUTO, AUTO]
    assert seconds <= 5
    installed.run("systemctl", "start", "gpufan.service")


def stop_thread(pid: int) -> None:
    """Stop the main thread, which handles signals. Unlike after SIGSTOP, systemd cannot make it go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        assert libc.ptrace(request, pid, None, None) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(pid, 0)
    # Its end is reported to this process first, and to systemd once this process has seen it.
    threading.Thread(target=os.waitpid, args=(pid, 0), daemon=True).start()


@pytest.mark.parametrize("sandbox", ["", "ReadOnlyPaths=\n"], ids=["as it is", "of systemd 252"])
def test_a_removed_runtime_folder_is_back_with_snapshot_lock_and_record(
    installed: Rig, measured: Measured, sandbox: str
):
    installed.drop_in(f"[Service]\n{sandbox}")
    start_s = time.monotonic()
    installed.run("rm", "-r", "/run/gpufan")
    wait_for(lambda: installed.run("gpufan", "status", check=False).returncode == 0, 10)
    measured("snapshot after rm -r /run/gpufan", time.monotonic() - start_s)
    refused = installed.run("gpufan", "run", check=False)
    assert (refused.returncode, "another gpufan" in refused.stderr) == (1, True)
    wait_for(lambda: policies(installed) == [MANUAL, MANUAL])
    assert installed.run("cat", "/run/gpufan/taken.json").stdout.count('"uuid"') == 2
    installed.drop_in("")


def test_without_its_interpreter_the_fans_are_given_back_and_a_start_is_tried_once_a_minute(
    installed: Rig, measured: Measured
):
    installed.run("systemctl", "reset-failed", "gpufan.service")
    installed.run("mv", "/opt/gpufan/bin/python3", "/opt/gpufan/bin/gone")
    start_s = time.monotonic()
    os.kill(installed.host_pid(), signal.SIGKILL)
    wait_for(lambda: policies(installed) == [AUTO, AUTO], 5)
    measured("after SIGKILL, interpreter gone", time.monotonic() - start_s)
    wait_for(lambda: installed.show("gpufan.service", "SubState") == "start-pre", 10)
    time.sleep(5)
    assert installed.show("gpufan.service", "SubState") == "start-pre"
    assert installed.show("gpufan.service", "NRestarts") == "1"
    assert installed.journal().count("its Python does not work any more") == 1
    installed.run("mv", "/opt/gpufan/bin/gone", "/opt/gpufan/bin/python3")
    installed.run("systemctl", "restart", "gpufan.service")
    assert policies(installed) == [MANUAL, MANUAL]


def test_the_device_node_of_every_card_is_made_at_the_start(boot: Boot):
    rig = boot()
    rig.run("mount", "-t", "tmpfs", "driver", "/proc/driver")
    for minor in range(3):
        rig.write(f"/proc/driver/nvidia/gpus/0000:0{minor}:00.0/information", f"Device Minor: \t {minor}\n")
    modprobe = (
        '#!/bin/sh\nwhile [ "$1" = -c ]; do\n'
        "n=/dev/nvidia$2; [ $2 = 255 ] && n=/dev/nvidiactl\n"
        "[ -e $n ] || mknod $n c 195 $2; shift 2; done\n"
    )
    rig.write("/usr/bin/nvidia-modprobe", modprobe, "755")
    rig.install()
    assert rig.run("stat", "-c", "%t:%T", "/dev/nvidia2").stdout == "c3:2\n"


def test_learnt_data_of_the_cards_is_saved_at_a_stop(installed: Rig):
    installed.write("/etc/gpufan/config.toml", "target_c = 78\n")
    installed.run("systemctl", "restart", "gpufan.service")
    wait_for(lambda: '"target_c":78' in installed.run("gpufan", "status", "--json", check=False).stdout, 10)
    installed.run("systemctl", "stop", "gpufan.service")
    found = installed.run("sh", "-c", "stat -c '%A %U %n' /var/lib/gpufan/learnt /var/lib/gpufan/learnt/*").stdout
    folder, *files = found.splitlines()
    assert folder == "drwxr-xr-x root /var/lib/gpufan/learnt"
    assert len(files) == 2
    assert all(re.fullmatch(r"-rw-r--r-- root /var/lib/gpufan/learnt/GPU-[0-9a-f-]+\.json", file) for file in files)
    installed.write("/etc/gpufan/config.toml", "")
    installed.run("systemctl", "start", "gpufan.service")


def test_the_service_starts_after_a_reboot(installed: Rig):
    installed.reboot()
    wait_for(lambda: installed.show("gpufan.service", "ActiveState") == "active", 20)
    assert policies(installed) == [MANUAL, MANUAL]


def test_fans_follow_the_temperature(installed: Rig):
    card = installed.double.cards[0]
    card.by_hand, card.temperature = 1, 85
    wait_for(lambda: card.fans[0].target == 100, 20)
    wait_for(lambda: "100 % at 85 °C" in installed.show("gpufan.service", "StatusText"), 10)
    card.by_hand = 0


def test_the_sandbox_is_tight_and_still_allows_every_card(installed: Rig):
    texts = unit_files("/usr/bin/true", "/x", "/etc/gpufan/config.toml", xserver=True, companions=COMPANIONS)
    units = {path.removeprefix("/etc/systemd/system/"): text for path, text in texts.items()}
    for name, text in units.items():
        installed.write(f"/tmp/{name}", text)
    for name in units.keys() - {DROP_IN}:
        assert installed.run("systemd-analyze", "verify", f"/tmp/{name}").stderr == ""
    for name in ("gpufan.service", *(companion.unit_name for companion in COMPANIONS)):
        security = installed.run("systemd-analyze", "security", "--offline=true", "--no-pager", f"/tmp/{name}").stdout
        exposure = re.search(rf"Overall exposure level for {name}: ([0-9.]+)", security)
        assert exposure, security
        assert float(exposure[1]) <= 1.2

    mounts = Path(f"/proc/{installed.host_pid()}/mountinfo").read_text()
    modes = {line.split()[4]: line.split()[5].split(",")[0] for line in mounts.splitlines()}
    assert (modes["/"], modes["/run"], modes["/run/gpufan"]) == ("ro", "ro", "rw")

    group = "/sys/fs/cgroup/system.slice/gpufan.service/cgroup.procs"
    # 6: no such device, since there is no driver; 1: not permitted.
    for node, numbers, error in (("nvidiactl", "195 255", 6), ("nvidia31", "195 31", 6), ("kvm", "10 232", 1)):
        installed.run("sh", "-c", f"test -e /dev/{node} || mknod /dev/{node} c {numbers}")
        code = f"import os\ntry: os.open('/dev/{node}', os.O_RDWR)\nexcept OSError as error: print(error.errno)"
        opened = installed.run("sh", "-c", f'echo $$ >{group} && exec python3 -c "$0"', code).stdout
        assert opened == f"{error}\n", node


def test_a_reload_applies_good_settings_and_refuses_bad_ones_under_control(installed: Rig):
    pid = installed.show("gpufan.service", "MainPID")
    seen = len(installed.double.log())
    installed.write("/etc/gpufan/config.toml", 'curve = "20:50,80:100"\n')
    installed.run("systemctl", "reload", "gpufan.service")
    wait_for(lambda: installed.double.cards[0].fans[0].target >= 50, 10)
    installed.write("/etc/gpufan/config.toml", "curv = 3\n")
    installed.run("systemctl", "reload", "gpufan.service")
    wait_for(lambda: "the old ones stay" in installed.show("gpufan.service", "StatusText"), 10)
    assert installed.show("gpufan.service", "MainPID") == pid
    assert all(call.operation == Kind.SET_FAN for call in installed.double.log()[seen:])
    installed.write("/etc/gpufan/config.toml", "")
    installed.run("systemctl", "reload", "gpufan.service")


def test_orders_and_changes_of_the_settings_reach_the_service(installed: Rig):
    """All of it from the service's own copy of gpufan, which has no pip."""
    fan = installed.double.cards[1].fans[0]
    assert "ordered: 77 %, for another 0:0" in installed.run("gpufan", "set", "77", "--gpu", "1", "--for", "10m").stdout
    wait_for(lambda: fan.target == 77, 10)
    assert installed.run("gpufan", "set", "66", "--keep").stdout.count("ordered: 66 %") == 2
    installed.run("systemctl", "restart", "gpufan.service")
    wait_for(lambda: fan.target == 66, 10)
    assert installed.run("stat", "-c", "%a %U", "/var/lib/gpufan/orders.json").stdout == "600 root\n"
    installed.run("gpufan", "set", "--clear")
    pid = installed.show("gpufan.service", "MainPID")
    assert "the service uses it from now on" in installed.run("gpufan", "config", "set", "target_c", "75").stdout
    wait_for(lambda: '"target_c":75' in installed.run("gpufan", "status", "--json").stdout, 10)
    assert "target_c" in installed.run("gpufan", "config", "unset", "target_c").stdout
    assert installed.show("gpufan.service", "MainPID") == pid


def test_a_start_with_a_mistake_in_the_settings_does_not_leave_the_fans_to_the_driver(installed: Rig):
    installed.write("/etc/gpufan/config.toml", 'curve = "20:59,80:100"\n')
    installed.run("systemctl", "restart", "gpufan.service")
    kept = "/var/lib/gpufan/last-good-settings.json"
    wait_for(lambda: installed.run("test", "-e", kept, check=False).returncode == 0)
    installed.write("/etc/gpufan/config.toml", "curv = 3\n")
    start_s = time.monotonic()
    installed.run("systemctl", "restart", "gpufan.service")
    assert time.monotonic() - start_s < 20
    assert policies(installed) == [MANUAL, MANUAL]
    assert installed.double.cards[0].fans[0].target >= 59
    assert "but the last good ones" in installed.run("gpufan", "status").stdout
    assert installed.run("stat", "-c", "%a %U", kept).stdout == "600 root\n"
    installed.write("/etc/gpufan/config.toml", "")
    installed.run("systemctl", "reload", "gpufan.service")
    wait_for(lambda: "last good" not in installed.run("gpufan", "status").stdout, 10)
    installed.run("systemctl", "stop", "gpufan.service")
    assert "start it with `sudo systemctl start gpufan`" in installed.run("gpufan", "status", check=False).stderr
    installed.run("systemctl", "start", "gpufan.service")


def test_quiet_hours_limit_the_fans_of_the_service_and_a_kill_still_gives_them_back(installed: Rig, measured: Measured):
    night = '[[quiet]]\nfrom = "00:00"\nto = "24:00"\nmax_duty_percent = 40\n'
    cards = installed.double.cards[:2]
    for card in cards:
        card.by_hand, card.temperature = 1, 70
    installed.write("/etc/gpufan/config.toml", 'curve = "20:75,80:100"\n')
    installed.run("systemctl", "restart", "gpufan.service")
    wait_for(lambda: min(card.fans[0].target for card in cards) >= 75, 10)
    installed.write("/etc/gpufan/config.toml", f'curve = "20:75,80:100"\n{night}')
    installed.run("systemctl", "reload", "gpufan.service")
    wait_for(lambda: [card.fans[0].target for card in cards] == [40, 40], 60)
    seen = len(installed.double.log())
    assert says_quiet_hours(installed)

    pid = installed.host_pid()
    seconds = die(installed, lambda: os.kill(pid, signal.SIGKILL))
    measured("after SIGKILL in quiet hours", seconds)
    assert seconds <= AFTER_KILL_S
    wait_for(lambda: says_quiet_hours(installed), 10)
    set_percent = [call.value for call in installed.double.log()[seen:] if call.operation == Kind.SET_FAN]
    assert set_percent
    assert max(set_percent) <= 40

    cards[0].temperature = 92  # close to the slowdown threshold there is no limit
    wait_for(lambda: cards[0].fans[0].target == 100, 10)
    assert cards[1].fans[0].target == 40
    installed.write("/etc/gpufan/config.toml", "")
    installed.run("systemctl", "reload", "gpufan.service")
    for card in cards:
        card.by_hand = 0


def test_a_power_limit_of_the_service_is_given_back_after_a_kill_and_at_a_stop(installed: Rig):
    card = installed.double.cards[0]
    before_mw = card.power_limit_mw
    installed.write("/etc/gpufan/config.toml", '[[gpu]]\nmatch = "0"\npower_limit_w = 200\n')
    installed.run("systemctl", "reload", "gpufan.service")
    wait_for(lambda: card.power_limit_mw == 200_000, 10)
    seen, pid = len(installed.double.log()), installed.host_pid()
    die(installed, lambda: os.kill(pid, signal.SIGKILL))
    wait_for(lambda: card.power_limit_mw == 200_000, 10)
    set_mw = [call.value for call in installed.double.log()[seen:] if call.operation == Kind.SET_POWER]
    assert set_mw == [before_mw, 200_000]
    installed.run("systemctl", "stop", "gpufan.service")
    assert card.power_limit_mw == before_mw
    installed.write("/etc/gpufan/config.toml", "")
    installed.run("systemctl", "start", "gpufan.service")


def says_quiet_hours(rig: Rig) -> bool:
    return rig.run("gpufan", "status").stdout.count("quiet hours until 24:00: at most 40 %") == 2
