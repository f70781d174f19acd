"""The page as a service under the real systemd, and `gpufan web` as root that changes the settings of the service."""

import json
import re
import time
from typing import Any

import pytest

from tests.doubles.nvml import wait_for
from tests.integration.systemd.rig import Rig

pytestmark = pytest.mark.systemd

UNIT = "gpufan-web.service"
CLIENT = """
import http.cookiejar, json, sys, urllib.error, urllib.request
link, *requests = sys.argv[1:]
origin = link.partition("/?")[0]
opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
answers = []
def ask(path, content=None):
    data = None if content is None else json.dumps(content).encode()
    headers = {"Origin": origin, "Content-Type": "application/json"} if data else {}
    try:
        with opener.open(urllib.request.Request(origin + path, data, headers), timeout=20) as answer:
            if path == "/api/events":
                return json.loads(next(line for line in answer if line.startswith(b"data: "))[6:])
            text = answer.read()
    except urllib.error.HTTPError as error:
        text = error.read()
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()
answers.append(ask(link.removeprefix(origin)))
for request in requests:
    path, _, content = request.partition(" ")
    for name in ("id", "undo_id"):
        found = next((answer[name] for answer in reversed(answers) if isinstance(answer, dict) and name in answer), "")
        content = content.replace(f"<{name}>", found)
    answers.append(ask(path, json.loads(content) if content else None))
print(json.dumps(answers[1:]))
"""
"""Logs in with a link, makes requests, and prints the answers. <id> and <undo_id> are those of an earlier answer."""


def ask(rig: Rig, link: str, *requests: str) -> list[Any]:
    return json.loads(rig.run("python3", "-c", CLIENT, link, *requests).stdout)


def new_link(rig: Rig) -> str:
    wait_for(lambda: rig.run("test", "-s", "/run/gpufan-web/key", check=False).returncode == 0, 20)
    said = rig.run("gpufan", "web", "--url").stdout
    return re.search(r"http://127\.0\.0\.1:10836/\?token=\S+", said)[0]


def test_the_page_is_a_service_without_rights(rig: Rig):
    assert "gpufan web --url" in rig.install("--web")
    wait_for(lambda: rig.show(UNIT, "ActiveState") == "active", 20)
    pid = rig.show(UNIT, "MainPID")
    assert int(rig.run("stat", "-c", "%u", f"/proc/{pid}").stdout) >= 61184, "no dynamic user"
    status = rig.run("cat", f"/proc/{pid}/status").stdout
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
    link = new_link(rig)
    as_user = ("setpriv", "--reuid=user", "--regid=user", "--init-groups")
    refused = rig.run(*as_user, "gpufan", "web", "--url", check=False)
    assert refused.returncode == 1 and "sudo" in refused.stderr

    def has_history() -> bool:
        (history,) = ask(rig, new_link(rig), "/api/history")
        return bool(history.get("cards"))

    box, settings, event, page = ask(rig, link, "/api/box", "/api/settings", "/api/events", "/")
    assert len(box["cards"]) == 2
    assert not box["can_apply"] and "sudo gpufan web" in box["why_not_apply"]
    assert {card["target_c"] for card in settings["cards"]} == {78}
    assert event["daemon"]["state"] == "running"
    assert "<html" in page
    wait_for(has_history, 90)
    (again,) = ask(rig, link, "/api/box")
    assert "log in first" in again["error"]

    rig.run("systemctl", "stop", "gpufan.service")
    start_s = time.monotonic()
    wait_for(lambda: ask(rig, new_link(rig), "/api/events")[0]["daemon"]["state"] == "stopped", 20)
    assert time.monotonic() - start_s < 10
    (event,) = ask(rig, new_link(rig), "/api/events")
    assert "systemctl start gpufan" in event["daemon"]["text"] + event["daemon"]["remedy"]
    assert UNIT in rig.run("gpufan", "doctor", check=False).stdout
    rig.run("systemctl", "start", "gpufan.service")
    wait_for(lambda: ask(rig, new_link(rig), "/api/events")[0]["daemon"]["state"] == "running", 20)
    rig.run("gpufan", "uninstall-service")
    assert rig.run("ls", f"/etc/systemd/system/{UNIT}", "/run/gpufan-web", check=False).stdout == ""


def test_root_applies_settings_from_the_page_to_the_service_and_undoes_them(rig: Rig):
    rig.install("--web")
    before = rig.run("cat", "/etc/gpufan/config.toml").stdout
    command = "gpufan web --listen 127.0.0.1:10899"
    rig.run("sh", "-c", f'script -qfc "{command}" /tmp/web.out >/dev/null 2>&1 </dev/null &')
    wait_for(lambda: "token=" in rig.run("cat", "/tmp/web.out", check=False).stdout, 30)
    link = re.search(r"http://127\.0\.0\.1:10899/\?token=\S+", rig.run("cat", "/tmp/web.out").stdout)[0]
    pid = rig.show("gpufan.service", "MainPID")
    box, shown, made, settings, undone, history = ask(
        rig,
        link,
        "/api/box",
        '/api/diff {"target_c": 71, "max_duty_percent": 80}',
        '/api/apply {"id": "<id>"}',
        "/api/settings",
        '/api/undo {"undo_id": "<undo_id>"}',
        "/api/history",
    )
    assert box["can_apply"]
    assert "+target_c = 71" in shown["diff"]
    assert (made["ok"], made["daemon"]) == (True, "accepted"), made
    assert {(card["target_c"], card["max_duty_percent"]) for card in settings["cards"]} == {(71, 80)}
    assert (undone["ok"], undone["daemon"]) == (True, "accepted"), undone
    assert rig.run("cat", "/etc/gpufan/config.toml").stdout == before
    assert rig.show("gpufan.service", "MainPID") == pid
    assert "cannot read" not in str(history.get("error"))
