"""The container image, built and run by buildah, and the files that run it, judged by the schemas of their programs."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles import require
from tests.integration.packages import SOURCE, packages
from tests.integration.systemd.fresh import fresh_root

pytestmark = pytest.mark.slow

TEMPLATES = SOURCE / "templates"
COMPOSE = "github.com/compose-spec/compose-go/v2@v2.9.0"
"""The Go module with the schema of compose files."""


class Builder:
    """buildah, with images in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        program = require("buildah", "buildah")
        self._command = [program, "--root", folder / "images", "--runroot", folder / "run", "--storage-driver", "vfs"]

    def __call__(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._command, *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """A container of the image, with the name `gpufan`."""
    if os.geteuid() != 0:
        pytest.skip("only root can build an image here")
    builder = Builder(tmp_path_factory.mktemp("container"))
    # No registry can be reached: the root of a fresh box is the base.
    options = ("--isolation", "chroot", "--build-arg", "BASE=localhost/base", "--tag", "gpufan")
    for words in (
        ("from", "--name", "base", "scratch"),
        ("add", "-q", "base", fresh_root("trixie"), "/"),
        ("commit", "-q", "base", "localhost/base"),
        ("build", *options, "--file", SOURCE / ".ci/Containerfile", packages()),
        ("from", "--name", "gpufan", "localhost/gpufan"),
    ):
        done = builder(*words)
        assert done.returncode == 0, done.stdout + done.stderr
    yield builder
    builder("rm", "--all")
    builder("rmi", "--all", "--force")


def test_the_image_runs_gpufan(container: Builder) -> None:
    config = json.loads(container("inspect", "--type", "image", "localhost/gpufan").stdout)["OCIv1"]["config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["gpufan"], ["run"])
    assert "NVIDIA_DRIVER_CAPABILITIES=utility" in config["Env"]
    simulate = ("run", "--simulate", "--time-scale", "max", "--duration", "1m")
    done = container("run", "--isolation", "chroot", "gpufan", "gpufan", *simulate)
    assert done.returncode == 0, done.stderr
    assert "throttled" in done.stdout


def test_the_doctor_knows_the_container_and_says_what_a_kill_of_it_does(container: Builder) -> None:
    said = container(
        "run", "--isolation", "chroot", "gpufan", "sh", "-c", ": >/run/.containerenv; gpufan doctor"
    ).stdout
    text = " ".join(said.split())
    assert "podman: a kill of the container also ends the guardian" in text
    assert "from a package of the distribution" in text
    done = container("run", "--isolation", "chroot", "gpufan", "gpufan", "install-service", "--yes")
    assert "systemd does not run this box" in done.stderr


def test_the_compose_file_has_the_form_that_compose_demands() -> None:
    validator = pytest.importorskip("jsonschema").Draft7Validator
    yaml = pytest.importorskip("yaml")
    go = require("go", "golang-go")
    done = subprocess.run([go, "mod", "download", "-json", COMPOSE], capture_output=True, text=True, check=True)
    schema = Path(json.loads(done.stdout)["Dir"], "schema/compose-spec.json")
    found = yaml.safe_load((TEMPLATES / "compose.yml").read_text())
    validator(json.loads(schema.read_text())).validate(found)
    assert found["services"]["gpufan"]["restart"] == "always"


@pytest.mark.parametrize("version", ["1.28", "1.32"])
def test_kubernetes_accepts_the_daemon_set(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    yaml = pytest.importorskip("yaml")
    documents = [*yaml.safe_load_all((TEMPLATES / "kubernetes.yml").read_text())]
    assert [document["kind"] for document in documents] == ["ConfigMap", "DaemonSet"]
    for document in documents:
        validate(document, version, strict=True)
    wrong = json.loads(json.dumps(documents[1]))
    wrong["spec"]["template"]["spec"]["containers"][0]["securityContext"]["priviledged"] = True
    with pytest.raises(Exception, match="priviledged"):
        validate(wrong, version, strict=True)


def test_the_settings_for_kubernetes_are_valid(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    from gpufan.config.toml_text import parse_settings_text

    settings = next(yaml.safe_load_all((TEMPLATES / "kubernetes.yml").read_text()))["data"]["config.toml"]
    keys, _ = parse_settings_text(settings.encode())
    assert keys.target_c == 78
