"""The playbook and the role for Ansible, from `templates/ansible/`."""

from gpufan.config.schema import render
from gpufan.system.resources import resource

FILES = (
    "playbook.yml",
    "roles/gpufan/defaults/main.yml",
    "roles/gpufan/handlers/main.yml",
    "roles/gpufan/meta/main.yml",
    "roles/gpufan/tasks/main.yml",
)


def contents() -> dict[str, bytes]:
    """Playbook and role, by path in the folder."""
    return {name: resource(f"templates/ansible/{name}").read_bytes() for name in FILES}


def beginnings() -> dict[str, bytes]:
    """What is the user's to go on with: the list of boxes, and settings for them."""
    return {
        "inventory.ini": resource("templates/ansible/inventory.ini").read_bytes(),
        "config.toml": render().encode(),
    }
