"""Joins the settings with fans on headers of the motherboard: which channels cool which cards."""

from gpufan.config.settings import Settings
from gpufan.gpu.cards import Cards
from gpufan.gpu.header import Headers
from gpufan.hwmon.channels import find_channels, resolve_channel


def use_header_fans(cards: Cards, settings: Settings, headers: Headers) -> None:
    """Cool those of `cards` with channels of `headers` for which `settings` name channels. Opens all channels."""
    headers.open_all(settings.channel_names)
    if settings.has_header_fans:
        cards.use_headers(lambda info: settings.for_card(info).fans, headers)


def hwmon_folders(settings: Settings) -> list[str]:
    """Return the folders with the files of hwmon that a run with `settings` writes.

    The folders have the same names after a boot. Raises InputError if a channel in `settings` does not exist here.
    """
    if not settings.channel_names:
        return []
    channels = find_channels()
    return sorted({str(resolve_channel(name, channels).writable_folder) for name in settings.channel_names})
