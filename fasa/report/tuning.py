"""What a tuning study chooses: its rules stood here before its numbers.

A rule takes the metrics of a candidate's rows, means over seeds, and gives a score: the candidate with the
largest is chosen. A human enters it into params.yaml.
"""

import json
from collections.abc import Sequence
from math import inf, log
from pathlib import Path
from statistics import mean
from typing import Any

from fasa.errors import UserError
from fasa.report.compare import MAIN
from fasa.report.summary import summarise
from fasa.report.tables import cell, column_name, error_types, markdown

Found = dict[str, dict[str, dict[int, dict[str, float]]]]  # metrics by candidate, row and seed
Means = dict[str, dict[str, dict]]  # of a candidate, as from `summarise`
RATIOS = dict(mask_rcnn=0.04, mask_rcnn_rfs=0.47)  # mask APr / APf on LVIS (the paper's Tables 8 and 2)
LEAST_APF = 30.0  # of plain Mask R-CNN: a tail that fails because all fails is no long tail
MASKS, BOXES = MAIN[:4], MAIN[4:]
MORE = [
    *error_types("table1"),
    "segm_pool_AP",
    "segm_pool_APr",
    "virtual_per_iteration",
    "iteration_ms",
]


def ratio(row: dict[str, dict]) -> float:
    """Mask APr / APf of a row's means; 0 where it finds no frequent class, or there is none."""
    rare, frequent = (row.get(f"segm_{group}", dict(mean=0.0))["mean"] for group in ("APr", "APf"))
    return rare / frequent if frequent else 0.0


def regime(rows: Means) -> float:
    """Minus the distance of the baselines' `ratio` from LVIS's, as the sum of the logarithms' differences."""
    ratios = {name: ratio(rows[name]) for name in RATIOS}
    if min(ratios.values()) <= 0 or rows["mask_rcnn"]["segm_APf"]["mean"] < LEAST_APF:
        return -inf
    return -sum(abs(log(ratios[name] / paper)) for name, paper in RATIOS.items())


def prob_scale(rows: Means) -> float:
    """The mean over rows of the mean of mask AP and mask APr."""
    return mean((row["segm_AP"]["mean"] + row["segm_APr"]["mean"]) / 2 for row in rows.values())


RULES = dict(regime=regime, prob_scale=prob_scale)


def tried(runs: str | Path, study: str, candidates: Sequence[str], seeds: Sequence[int]) -> Found:
    """The metrics of all candidates that have run on all seeds.

    Args:
        runs: the folder of a profile's runs.

    Raises:
        UserError: there is none.
    """
    found = {}
    for name in candidates:
        paths = {seed: Path(runs, "candidate", study, f"{name}-{seed}.json") for seed in seeds}
        if all(path.exists() for path in paths.values()):
            by_seed = {seed: json.loads(path.read_text()) for seed, path in paths.items()}
            rows = by_seed[seeds[0]]
            found[name] = {row: {seed: metrics[row] for seed, metrics in by_seed.items()} for row in rows}
    if not found:
        raise UserError(f"{runs}: no candidate of {study} has run; run: dvc repro tuning/{study}/dvc.yaml")
    return found


def choose(study: str, found: Found) -> tuple[dict[str, float], str | None]:
    """The score of each candidate, and the one with the largest; None where none may be chosen."""
    scores = {name: RULES[study](summarise(rows)) for name, rows in found.items()}
    best = max(scores, key=scores.get)
    return scores, best if scores[best] > -inf else None


def report(study: str, found: Found, candidates: dict[str, dict[str, Any]]) -> str:
    """Tables of all candidates and rows, and what is chosen, in Markdown.

    Args:
        candidates: what each changes.
    """
    scores, chosen = choose(study, found)
    masks, boxes, more = [], [], []
    for name, rows in found.items():
        summary = summarise(rows)
        for row, metrics in summary.items():
            first = row == next(iter(rows))
            head = [f"`{name}`" if first else "", f"`{row}`"]
            score = f"{scores[name]:.2f}" if first else ""
            masks.append([*head, *(cell(metrics.get(one)) for one in MASKS), f"{ratio(metrics):.3f}", score])
            boxes.append([*head, *(cell(metrics.get(one)) for one in BOXES)])
            more.append([*head, *(cell(metrics.get(one)) for one in MORE)])
    n = len(next(iter(next(iter(found.values())).values())))
    head = ["candidate", "row"]
    changes = [[f"`{name}`", f"`{json.dumps(candidates[name])}`"] for name in found]
    parts = [
        f"On the part `tune`, AP in percent, mean ± standard deviation; seeds: {n}.",
        markdown(["candidate", "changes"], changes),
        markdown([*head, *map(column_name, MASKS), "APr / APf", "score"], masks),
        markdown([*head, *map(column_name, BOXES)], boxes),
        "Errors by TIDE in points of mask AP50, AP_Pool, and what an iteration takes:",
        markdown([*head, *map(column_name, MORE)], more),
        f"Chosen: {chosen}." if chosen else "Chosen: none, no candidate may be.",
    ]
    return "\n\n".join(parts) + "\n"


def chosen(table: str | Path) -> str:
    """What a study's table says that it has chosen; nothing where it has not run."""
    lines = Path(table).read_text().splitlines() if Path(table).exists() else []
    return next((line for line in lines if line.startswith("Chosen:")), "")
