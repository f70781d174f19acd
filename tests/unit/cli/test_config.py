"""`gpufan config set`, `unset` and `edit`."""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from gpufan.cli.main import cli
from gpufan.config import change
from gpufan.config.schema import QUIET_KEYS
from gpufan.core.gpu import GpuInfo
from gpufan.daemon import known_cards
from gpufan.errors import GpufanError
from gpufan.system import systemctl
from gpufan.system.lock import folder_locks
from gpufan.system.unit_state import UnitState
from tests.unit.builders import FakeGpu

UUID = FakeGpu().info.uuid


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "etc/config.toml"
    path.parent.mkdir()
    path.write_text("# mine\nhold_s = 60  # long\n")
    path.chmod(0o640)
    return path


@pytest.fixture(autouse=True)
def cards(monkeypatch: pytest.MonkeyPatch) -> list[GpuInfo]:
    """The cards that the driver knows."""
    found = [FakeGpu().info]
    monkeypatch.setattr(known_cards, "_known_or_published_cards", lambda _: found)
    return found


def config(file: Path, *arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(cli, ["config", *arguments, "--config", str(file)], input=typed)


def test_a_key_is_set_and_unset_and_the_difference_is_shown(file: Path) -> None:
    result = config(file, "set", "target_c", "75")
    assert result.output == (
        f" hold_s = 60  # long\n+target_c = 75\n{file}: changed; it counts from the next start of gpufan on\n"
    )
    assert file.read_text() == "# mine\nhold_s = 60  # long\ntarget_c = 75\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert config(file, "set", "target_c", "75").output == f"{file}: nothing to change\n"
    assert "-target_c = 75\n+# target_c = 75\n" in config(file, "unset", "target_c").output
    assert config(file, "unset", "target_c").output == f"{file}: nothing to change\n"


NIGHT = '[[quiet]]\nfrom = "22:00"\nto = "07:00"\n'


def test_quiet_hours_are_added_replaced_and_removed(file: Path) -> None:
    before = file.read_text()
    config(file, "quiet", "22:00-7:00", "--max-duty", "50%")
    assert file.read_text() == f"{before}\n{NIGHT}max_duty_percent = 50\n"
    config(file, "quiet", "22:00-07:00", "--target", "82C", "--give-way")
    assert file.read_text() == f'{before}\n{NIGHT}target_c = 82\ngive_way = "power"\n'
    config(file, "quiet", "22:00-07:00", "--max-duty", "60", "--days", "SAT, sun")
    both = file.read_text()
    assert both.endswith(f'\n\n{NIGHT}days = ["sat", "sun"]\nmax_duty_percent = 60\n')
    again = config(file, "quiet", "22:00-07:00", "--max-duty", "60", "--days", "sat,sun")
    assert (again.output, file.read_text()) == (f"{file}: nothing to change\n", both)
    config(file, "quiet", "22:00-07:00", "--remove", "--days", "sat,sun")
    assert file.read_text().count("[[quiet]]") == 1
    config(file, "quiet", "22:00-07:00", "--remove")
    assert file.read_text().rstrip() == before.rstrip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("22-7 --max-duty 50", "'22-7' is not a period: write it as 22:00-07:00"),
        ("25:00-07:00 --max-duty 50", "'25:00-07:00' is not a period: write it as 22:00-07:00"),
        ("24:00-07:00 --max-duty 50", "'24:00-07:00' is not a period: write it as 22:00-07:00"),
        ("22:00-22:00 --max-duty 50", "'22:00-22:00' begins and ends at the same time: for all day, write 00:00-24:00"),
        ("22:00-07:00", "nothing is limited in these hours: add --max-duty, --target or --give-way"),
        (
            "22:00-07:00 --max-duty 50 --days sunday",
            "'sunday' are not days: write them as sat,sun; the days are",
        ),
        ("22:00-07:00 --max-duty 50 --days sat,", "'sat,' are not days: write them as sat,sun"),
        ("22:00-07:00 --max-duty 50 --remove", "--max-duty is for new hours"),
        ("21:00-07:00 --remove", "there are no quiet hours 21:00-07:00 to remove"),
    ],
)
def test_quiet_hours_that_cannot_be_are_refused(file: Path, arguments: str, message: str) -> None:
    config(file, "quiet", "22:00-07:00", "--max-duty", "40")
    before = file.read_text()
    result = config(file, "quiet", *arguments.split())
    said = f"{result.output}{result.exception}"
    assert message in said
    assert "[[quiet]]" not in said  # nobody has seen such a table
    assert file.read_text() == before


@pytest.mark.parametrize(
    "arguments",
    ["set target_c 75", "unset target_c", "quiet 22:00-07:00 --max-duty 50", "edit"],
    ids=lambda text: text[:5],
)
def test_a_mistyped_path_is_refused_and_no_file_is_made(file: Path, arguments: str) -> None:
    typo = file.with_name("confg.toml")
    result = config(typo, *arguments.split())
    assert str(result.exception) == f"{typo}: no such file: correct --config, or create the file: touch {typo}"
    assert not typo.exists()


@pytest.mark.parametrize(("typed", "is_made"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_is_asked_before_another_file_is_created(
    file: Path, monkeypatch: pytest.MonkeyPatch, typed: str, is_made: bool
) -> None:
    monkeypatch.setattr("gpufan.cli.config._is_on_terminal", lambda: True)
    new = file.with_name("new.toml")
    result = config(new, "set", "target_c", "75", typed=typed)
    assert f"{new} does not exist. Create it?" in result.output
    assert (new.exists(), f"{new}: created; it counts from" in result.output) == (is_made, is_made)


def test_a_file_that_is_unreadable_is_not_a_missing_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(change, "read_file", refuse)
    assert str(config(file, "set", "target_c", "75").exception) == f"only root can read {file}: run this with sudo"


def test_a_file_in_a_new_folder_is_created_with_this_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.cli.config._is_on_terminal", lambda: True)
    new = file.parent / "one/two/new.toml"
    assert config(new, "set", "target_c", "75", typed="y\n").exit_code == 0
    assert "\ntarget_c = 75\n" in new.read_text()


def warnings(file: Path, *arguments: str) -> list[str]:
    """The warnings after a change."""
    start = f"warning: {file}: "
    lines = config(file, *arguments).output.splitlines()
    return [line.removeprefix(start) for line in lines if line.startswith(start)]


def test_a_change_warns_of_a_key_that_then_has_no_effect(file: Path) -> None:
    assert warnings(file, "set", "curve", "50:30,83:100") == []
    assert warnings(file, "set", "target_c", "75") == [
        "line 3: curve has no effect, since target_c is set too: remove one of them"
    ]
    assert warnings(file, "set", "target_c", "76") == []  # it was said before
    assert warnings(file, "unset", "curve") == ["line 2: hold_s has no effect: it is for a curve, and a target is held"]
    assert warnings(file, "set", "target_c", "90") == [
        "line 4: target_c = 90 is cut to 81 °C on a card whose slowdown threshold is not known"
    ]


TABLES = """
[[gpu]]
match = "1080 Ti"
target_c = 80
[[gpu]]
match = "RTX"
curve = "50:30"
[[gpu]]
match = "GTX"
hold_s = 9
"""


def test_a_change_names_each_later_table_that_overrides_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_cards, "known_cards", lambda _: [FakeGpu().info])
    file.write_text(TABLES)
    first = '[[gpu]] 1 overrides {} for cards that match "1080 Ti": target_c = 80'
    second = '[[gpu]] 2 overrides {} for cards that match "RTX": curve = "50:30"'
    third = '[[gpu]] 3 overrides hold_s for cards that match "GTX": hold_s = 9'
    assert warnings(file, "set", "target_c", "75") == [first.format("target_c"), second.format("target_c")]
    assert warnings(file, "set", "target_c", "80") == [second.format("target_c")]
    assert config(file, "unset", "target_c").exit_code == 0
    assert warnings(file, "set", "curve", "50:30") == [first.format("curve")]
    assert warnings(file, "set", "hold_s", "5") == [third]
    assert warnings(file, "set", "interval_s", "2") == []
    # A card of this box matches the first table and the third.
    assert warnings(file, "set", "hold_s", "5", "--gpu", "1080 ti") == [third]
    assert warnings(file, "set", "hold_s", "5", "--gpu", "RTX") == []
    assert warnings(file, "set", "hold_s", "5", "--gpu", "GTX") == []


def test_a_card_is_written_down_as_its_uuid(file: Path) -> None:
    assert config(file, "set", "target_c", "75", "--gpu", "0").exit_code == 0
    assert file.read_text().endswith(f'\n[[gpu]]\nmatch = "{UUID}"\ntarget_c = 75\n')
    assert config(file, "set", "target_c", "70", "--gpu", "0a:00.0").exit_code == 0
    assert file.read_text().endswith(f'\n[[gpu]]\nmatch = "{UUID}"\ntarget_c = 70\n')
    assert config(file, "set", "gpus", "0", "1080 Ti").exit_code == 0
    assert f'gpus = ["{UUID}", "1080 Ti"]\n' in file.read_text()
    assert config(file, "unset", "target_c", "--gpu", "0").exit_code == 0
    assert "# target_c = 70" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["set", "target_c", "95"], "target_c = 95: write a number from 50 to 90"),
        (["set", "target_c", "75", "--gpu", "7"], "7: the UUID of this card is not known here"),
        (["set", "interval_s", "1", "--gpu", "0"], "interval_s is for all cards together: leave out --gpu"),
        (["unset", "target_c", "--gpu", "0"], "there is no [[gpu]] table with match"),
    ],
)
def test_what_cannot_be_set_changes_nothing(file: Path, arguments: list[str], message: str) -> None:
    before = file.read_bytes()
    result = config(file, *arguments)
    assert message in str(result.exception)
    assert getattr(result.exception, "exit_status", None) == 2
    assert file.read_bytes() == before


def test_a_path_that_is_no_settings_file_is_refused(file: Path) -> None:
    os.mkfifo(file.with_name("pipe"))
    file.with_name("large").write_bytes(b"#" * (1 << 20) + b"\n")
    file.with_name("latin-1").write_bytes(b"#\n# 75 \xb0C\n")
    faults = {
        "pipe": "it is not a file: name another file with --config",
        "large": "it is too large",
        "latin-1": "line 2: this is",
    }
    for name, fault in faults.items():
        for arguments in (["set", "target_c", "75"], ["check"]):
            result = config(file.parent / name, *arguments)
            assert fault in str(result.exception)
            assert getattr(result.exception, "exit_status", None) == 2


def test_the_default_file_is_made_with_all_keys_explained(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpufan.cli.config.DEFAULT_PATH", file)
    file.unlink()
    file.parent.rmdir()
    assert config(file, "set", "target_c", "75").exit_code == 0
    assert "\ntarget_c = 75\n" in file.read_text()
    assert "# Hold the card at this temperature" in file.read_text()


def test_a_link_to_the_file_stays_a_link(file: Path) -> None:
    link = file.with_name("link.toml")
    link.symlink_to(file)
    assert config(link, "set", "target_c", "75").exit_code == 0
    assert link.is_symlink()
    assert "target_c = 75" in file.read_text()


@pytest.mark.parametrize(
    ("user", "message"),
    [
        (1000, "only root can change {file}: run this with sudo"),
        (0, "{file.parent} is read-only: mount it writable, and try again"),
    ],
)
def test_who_cannot_write_the_file_reads_what_to_do(
    user: int, message: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change.os, "access", lambda *_: False)
    monkeypatch.setattr(change.os, "geteuid", lambda: user)
    assert str(config(file, "set", "target_c", "75").exception) == message.format(file=file)


# ---- the service ----


@pytest.fixture
def service(file: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The calls of `systemctl` while a service runs that reads the file."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(change, "DEFAULT_PATH", file)
    monkeypatch.setattr(systemctl, "systemd_is_running", lambda: True)
    monkeypatch.setattr(change, "unit_state", lambda name: UnitState(name, "loaded", "active"))
    monkeypatch.setattr(systemctl, "systemctl", lambda *words: calls.append(words) or "")
    return calls


def test_the_service_is_reloaded(file: Path, service: list[tuple[str, ...]]) -> None:
    assert "the service uses it from now on" in config(file, "set", "target_c", "75").output
    assert service == [("reload", "gpufan.service")]


def test_a_key_that_needs_a_restart_is_named_and_nothing_is_reloaded(
    file: Path, service: list[tuple[str, ...]]
) -> None:
    assert "to apply backend: `sudo systemctl restart gpufan`" in config(file, "set", "backend", "nvml").output
    assert service == []


# ---- the editor ----


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An editor that writes one text after the other."""
    script = tmp_path / "editor.py"
    script.write_text(
        "import pathlib, sys\nfolder = pathlib.Path(sys.argv[1])\n"
        "text = sorted(folder.iterdir())[0]\npathlib.Path(sys.argv[2]).write_text(text.read_text())\ntext.unlink()\n"
    )
    folder = tmp_path / "texts"
    folder.mkdir()
    monkeypatch.setenv("VISUAL", shlex.join([sys.executable, "-IS", str(script), str(folder)]))

    class Texts(list[str]):
        def append(self, text: str) -> None:
            super().append(text)
            (folder / f"{len(self)}").write_text(text)

    return Texts()


def test_an_edited_copy_replaces_the_file_after_its_difference_was_seen(file: Path, editor: list[str]) -> None:
    editor.append("# mine\nhold_s = 70  # long\n")
    result = config(file, "edit", typed="apply\n")
    assert "-hold_s = 60  # long\n+hold_s = 70  # long\n" in result.output
    assert file.read_text() == "# mine\nhold_s = 70  # long\n"
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_mistake_can_be_mended_in_the_editor(file: Path, editor: list[str]) -> None:
    editor.append("hold = 70\n")
    editor.append("hold_s = 70\n")
    result = config(file, "edit", typed="edit\napply\n")
    assert 'this is not applied: line 1: unknown key "hold"' in result.output
    assert file.read_text() == "hold_s = 70\n"


@pytest.mark.parametrize("typed", ["quit\n", ""])
def test_without_consent_the_file_stays(file: Path, editor: list[str], typed: str) -> None:
    before = file.read_bytes()
    for text in ("hold_s = 70\n", "hold = 70\n"):
        editor.append(text)
        assert config(file, "edit", typed=typed).exit_code == 1
        assert file.read_bytes() == before


def test_an_edit_without_a_change_says_so(file: Path, editor: list[str]) -> None:
    editor.append(file.read_text())
    assert config(file, "edit").output == f"{file}: nothing changed\n"


def test_a_change_of_another_program_during_an_edit_is_not_lost(
    file: Path, editor: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    editor.append("# mine\nhold_s = 70  # long\n")
    answers = iter(["apply", "quit"])

    def answer(*_: object, **__: object) -> str:
        file.write_text("# mine\nhold_s = 60  # long\ntarget_c = 75\n")
        return next(answers)

    monkeypatch.setattr(click, "prompt", answer)
    result = config(file, "edit")
    assert f"{file} was changed meanwhile, so this is not applied yet" in result.output
    assert result.output.count("-target_c = 75\n") == 1
    assert file.read_text() == "# mine\nhold_s = 60  # long\ntarget_c = 75\n"


def test_an_edited_text_that_cannot_be_written_is_not_lost(
    file: Path, editor: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    editor.append("# mine\nhold_s = 70  # long\n")
    written, faults = change.replace, [GpufanError(f"cannot write {file}: No space left on device")]

    def fail_once(*arguments: Any, **options: Any) -> None:
        if faults:
            raise faults.pop()
        written(*arguments, **options)

    monkeypatch.setattr(change, "replace", fail_once)
    result = config(file, "edit", typed="apply\napply\n")
    assert f"this is not applied: cannot write {file}: No space left on device" in result.output
    assert result.exit_code == 0
    assert file.read_text() == "# mine\nhold_s = 70  # long\n"


def test_an_edited_text_that_is_not_utf_8_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "sh -c 'printf \"\\377\" >$0'")
    result = config(file, "edit")
    assert getattr(result.exception, "exit_status", None) == 2
    assert "is not UTF-8: save it as UTF-8" in str(result.exception)


def test_no_other_change_comes_between_the_read_and_the_write(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_settings = change.replace_settings

    def replace_in_turn(path: Path, text: str) -> str:
        with pytest.raises(GpufanError, match="another process has locked"), folder_locks([path.parent], 0.0):
            pass
        return replace_settings(path, text)

    monkeypatch.setattr(change, "replace_settings", replace_in_turn)
    assert config(file, "set", "target_c", "75").exit_code == 0


def test_an_editor_that_fails_leaves_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "false")
    before = file.read_bytes()
    assert "no editor: false: Editing failed: name one" in str(config(file, "edit").exception)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("quiet", "quiet belongs to the table of quiet hours: `sudo gpufan config edit` changes it"),
        ("max_duty_percent", "`gpufan config show quiet` explains it"),
        ("quiet.from", "belongs to the table of quiet hours"),
        ("target", "there is no key target: did you mean target_c?"),
        ("TARGET_C", "there is no key TARGET_C: did you mean target_c?"),
        ("gpu", "write the key alone, and --gpu CARD"),
        ("xyz", "there is no key xyz: choose from target_c, curve,"),
    ],
)
@pytest.mark.parametrize("command", [["set"], ["unset"]])
def test_a_word_that_is_no_key_is_refused_with_what_to_do(
    file: Path, command: list[str], key: str, message: str
) -> None:
    result = config(file, *command, key, *["50"] * (command == ["set"]))
    assert (result.exit_code, message in result.output) == (2, True)


def test_quiet_hours_are_explained_with_an_example_that_can_be_pasted(file: Path) -> None:
    assert "quiet hours: none (`gpufan config show quiet` explains them)" in config(file, "show").output
    shown = config(file, "show", "quiet").output
    example = re.search(r"\n\n( +\[\[quiet\]\]\n.*?)\n\n", shown, re.DOTALL)
    assert example
    file.write_text(example[1])
    shown = config(file, "show", "quiet").output
    assert '[[quiet]] 1, every card\n  from              "22:00" ' in shown
    assert "every card\n  target_c" not in shown
    assert all(f"\n{key}: " in shown for key in QUIET_KEYS)
