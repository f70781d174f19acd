"""The commands `gpufan alerts run`, `alerts test` and `alerts check`."""

import os
import sys
from pathlib import Path

import click

from gpufan.alerts import settings
from gpufan.alerts.settings import AlertSettings
from gpufan.cli import options
from gpufan.cli.command import Command, Group
from gpufan.errors import GpufanError
from gpufan.system.paths import ALERTS_SETTINGS, SNAPSHOT

_config_option = options.file(
    "--config", "config_path", show_default=str(ALERTS_SETTINGS), help="The file with receivers and rules."
)


@click.group(cls=Group)
def alerts() -> None:
    """Send messages by mail, chat or web hook when a card needs help, and when it is over.

    `sudo gpufan install-service --alerts -` sets it up: it asks for a URL, writes /etc/gpufan/alerts.toml, which
    explains all settings, and starts a service without rights. Then `sudo gpufan alerts test` sends a test message.

    URL is the receiver: mailtos://user:password@example.org for mail, with ?to=me@example.com for another address,
    ntfy://ntfy.sh/topic, tgram://token/chat for Telegram, slack://token-a/token-b/token-c, discord://id/token,
    jsons://example.org/path for a web hook, and many more: https://github.com/caronc/apprise/wiki

    Apprise delivers the messages. It comes with the extra `alerts`: pip install 'gpufan[alerts]'
    """


@alerts.command("run", cls=Command)
@_config_option
@options.runtime_dir
def run_alerts(config_path: Path | None, runtime_dir: Path) -> None:
    """Watch the running gpufan and send messages, until stopped.

    It only reads the snapshot of gpufan. install-service --alerts installs it as a service of its own.
    """
    chosen = _read_alerts_option(config_path)
    from gpufan.alerts.watch import send_alerts
    from gpufan.terminal.log import log_to

    with log_to(sys.stderr):
        send_alerts(runtime_dir / SNAPSHOT, chosen)


@alerts.command("test", cls=Command)
@_config_option
def test_alerts(config_path: Path | None) -> None:
    """Send a test message to all receivers.

    A line for each receiver shows whether it accepted the message, else why not.
    """
    chosen = _read_alerts_option(config_path)
    from gpufan.alerts.watch import send_test_message

    if failed := send_test_message(chosen, click.echo):
        raise GpufanError(f"{failed} of {len(chosen.urls) + len(chosen.scripts)} receivers did not get the message")


@alerts.command("check", cls=Command)
@_config_option
def check_alerts(config_path: Path | None) -> None:
    """Look for mistakes in the file, and send nothing."""
    _read_alerts_option(config_path)
    click.echo(f"{config_path or ALERTS_SETTINGS}: no mistake found")


def _read_alerts_option(path: Path | None) -> AlertSettings:
    """Read the settings of the messages and check their receivers. Return the settings.

    `path` is the value of the option --config; None stands for the default file. Raises InputError if the file has
    mistakes or a receiver cannot work, MissingExtra if Apprise is not installed, GpufanError if it does not answer.
    """
    from gpufan.alerts.receivers import check_receivers as check_receivers

    name = path or ALERTS_SETTINGS
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    # systemd gives the service a copy, since the service may not read the file itself.
    source = Path(credentials, name.name) if path is None and credentials else name
    chosen = settings.read_alert_settings(source, name)
    check_receivers(chosen, name)
    return chosen
