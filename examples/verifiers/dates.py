"""Judge dates: "3 March 2024", "March 3, 2024" and "2024-03-03" are the same answer."""

import re
from datetime import datetime
from typing import Any

FORMATS = ("%Y-%m-%d", "%d %B %Y", "%B %d %Y", "%d %b %Y", "%b %d %Y")
DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2} [A-Z][a-z]+,? \d{4}|[A-Z][a-z]+ \d{1,2},? \d{4}")


def check(row: dict[str, Any], completion: str) -> str:
    """Return the last date of a completion as 2024-03-03, "" if there is none."""
    for text in reversed(DATE.findall(completion)):
        for form in FORMATS:
            try:
                return datetime.strptime(text.replace(",", ""), form).strftime("%Y-%m-%d")
            except ValueError:
                continue
    return ""
