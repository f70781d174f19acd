"""From facts to findings, in the order in which people read them. Pure."""

import msgspec

from gpufan.doctor.box import judge_box, judge_service
from gpufan.doctor.cards import judge_cards, judge_driver
from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Finding, Report
from gpufan.system.printable import printable

_JUDGES = (judge_driver, judge_cards, judge_service, judge_box)


def examine(facts: Facts) -> Report:
    """Judge all that is known."""
    findings = [_printable(finding) for judge in _JUDGES for finding in judge(facts)]
    groups = list(dict.fromkeys(finding.group for finding in findings))
    ordered: list[Finding] = sorted(findings, key=lambda finding: groups.index(finding.group))
    return Report.of(facts.version, facts.time_s, tuple(ordered))


def _printable(finding: Finding) -> Finding:
    """Whoever has an account here may give a process or a file whatever name."""
    text, remedies = printable(finding.text), tuple(map(printable, finding.remedies))
    return msgspec.structs.replace(finding, text=text, remedies=remedies)
