"""Files for monitoring many boxes: Prometheus alert rules, and a Grafana dashboard."""

import json

from gpufan.system.resources import resource, template

DASHBOARD = "gpufan-grafana.json"
ALERTS = "gpufan-alerts.yml"


def contents() -> dict[str, bytes]:
    """Content of both files, by file name."""
    dashboard = json.loads(template("templates/grafana.json.j2").render())
    for number, panel in enumerate(dashboard["panels"], 1):
        panel["id"] = number
    return {
        DASHBOARD: (json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n").encode(),
        ALERTS: resource("templates/alerts.yml").read_bytes(),
    }
