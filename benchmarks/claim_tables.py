"""The tables of the README, from the lines of `benchmarks.claims`."""

from __future__ import annotations

import json
from typing import Any

# Metrics as a reader knows them.
UNITS = {"accuracy": "accuracy", "log_loss": "log loss", "r2": "R²"}


def of(lines: str) -> str:
    """Markdown: for each claim a table, a row for what is compared and a column for each data set.

    In bold where the claim holds, in italics where the opposite does.
    """
    found = [json.loads(line) for line in lines.splitlines()]
    claims = dict.fromkeys(line["claim"] for line in found)
    return "\n".join(_table([line for line in found if line["claim"] == each]) for each in claims)


def _table(lines: list[dict[str, Any]]) -> str:
    said = lines[0]["case"].partition(":")[0]
    data = {line["dataset"]: f"{line['dataset']}, {UNITS[line['unit']]}" for line in lines}
    rows = dict.fromkeys(_compared(line) for line in lines)
    text = [f"| {said} | {' | '.join(data.values())} |", "| --- |" + " --- |" * len(data)]
    for row in rows:
        cells = {line["dataset"]: _cell(line) for line in lines if _compared(line) == row}
        text.append(f"| {row} | {' | '.join(cells.get(each, '') for each in data)} |")
    return "\n".join(text) + "\n"


def _compared(line: dict[str, Any]) -> str:
    """One against the other; a remedy is against nothing."""
    one, other = line["compared"], line["peer_name"]
    return one if other == "without" else f"{one} against {other}"


def _cell(line: dict[str, Any]) -> str:
    text = f"{line['better_by']:+.3f} ± {line['high'] - line['better_by']:.3f}"
    mark = {"holds": "**", "the opposite": "*"}.get(line["answer"], "")
    return f"{mark}{text}{mark}"
