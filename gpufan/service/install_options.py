"""The options of `gpufan install-service`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gpufan.core.curve import Curve


@dataclass(frozen=True)
class InstallOptions:
    """The options that the user gave to `gpufan install-service`."""

    curve: Curve | None = None
    target_c: float | None = None
    config: Path | None = None
    gpus: tuple[str, ...] = ()
    keep_display_manager: bool = False
    start: bool = True
    check: bool = True
    companions: Mapping[str, bool] = field(default_factory=dict)
    """Maps the name of a companion service to True (install the service) or False (remove the service).

    A service without an entry stays as it is. At the first install, such a service is installed if it is a default
    service.
    """
    alerts_text: str | None = field(default=None, repr=False)
    """Text of the file that lists the receivers of alerts; None if the install does not write this file.

    The text contains secrets.
    """
    shell_files: Mapping[Path, str] = field(default_factory=dict)
    """The manual pages and the shell completion. Maps the path of each file to its text."""

    @property
    def has_settings(self) -> bool:
        """Whether the options contain settings for the config file: a curve, a target temperature or cards."""
        return self.curve is not None or self.target_c is not None or bool(self.gpus)
