"""The real X server judges our files: what it makes of them before and after `setup-xorg`, and what it refuses."""

import random
import re
from pathlib import Path

import pytest

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg import keywords, screens
from gpufan.xorg.box import graphics_devices, make_box
from gpufan.xorg.config import ConfigFile
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.headless_config import headless_config
from gpufan.xorg.plan import PlanOptions, make_plan
from gpufan.xorg.search import read_configuration
from gpufan.xorg.values import option_number
from tests.doubles.xorg_cases import CHANGES, GIVEN, NEEDS_YES, NO_CHANGE, OWN, REFUSES, Case, device, layout, screen
from tests.doubles.xorg_files import SAMPLES, make_file_set
from tests.doubles.xorg_machine import Machine, Screen, Verdict

NVIDIA = "0x10de"
CARDS = [PciAddress.parse(text) for text in ("0a:00.0", "41:00.0", "1:01:00.0")]
QUICK = {"a snippet that allows fans", "two seats", "a second Device without Driver", "a Screen that does not exist"}
"""One case for each outcome; X starts twice for each, so that the others are slow."""
CASES = [
    pytest.param(case, id=name, marks=[] if name in QUICK else pytest.mark.slow)
    for name, case in {**GIVEN, **OWN}.items()
]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def ours(machine: Machine, layout_name: str | None = None) -> screens.ServerScreens:
    """What our own rules make of the files of a machine."""
    folders = [machine.folder / "usr/share/X11/xorg.conf.d", machine.folder / "etc/X11/xorg.conf.d"]
    configuration = read_configuration(machine.folder / "etc/X11/xorg.conf", folders)
    devices = graphics_devices(machine.folder / "sys/bus/pci/devices")
    box = make_box([found.address for found in devices if found.is_nvidia], devices)
    return screens.screens_of_servers(configuration, box, layout_name)[0]


def same(server: screens.ServerScreens, verdict: Verdict) -> bool:
    """Whether X and our rules agree."""
    expected = []
    for x in server.screens:
        name = x.screen.name if x.screen else "Default Screen Section"
        expected.append(Screen(name, x.number, x.device.name if x.device else "", ()))
    helpers = [name for found in verdict.screens for name in found.gpu_devices]
    return (
        [found._replace(gpu_devices=()) for found in verdict.screens] == expected
        and helpers == [found.name for found in server.gpu_devices]
        and list(verdict.inactive) == [found.name for found in server.inactive]
    )


@pytest.mark.parametrize("case", CASES)
def test_x_sees_before_and_after_what_the_command_says(machine: Machine, case: Case) -> None:
    machine.write(case.files)
    for found in case.devices:
        machine.add_device(*found)
    before = machine.contents()
    chosen = case.arguments[1] if "--layout" in case.arguments else None
    options = ["-seat", "seat0", *(["-layout", chosen] if chosen else [])]
    verdict = machine.xorg(*options)
    if case.outcome == REFUSES:
        assert verdict.complaints
        assert not verdict.screens
    elif case.files:
        assert same(ours(machine, chosen), verdict)

    status, output = machine.gpufan("setup-xorg", *case.arguments)
    expected = {NO_CHANGE: 0, CHANGES: 0, REFUSES: 2, NEEDS_YES: 1}[case.outcome]
    assert status == (1 if case.out_of_reach else expected), output
    assert case.out_of_reach in output
    assert ("wrote /" in output) == (case.outcome == CHANGES)
    if case.outcome != CHANGES:
        assert machine.contents() == before
        return

    verdict = machine.xorg(*options)
    server = ours(machine, chosen)
    assert not verdict.complaints
    assert same(server, verdict)
    if not case.out_of_reach and len(verdict.fans) == len(server.screens):
        by_number = sorted(server.screens, key=lambda x: x.number)
        assert all(fan == "on" for fan, x in zip(verdict.fans, by_number, strict=True) if x.driver == screens.NVIDIA)
    again = machine.contents()
    assert "wrote" not in machine.gpufan("setup-xorg", *case.arguments)[1]
    assert machine.contents() == again
    assert machine.gpufan("setup-xorg", "--restore")[0] == 0
    assert machine.contents() == before


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(name, marks=[] if name in ("nvidia-xconfig", "carriage returns") else pytest.mark.slow)
        for name in SAMPLES
    ],
)
def test_x_accepts_each_sample_after_the_change_as_before(machine: Machine, sample: str) -> None:
    for data in (SAMPLES[sample], changed(SAMPLES[sample])):
        machine.path("xorg.conf").write_bytes(data)
        verdict = machine.xorg()
        assert not verdict.complaints
        assert verdict.screens


def changed(data: bytes, wanted: PlanOptions | None = None) -> bytes:
    configuration = Configuration((ConfigFile(data, "xorg.conf"),), "xorg.conf")
    return make_plan(configuration, make_box(CARDS), wanted or PlanOptions()).after.files[0].data


def test_x_accepts_a_file_with_a_pretended_monitor(machine: Machine) -> None:
    machine.path("xorg.conf").write_bytes(changed(b"", PlanOptions(edid="/etc/X11/gpufan-edid.bin")))
    assert not machine.xorg().complaints


@pytest.mark.slow
def test_x_sees_generated_sets_of_files_as_our_rules_do(machine: Machine) -> None:
    for place, address in enumerate(("0000:0a:00.0", "0000:41:00.0", "0001:01:00.0")):
        machine.add_device(address, NVIDIA, "nvidia", boot_vga=place == 0)
    for seed in range(60):
        *snippets, main = ["".join(p.data.decode("latin-1") for p in pieces) for pieces in make_file_set(seed)]
        for name, text in {**{f"{place}.conf": text for place, text in enumerate(snippets)}, "xorg.conf": main}.items():
            machine.path(name).write_bytes(text.encode("latin-1"))
        server = ours(machine)
        verdict = machine.xorg("-seat", "seat0")
        assert same(server, verdict), f"seed {seed}"
        for path in map(Path, machine.contents()):
            path.unlink()


def mutated(text: str, choice: random.Random) -> str:
    """The text with one word changed, removed, moved or doubled."""
    words = re.findall(r'"[^"\n]*"|#[^\n]*|[^\s"#]+|\s+', text)
    place = choice.randrange(len(words))
    words[place] = choice.choice(
        (
            "",
            words[place][:-1],
            words[place] + choice.choice(("x", "q", '"', "1", " #", "\r", "\r#\n")),
            words[place] + words[choice.randrange(len(words))],
            choice.choice((" 5 ", ' "x" ', " - ", " , ", " Foo ", " Option ", " Screen ")) + words[place],
        )
    )
    return "".join(words)


@pytest.mark.slow
def test_we_refuse_what_x_refuses_of_files_with_one_mistake(machine: Machine) -> None:
    choice = random.Random(17)
    texts = [
        "".join(case.files.values()).encode().decode("latin-1")
        for case in (*GIVEN.values(), *OWN.values())
        if case.files
    ]
    texts += [data.decode("latin-1") for data in SAMPLES.values() if data]
    for _ in range(150):
        text = mutated(choice.choice(texts), choice)
        machine.path("xorg.conf").write_bytes(text.encode("latin-1"))
        verdict = machine.xorg("-seat", "seat0")
        try:
            ours(machine)
        except InputError as error:
            # X complains of an Option without a name, but goes on.
            assert verdict.complaints, f"{error}\n{text}"
        else:
            assert verdict.screens, f"{verdict.complaints}\n{text}"


ODD_FILES = [
    *(b"%b\0\0", b"%b\n\0\n\0\0", b"\0 \0\n%b", b"%b\0\n\n# end", b"%b\r# end\n", b"%b\r# end", b'%b\r"', b"%b\n# end"),
    *(b"%b\r" + b" " * 1020 + b"# end", b"# " + b"x" * 5000 + b"\r\n%b", b"%b\n\xff", b"%b Option", b"\f%b"),
    *(b'%b Section "DRI" Mode ' + mode + b" EndSection" for mode in (b"0666", b"666", b"0x1B6", b"0")),
    *(b'%b Section "Monitor" Identifier "m" HorizSync ' + r + b" EndSection" for r in (b"1-2,2-3", b"2-1", b"1," * 9)),
    *(
        b'%b Section "Modes" Identifier "m" Mode "a" DotClock 1 HTimings 1 1 1 1 VTimings 1 1 1 1 Flags "' + flag
        for flag in (b'+H_Sync" EndMode EndSection', b'hsync" EndMode EndSection')
    ),
]
"""%b is a complete configuration."""


@pytest.mark.slow
@pytest.mark.parametrize("text", ODD_FILES)
def test_we_accept_of_odd_files_what_x_accepts(machine: Machine, text: bytes) -> None:
    # In a longer line before the end, X finds what it reads past the end.
    complete = b'Section "Device" Identifier "a" Driver "dummy" VendorName "longer than the last line"\nEndSection'
    machine.path("xorg.conf").write_bytes(text.replace(b"%b", complete))
    try:
        ours(machine)
    except InputError as error:
        assert not machine.xorg().screens, error
    else:
        assert machine.xorg().screens


@pytest.mark.slow
def test_x_reads_the_number_of_an_option_as_we_do(machine: Machine) -> None:
    names = ("BlankTime", "StandbyTime", "SuspendTime", "OffTime", "MaxClients")
    texts = ["28", "0x1c", "034", "08", "on", "4 ", " 4", "+4", "-4", "0x", "1.5", "9" * 30, "0x100000004", "-", "4k"]
    for start in range(0, len(texts), len(names)):
        given = dict(zip(names, texts[start:], strict=False))
        options = "".join(f'Option "{name}" "{text}"\n' for name, text in given.items())
        machine.write({"xorg.conf": f'Section "ServerFlags"\n{options}EndSection\n'})
        machine.xorg()
        log = (machine.folder / "out/log").read_text()
        for name, text in given.items():
            is_refused = f'Option "{name}" requires an integer value' in log
            assert is_refused == (option_number(text) is None), text


@pytest.mark.slow
@pytest.mark.parametrize("kind", keywords.SECTIONS)
def test_x_knows_the_keywords_of_our_table_and_no_others(machine: Machine, kind: str) -> None:
    for keyword, pattern in {**keywords.SECTIONS[kind], "keyword": "s"}.items():
        if keyword == "mode" and kind != "dri":
            continue
        kinds = next(k for k in ("s", "n", "nn", "nnn", "sn" + 8 * "n", "") if re.fullmatch(pattern, k))
        value = "".join({"s": ' "on"', "n": " 01"}[token] for token in kinds)
        identifier = "" if kind in keywords.UNNAMED or keyword == "identifier" else 'Identifier "i"\n'
        identifier = "" if (kind, keyword) == ("screen", "driver") else identifier
        machine.path("xorg.conf").write_text(f'Section "{kind}"\n{identifier}{keyword}{value}\nEndSection\n')
        complaints = [line for line in machine.xorg().complaints if "Parse error" in line]
        obsolete = keyword in ("rgbpath", "inputdevices")
        assert bool(complaints) == (keyword == "keyword" or obsolete), f"{kind}: {keyword}{value}"


def test_our_own_server_ignores_the_screens_of_foreign_snippets(machine: Machine) -> None:
    """A layout, a Device of the same card, and one that X would add as a GPUDevice."""
    foreign = device("gpufan", 10) + device("intel", 2, driver="modesetting") + screen("s", "intel") + layout("l", "s")
    flags = 'Section "ServerFlags"\n Option "DefaultServerLayout" "l"\n Option "AutoAddGPU" "on"\nEndSection\n'
    machine.write({"20-foreign.conf": foreign + flags, "xorg.conf": headless_config(CARDS[:1])})
    verdict = machine.xorg("-layout", "gpufan own server")
    assert verdict.screens == (Screen("gpufan own 0000:0a:00.0", 1, "gpufan own 0000:0a:00.0", ()),)
    assert verdict.fans == ("on",)


@pytest.mark.slow
@pytest.mark.parametrize("cards", [CARDS[:1], CARDS])
def test_our_own_server_has_its_screens_beside_any_snippets(machine: Machine, cards: list[PciAddress]) -> None:
    names = [f"gpufan own {card}" for card in cards]
    for seed in range(15):
        for place, pieces in enumerate(make_file_set(seed)):
            machine.path(f"{place}.conf").write_bytes(b"".join(piece.data for piece in pieces))
        machine.write({"xorg.conf": headless_config(cards)})
        verdict = machine.xorg("-layout", "gpufan own server")
        assert verdict.screens == tuple(Screen(name, place, name, ()) for place, name in enumerate(names, 1))
        assert set(verdict.fans) == {"on"}
        for path in map(Path, machine.contents()):
            path.unlink()
