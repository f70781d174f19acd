"""The versions that `gpufan --version` prints."""

from pathlib import Path

import pytest

from gpufan.system import versions as version

_GCC = "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu May  2 14:37:44 UTC\n{_GCC}", "470.256.02"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n",
            "580.65.06",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  515.43  Mon\n", "515.43"),
        (_GCC, None),
        ("", None),
    ],
)
def test_the_version_of_the_driver_is_found(text: str, found: str | None, tmp_path: Path) -> None:
    (tmp_path / "version").write_text(text)
    assert version.driver_version(tmp_path / "version") == found


def test_a_missing_driver_and_a_missing_binding_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise version.metadata.PackageNotFoundError

    monkeypatch.setattr(version.metadata, "version", missing)
    monkeypatch.setattr(version.driver_version, "__defaults__", (tmp_path / "none",))
    assert " · nvidia-ml-py missing · no driver · Python " in version.versions()
