"""The numbers of every point as a CSV table."""

import csv
import io
from typing import Any

from experiments.reporting.grouping import group_settings
from experiments.reporting.metrics import metric_keys
from experiments.reporting.sweep_directory import Sweep


def results_csv(sweep: Sweep) -> str:
    """One row a point, values as they were measured: fractions, degrees, seconds."""
    overrides = list(dict.fromkeys(key for p in sweep.points for key in p.overrides))
    metrics = [key for keys in metric_keys(sweep.points) for key in keys]
    ranged = {key for p in sweep.points for key in p.intervals}
    angles = list(dict.fromkeys(key for p in sweep.points for key in p.angles))
    settings = {p.name: s.label for s in group_settings(sweep) for p in s.points}
    rows = []
    for index, point in enumerate(sweep.points):
        compiled = point.train_step_compilations
        row: dict[str, Any] = {
            "index": index,
            "name": point.name,
            "setting": settings[point.name],
            "status": point.status,
            "reason": point.reason,
        }
        row |= {key: point.overrides.get(key) for key in overrides}
        for key in metrics:
            row[key] = point.metrics.get(key)
            if key in ranged:
                low, high = point.intervals.get(key, (None, None))
                row |= {f"{key}_low": low, f"{key}_high": high}
        row |= {f"angle_{key}_deg": point.angles.get(key) for key in angles}
        row |= {
            "final_loss": point.result.get("final_loss"),
            "images_per_second": point.result.get("images_per_second"),
            "seconds": point.run.get("seconds"),
            "train_step_compilations": None if compiled is None else round(compiled),
        }
        rows.append(row)
    buffer = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["index", "name"]
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
