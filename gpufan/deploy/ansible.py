"""The playbook and the role for Ansible, from `templates/ansible/`."""

from gpufan.config import render
from gpufan.resources import resource

FILES = (
    "playbook.yml",
    "inventory.ini",
    "roles/gpufan/defaults/main.yml",
    "roles/gpufan/handlers/main.yml",
    "roles/gpufan/meta/main.yml",
    "roles/gpufan/tasks/main.yml",
)


def contents() -> dict[str, bytes]:
    """What is to be written, by its path in the folder; settings that set nothing are among it."""
    written = {name: resource(f"templates/ansible/{name}").read_bytes() for name in FILES}
    return {**written, "config.toml": render().encode()}
