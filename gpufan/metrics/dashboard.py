"""Makes the files for the monitoring of many boxes: a Grafana dashboard and Prometheus alert rules."""

import json

from gpufan.system.resources import resource, template

DASHBOARD = "gpufan-grafana.json"
ALERTS = "gpufan-alerts.yml"


def dashboard_files() -> dict[str, bytes]:
    """Return the content of the dashboard and of the alert rules, by file name."""
    dashboard = json.loads(template("templates/grafana.json.j2").render())
    for number, panel in enumerate(dashboard["panels"], 1):
        panel["id"] = number
    return {
        DASHBOARD: (json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n").encode(),
        ALERTS: resource("templates/alerts.yml").read_bytes(),
    }
