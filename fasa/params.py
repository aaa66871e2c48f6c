"""params.yaml, checked: ``python -m fasa.params`` refuses what no stage would understand, before any runs."""

import dataclasses
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasa.classification import experiment
from fasa.data import glyphs
from fasa.errors import UserError
from fasa.pipeline.project import load_params
from fasa.rows import Schedule, method, read_row
from fasa.sections import at_least, check_keys, strict


@dataclass(frozen=True)
class Run:
    """Rows that `dvc repro` trains: `run`, the main ones, on every seed, and `more`, the others, on fewer.

    Args:
        rows: names of rows, each a section of the profile's `rows`.
        seeds: whole numbers.
    """

    rows: list
    seeds: list


@dataclass(frozen=True)
class Tuning:
    """What `dvc repro tuning/dvc.yaml` tries.

    Args:
        prob_scale: candidates for FASA.
        seeds: of `Run.seeds`.
    """

    prob_scale: list
    seeds: list


@dataclass(frozen=True)
class Classify:
    """What the stage `classify` runs: every row on every set.

    Args:
        sets, rows: names, each a section of the profile's `classification`.
        seeds: whole numbers.
    """

    sets: list
    rows: list
    seeds: list


@dataclass(frozen=True)
class Classification:
    """The data sets of classification and its rows, see `fasa.classification`."""

    sets: dict
    rows: dict


@dataclass(frozen=True)
class Table:
    """How rows are compared.

    Args:
        resamples: of the paired bootstrap.
    """

    resamples: int = at_least(1)


@dataclass(frozen=True)
class Cost:
    """How the cost of a row is measured.

    Args:
        iterations: that are timed.
    """

    iterations: int = at_least(2)


def check(params: dict[str, Any]) -> None:
    """Check all sections of params.yaml, the active profile's lifted to the top.

    Raises:
        UserError: the first thing that is wrong, and how to mend it.
    """
    sections = dict(
        profile=str,
        run=Run,
        more=Run,
        classify=Classify,
        tuning=Tuning,
        threads=int,
        data=glyphs.Settings,
        warmup=Schedule,
        train=Schedule,
        rows=dict,
        table=Table,
        cost=Cost,
        classification=Classification,
    )
    profile = params.get("profile")
    others = {path.parent.name for path in Path("configs").glob("*/*.py")}
    if profile not in others:
        raise UserError(f"params.yaml: profile {profile!r} has no folder configs/{profile}")
    check_keys(params, sections.keys() | others, profile)
    for name, kind in sections.items():
        if name not in params:
            raise UserError(f"params.yaml: {profile}.{name} is missing")
        if dataclasses.is_dataclass(kind):
            strict(kind, params[name], name)
        elif not isinstance(params[name], kind):
            raise UserError(f"params.yaml: {profile}.{name} is {params[name]!r}, not {kind.__name__}")
    if both := {*params["run"]["rows"]} & {*params["more"]["rows"]}:
        raise UserError(f"params.yaml: {min(both)} stands in run.rows and in more.rows; leave one out")
    for name in sorted({*params["rows"], *params["run"]["rows"], *params["more"]["rows"]}):
        row = read_row(params["rows"], name)
        if not (model := Path("configs", profile, f"{row.model}.py")).exists():
            raise UserError(f"params.yaml: rows.{name}.model is {row.model!r}, but there is no {model}")
    chosen, there = params["classify"], params["classification"]
    for name in {*there["sets"], *chosen["sets"]}:
        experiment.read_set(there["sets"], name)
    for name in {*there["rows"], *chosen["rows"]}:
        experiment.read_row(there["rows"], name)
    for where, rows in (("rows", params["rows"]), ("classification.rows", there["rows"])):
        for name, row in rows.items():
            if row.get("augmenter"):
                try_augmenter(row["augmenter"], f"{where}.{name}.augmenter")


def try_augmenter(section: dict, where: str) -> None:
    """Build an augmenter for two classes, since it checks what it is given only then.

    Raises:
        UserError: what it refuses.
    """
    kind = method(section)
    given = dict(num_classes=2, width=2, map_shape=(1, 1, 1))
    given = {name: value for name, value in given.items() if name in inspect.signature(kind).parameters}
    try:
        kind(**given, **{name: value for name, value in section.items() if name != "type"})
    except (TypeError, ValueError) as error:
        raise UserError(f"params.yaml: {where}: {error}") from None


def main() -> int:
    """Check params.yaml; the file that is written is always the same, so that no stage runs again for it."""
    try:
        check(load_params())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    Path("build").mkdir(exist_ok=True)
    Path("build", "params.ok").write_text("params.yaml was checked\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
