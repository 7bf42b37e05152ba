from __future__ import annotations

import re
from typing import Any

from pneumolit.report.evaluation import evaluation_report


def test_the_report_says_rule_counts_context_and_that_it_is_no_medical_device(
    metrics: dict[str, Any],
) -> None:
    text = evaluation_report(metrics, title="Test split", context={"Look": "look 3 of this test set"})
    assert text.startswith("# Test split\n")
    assert text.endswith("Research software, not a medical device.\n")
    assert "- Look: look 3 of this test set" in text
    assert f"- Images: 300 of {metrics['num_patients']} patients" in text
    assert "primary rule" in text and "## What validation promised and what was found" in text
    assert "nan" not in text.lower().replace("nance", "")
    widths = [re.sub(r"\\\|", "", line).count("|") for line in text.splitlines() if line.startswith("|")]
    assert min(widths) >= 3
