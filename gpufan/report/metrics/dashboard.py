"""What a Prometheus and a Grafana need to look after boxes with gpufan: alert rules, and a dashboard."""

import json
from pathlib import Path

from gpufan.errors import GpufanError, InputError
from gpufan.resources import resource, template
from gpufan.xorg import files

DASHBOARD = "gpufan-grafana.json"
ALERTS = "gpufan-alerts.yml"


def contents() -> dict[str, bytes]:
    """What is to be written, by the name of the file."""
    dashboard = json.loads(template("templates/grafana.json.j2").render())
    for number, panel in enumerate(dashboard["panels"], 1):
        panel["id"] = number
    return {
        DASHBOARD: (json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n").encode(),
        ALERTS: resource("templates/alerts.yml").read_bytes(),
    }


def write(folder: Path, *, force: bool) -> list[str]:
    """Write both files to `folder`, which is made if need be; a line for each.

    Raises InputError, with nothing changed, where one is there with other content and `force` does not allow to replace
    it; GpufanError where one cannot be written.
    """
    wanted = contents()
    before = {name: files.read(folder / name) for name in wanted}
    differing = [str(folder / name) for name, data in wanted.items() if before[name] not in (None, data)]
    if differing and not force:
        raise InputError(f"{' and '.join(differing)} would be overwritten: add --force, or choose another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GpufanError(f"cannot make {folder}: {error.strerror}") from error
    lines = []
    for name, data in wanted.items():
        if before[name] == data:
            lines.append(f"{folder / name} is up to date")
            continue
        files.replace(folder / name, data)
        lines.append(f"wrote {folder / name}")
    return lines
