"""Rules of the house that import-linter cannot state: what a process loads, and how programs are run."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import gpufan

PACKAGE = Path(gpufan.__file__).parent


def loaded_by(*modules: str, then: str = "pass") -> set[str]:
    """Names of all modules in a fresh interpreter after importing `modules` and running the statement `then`."""
    program = f"import sys, {', '.join(modules)}; {then}; print(*sys.modules)"
    # Coverage starts itself in every Python process, and loads modules of its own.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=plain)
    return set(result.stdout.split())


def test_no_program_is_run_without_a_time_limit() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "subprocess.run":
                assert "timeout" in [keyword.arg for keyword in node.keywords], f"{path}: {node.lineno}"


def test_control_loads_nothing_of_ours_but_core_and_the_errors() -> None:
    ours = {name for name in loaded_by("gpufan.control.controller") if name.startswith("gpufan.")}
    assert not {name for name in ours if not name.startswith(("gpufan.control", "gpufan.core", "gpufan.errors"))}


def test_the_daemon_loads_neither_templates_nor_tables_nor_x() -> None:
    loaded = loaded_by("gpufan.cli.run", "gpufan.daemon.run", "gpufan.gpu.nvml")
    assert not loaded & {"jinja2", "rich", "Xlib", "prometheus_client", "matplotlib", "tomlkit", "gpufan.gpu.simulated"}
    assert not loaded & {"asyncio", "starlette", "uvicorn", "gpufan.web"}


def test_a_simulation_does_not_load_the_driver() -> None:
    assert "pynvml" not in loaded_by("gpufan.cli.run", "gpufan.daemon.simulation", "gpufan.gpu.simulated")


def test_help_loads_none_of_the_commands_that_it_lists() -> None:
    loaded = loaded_by("gpufan.cli.main", then="gpufan.cli.main.cli.main(['--help'], standalone_mode=False)")
    ours = {"gpufan.cli", "gpufan.cli.main", "gpufan.cli.command", "gpufan.errors"}
    assert {name for name in loaded if name.startswith("gpufan.") and not name.startswith("gpufan.system")} == ours
    assert not loaded & {"jinja2", "msgspec", "pynvml", "rich", "sqlite3"}


def test_no_command_needs_an_extra_before_it_runs() -> None:
    loaded = loaded_by("gpufan.cli.man", then="gpufan.cli.man.man_page('gpufan.1')")
    assert "gpufan.cli.tune" in loaded
    assert not loaded & {"matplotlib", "numpy", "plotly", "prometheus_client", "scipy", "starlette", "uvicorn"}
