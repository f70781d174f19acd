"""Makes the report from the facts. The modules `judge_driver`, `judge_cards` and so on make the findings.

The functions use nothing but the facts.
"""

from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Report
from gpufan.doctor.judge_box import judge_box
from gpufan.doctor.judge_cards import judge_cards
from gpufan.doctor.judge_driver import judge_driver
from gpufan.doctor.judge_headers import judge_headers
from gpufan.doctor.judge_installation import judge_installation
from gpufan.doctor.judge_service import judge_service


def judge(facts: Facts) -> Report:
    """Judge the facts about a box, and return the report with all findings."""
    parts = (judge_driver, judge_cards, judge_headers, judge_installation, judge_service, judge_box)
    findings = [finding.printable() for part in parts for finding in part(facts)]
    return Report.of(facts.version, facts.time_s, findings)
