"""One table of what was measured, with ratios; goals are printed beside, never enforced."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Table:
    """Rows as they are found; `ratio` is to the row that `than` names."""

    rows: list[dict[str, object]] = field(default_factory=list)

    def add(
        self,
        what: str,
        value: float,
        unit: str,
        *,
        ratio: float | None = None,
        than: str = "",
        goal: str = "",
        met: bool | None = None,
    ) -> None:
        row = {"what": what, "value": round(value, 3), "unit": unit, "than": than, "goal": goal}
        self.rows.append({**row, "ratio": round(ratio, 2) if ratio else None, "met": met})

    def skip(self, what: str, why: str) -> None:
        self.rows.append({"what": what, "skipped": why})

    def text(self) -> str:
        lines = []
        for row in self.rows:
            if "skipped" in row:
                lines.append(f"{row['what']:44} skipped: {row['skipped']}")
                continue
            ratio = f"{row['ratio']}x {row['than']}" if row["ratio"] else ""
            verdict = {None: "", True: "met", False: "MISSED"}[row["met"]]  # type: ignore[index]
            line = f"{row['what']:44} {row['value']:>10} {row['unit']:5} {ratio:32}"
            lines.append(f"{line} {row['goal']:24} {verdict}".rstrip())
        return "\n".join(lines)
