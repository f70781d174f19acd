"""The options of `gpufan install-service`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gpufan.core.curve import Curve


@dataclass(frozen=True)
class InstallOptions:
    """The options that a person has given to the install."""

    curve: Curve | None = None
    target_c: float | None = None
    config: Path | None = None
    gpus: tuple[str, ...] = ()
    keep_display_manager: bool = False
    start: bool = True
    check: bool = True
    companions: Mapping[str, bool] = field(default_factory=dict)
    """By the name of a companion service: True installs it, False removes it. A service without entry is unchanged."""
    alerts_text: str | None = field(default=None, repr=False)
    """Text of the file with the receivers of messages, which contains secrets; None if no file is written."""
    shell_files: Mapping[Path, str] = field(default_factory=dict)
    """Manual pages and shell completion: the text of each file, by path."""

    @property
    def has_settings(self) -> bool:
        """Whether the options change the settings file."""
        return self.curve is not None or self.target_c is not None or bool(self.gpus)
