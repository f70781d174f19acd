"""Moves the fans of each card to prove that they obey. No other file of the doctor changes anything."""

import os
from pathlib import Path

from gpufan.core.selection import select_cards, split_controllable_cards
from gpufan.daemon.case_fans import make_case_fans
from gpufan.daemon.headers import use_header_fans
from gpufan.doctor.facts import Proof
from gpufan.doctor.root_folder import settings_below_root
from gpufan.errors import GpufanError, NoPermission
from gpufan.gpu.cards import open_cards
from gpufan.gpu.header import Headers
from gpufan.service.proof import guarded_proof, prove_card
from gpufan.system.lock import controller_lock


def prove_fans(runtime_folder: Path, config: Path | None) -> tuple[Proof, ...]:
    """Move the fans of each card that gpufan would control, and give them back to the driver. Returns the results.

    `config` is the config file. With None, it is the default file. Raises NoPermission if the user is not root,
    InputError if a setting is wrong, DriverError if the driver does not work, and GpufanError if another gpufan
    controls the fans.
    """
    if os.geteuid() != 0:
        raise NoPermission("only root can move fans: run this with sudo")
    chosen = settings_below_root(config).read()
    settings = chosen.run_settings()
    proofs = []
    with controller_lock(runtime_folder, lambda _: None):
        cards = open_cards(settings.backend, settings.display, runtime_folder, settings.gpus)
        try:
            headers = Headers()
            use_header_fans(cards, chosen, headers)
            controllable, _ = split_controllable_cards(select_cards(cards.gpus, settings.gpus))
            cards.start_x_server(controllable)
            usable = [*controllable, *make_case_fans(chosen, headers.open_fan)]
            with guarded_proof(runtime_folder, usable):
                for gpu in usable:
                    try:
                        proofs.append(Proof(gpu.info.uuid, prove_card(gpu), obeyed=True))
                    except GpufanError as error:
                        proofs.append(Proof(gpu.info.uuid, str(error), obeyed=False))
        finally:
            cards.close()
    return tuple(proofs)
