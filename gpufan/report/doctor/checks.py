"""From facts to findings, in the order in which people read them. Pure."""

from gpufan.report.doctor.box import judge_box, judge_service
from gpufan.report.doctor.cards import judge_cards, judge_driver
from gpufan.report.doctor.facts import Facts
from gpufan.report.doctor.findings import Finding, Report

_JUDGES = (judge_driver, judge_cards, judge_service, judge_box)


def examine(facts: Facts) -> Report:
    """Judge all that is known."""
    findings = [finding for judge in _JUDGES for finding in judge(facts)]
    groups = list(dict.fromkeys(finding.group for finding in findings))
    ordered: list[Finding] = sorted(findings, key=lambda finding: groups.index(finding.group))
    return Report.of(facts.version, facts.time_s, tuple(ordered))
