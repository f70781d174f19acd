"""Make the files for Ansible: a playbook, a role, and files that the user edits."""

from gpufan.config.toml_text import render_settings_text
from gpufan.system.resources import resource

FILES = ("playbook.yml", *(f"roles/gpufan/{part}/main.yml" for part in ("defaults", "handlers", "meta", "tasks")))


def playbook_files() -> dict[str, bytes]:
    """Return the files of the playbook and the role. The result maps the path of each file to its content."""
    return {name: resource(f"templates/ansible/{name}").read_bytes() for name in FILES}


def ansible_user_files() -> dict[str, bytes]:
    """Return the files that the user edits: the list of boxes, and the settings for these boxes.

    The result maps the path of each file to its content.
    """
    return {
        "inventory.ini": resource("templates/ansible/inventory.ini").read_bytes(),
        "config.toml": render_settings_text().encode(),
    }
