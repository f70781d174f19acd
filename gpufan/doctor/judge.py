"""Make the report from the facts. The modules `judge_*` make the findings. All of these are pure."""

import msgspec

from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Finding, Report
from gpufan.doctor.judge_box import judge_box
from gpufan.doctor.judge_cards import judge_cards
from gpufan.doctor.judge_driver import judge_driver
from gpufan.doctor.judge_service import judge_service
from gpufan.system.printable import printable


def judge(facts: Facts) -> Report:
    """Make the report with all findings about the box."""
    findings = [_printable(f) for part in (judge_driver, judge_cards, judge_service, judge_box) for f in part(facts)]
    return Report.of(facts.version, facts.time_s, findings)


def _printable(finding: Finding) -> Finding:
    """Replace control characters: any user can put them into the name of a process or a file."""
    text, remedies = printable(finding.text), tuple(map(printable, finding.remedies))
    return msgspec.structs.replace(finding, text=text, remedies=remedies)
