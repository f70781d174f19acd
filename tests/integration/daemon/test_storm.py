"""A storm of faults over a real `gpufan run`: codes, hangs, weak fans, rivals, restarts of the driver, signals."""

from pathlib import Path

import pytest

from tests.integration.storm.process import Storm


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_what_always_holds_holds_in_a_storm_of_300_faults(tmp_path: Path, seed: int) -> None:
    storm = Storm(tmp_path, seed, faults=300)
    try:
        findings = storm.run()
    finally:
        storm.close()
    assert not findings, "\n".join(map(str, findings))
    assert sum(storm.scene.happened.values()) > 300


def test_a_short_storm_ends_with_all_fans_given_back(tmp_path: Path) -> None:
    storm = Storm(tmp_path, seed=1, faults=0)
    try:
        findings = storm.run()
    finally:
        storm.close()
    assert [finding for finding in findings if finding.invariant != 12] == []
    assert storm.ends == {"status 0 after SIGTERM": 1}
