"""`gpufan config` on a box with cards, without a running gpufan."""

from collections.abc import Callable
from pathlib import Path

from tests.doubles.nvml import NvmlDouble

Command = Callable[..., tuple[int, str, str]]


def test_check_compares_the_file_with_the_cards_of_the_box(double: NvmlDouble, gpufan: Command, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        'target_c = 90\n[[gpu]]\nmatch = "RTX"\nmin_duty_percent = 40\n[[gpu]]\nmatch = "0a:00.0"\nneighbours = ["0"]\n'
    )
    status, out, err = gpufan("config", "check", "--config", str(file))
    assert (status, out) == (0, f"{file}: no mistake found\n")
    warnings = [line.removeprefix(f"warning: {file}: ") for line in err.splitlines()]
    assert [line.split(" may be ")[0] for line in warnings] == [
        "line 1: target_c = 90 is cut to 84 °C on 0 GTX 1080 Ti",
        'line 3: [[gpu]] 1: match: "RTX" matches no card here',
        'line 7: [[gpu]] 2: neighbours: "0"',
        'line 7: [[gpu]] 2: neighbours: "0" is the card itself: name the cards that it warms',
    ]


def test_set_writes_the_uuid_of_the_card(double: NvmlDouble, gpufan: Command, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.touch()
    assert gpufan("config", "set", "target_c", "75", "--gpu", "1", "--config", str(file))[0] == 0
    uuid = double.cards[1].uuid.decode()
    assert file.read_text().endswith(f'[[gpu]]\nmatch = "{uuid}"\ntarget_c = 75\n')
    status, _, err = gpufan("config", "set", "target_c", "75", "--gpu", "7", "--config", str(file))
    assert (status, "7: the UUID of this card is not known here" in err) == (2, True)
