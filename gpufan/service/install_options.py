"""The options of `gpufan install-service`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gpufan.core.curve import Curve


@dataclass(frozen=True)
class InstallOptions:
    """What a person has asked the install to do."""

    curve: Curve | None = None
    target_c: float | None = None
    config: Path | None = None
    gpus: tuple[str, ...] = ()
    keep_display_manager: bool = False
    start: bool = True
    check: bool = True
    companions: Mapping[str, bool] = field(default_factory=dict)
    """Whether to install (True) or remove (False) a companion service, by its name. The others stay unchanged."""
    alerts_text: str | None = field(default=None, repr=False)
    """Text of the file with the receivers of messages, which holds secrets; None if it is not to be written."""
    shell_files: Mapping[Path, str] = field(default_factory=dict)
    """Manual pages and shell completion: the text of each file, by path."""

    @property
    def has_settings(self) -> bool:
        """Whether they set something in the settings file."""
        return self.curve is not None or self.target_c is not None or bool(self.gpus)
