"""The shape of the house: who may import whom, and what the daemon does not carry with it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gpufan

PACKAGE = Path(gpufan.__file__).parent


def imported(path: Path) -> set[str]:
    """Names of all modules that the file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def loaded_by(*modules: str) -> set[str]:
    """Names of all modules in a fresh interpreter after importing `modules`."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("path", sorted((PACKAGE / "control").glob("*.py")), ids=lambda path: path.name)
def test_control_imports_nothing_but_the_standard_library_itself_and_the_curve(path: Path) -> None:
    for name in imported(path):
        ours = name == "gpufan.curve" or name == "gpufan.control" or name.startswith("gpufan.control.")
        assert ours or name.split(".")[0] in sys.stdlib_module_names, name


@pytest.mark.parametrize("path", sorted((PACKAGE / "control").glob("*.py")), ids=lambda path: path.name)
def test_control_has_no_clock_no_files_and_no_log(path: Path) -> None:
    assert not imported(path) & {"time", "datetime", "os", "sys", "io", "pathlib", "logging", "threading", "random"}


def test_control_brings_only_the_curve_and_the_errors_with_it() -> None:
    ours = {name for name in loaded_by("gpufan.control.controller") if name.startswith("gpufan")}
    assert ours - {"gpufan", "gpufan.control", "gpufan.curve", "gpufan.errors"} == {
        f"gpufan.control.{name}" for name in ("controller", "guard", "law", "model")
    }


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("gpu", ("control", "worker", "daemon", "report", "run", "cli")),
        ("control", ("gpu", "worker", "daemon", "report", "run", "cli")),
        ("report", ("control", "worker", "daemon", "run", "cli", "gpu.nvml")),
    ],
)
def test_data_moves_forward_only(earlier: str, later: tuple[str, ...]) -> None:
    for path in (PACKAGE / earlier).glob("*.py"):
        for name in imported(path):
            assert not name.startswith(tuple(f"gpufan.{module}" for module in later)), f"{path.name} imports {name}"


def test_no_program_is_run_without_a_limit() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "subprocess.run":
                assert "timeout" in [keyword.arg for keyword in node.keywords], f"{path}: {node.lineno}"


def test_the_daemon_does_not_carry_templates_tables_or_x_with_it() -> None:
    carried = loaded_by("gpufan.cli", "gpufan.run", "gpufan.gpu.nvml")
    assert not carried & {"jinja2", "rich", "Xlib", "prometheus_client", "matplotlib", "gpufan.gpu.simulated"}


def test_a_simulation_does_not_need_the_driver() -> None:
    assert "pynvml" not in loaded_by("gpufan.cli", "gpufan.run", "gpufan.gpu.simulated")
