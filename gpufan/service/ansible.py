"""Files for Ansible, from `templates/ansible/`: a playbook, a role, and files that the user then edits."""

from gpufan.config.toml_text import render_settings_text
from gpufan.system.resources import resource

FILES = ("playbook.yml", *(f"roles/gpufan/{part}/main.yml" for part in ("defaults", "handlers", "meta", "tasks")))


def playbook_files() -> dict[str, bytes]:
    """Return the content of the playbook and the role, by path."""
    return {name: resource(f"templates/ansible/{name}").read_bytes() for name in FILES}


def ansible_user_files() -> dict[str, bytes]:
    """Return the content of the files that the user edits, by path: the list of boxes, and their settings."""
    return {
        "inventory.ini": resource("templates/ansible/inventory.ini").read_bytes(),
        "config.toml": render_settings_text().encode(),
    }
