"""params.yaml, checked: ``python -m fasa.params`` refuses what no stage would understand, before any runs."""

import dataclasses
import inspect
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fasa
from fasa.data import glyphs
from fasa.errors import UserError
from fasa.grouping import MeanShiftGroups
from fasa.pipeline.project import load_params


def at_least(least: float, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field for numbers from `least` on."""
    return dataclasses.field(default=default, metadata=dict(least=least))


@dataclass(frozen=True)
class Run:
    """What `dvc repro` runs.

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
class Schedule:
    """How long and how fast to train.

    Args:
        iterations: steps of the optimiser.
        batch: images per iteration.
        lr: peak learning rate.
        ramp: iterations of linear warm-up from lr / 10.
        final: the share of lr that a cosine falls to at the end; 1 keeps it.
    """

    iterations: int = at_least(1)
    batch: int = at_least(1)
    lr: float = at_least(0)
    ramp: int = at_least(0, default=0)
    final: float = at_least(0, default=1.0)


@dataclass(frozen=True)
class Row:
    """What distinguishes a row from plain Mask R-CNN.

    Args:
        augmenter: a class of `fasa` and its arguments, such as ``{type: FASA, prob_scale: 8}``; None: off.
        adapt_every: iterations between adaptation passes; None: never.
        signal: what is measured in a pass: the loss of each class, or its metric, the box AP (appendix B.2).
    """

    augmenter: dict | None = None
    adapt_every: int | None = at_least(1, default=None)
    signal: str = dataclasses.field(default="loss", metadata=dict(known=("loss", "metric")))


@dataclass(frozen=True)
class Table:
    """How rows are compared.

    Args:
        resamples: of the paired bootstrap.
    """

    resamples: int = at_least(1)


def strict(kind: type, section: Any, where: str) -> Any:
    """Build the dataclass `kind` from a section of params.yaml; `where` names the section.

    Raises:
        UserError: on a key that is unknown, missing or of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    check_keys(section, fields, where)
    for name, field in fields.items():
        if name not in section:
            if field.default is field.default_factory is dataclasses.MISSING:
                raise UserError(f"params.yaml: {where}.{name} is missing")
            continue
        value, wanted = section[name], float | int if field.type is float else field.type
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise UserError(
                f"params.yaml: {where}.{name} is {value!r}, not {getattr(field.type, '__name__', wanted)}"
            )
        least = field.metadata.get("least")
        if least is not None and value is not None and value < least:
            raise UserError(f"params.yaml: {where}.{name} is {value!r}; it must be at least {least}")
        if value not in field.metadata.get("known", (value,)):
            known = ", ".join(field.metadata["known"])
            raise UserError(f"params.yaml: {where}.{name} is {value!r}; known: {known}")
    return kind(**section)


def check_keys(section: Any, known: Collection[str], where: str) -> None:
    """Refuse keys of a section of params.yaml that nothing would read."""
    if not isinstance(section, dict):
        raise UserError(f"params.yaml: {where} is {section!r}, not a section of keys and values")
    for key in section:
        if key not in known:
            raise UserError(f"params.yaml: {where}.{key} is unknown; known: {', '.join(sorted(known))}")


def read_row(rows: dict, name: str) -> Row:
    """The row `name` of the section `rows`, every key of it checked."""
    if name not in rows:
        raise UserError(f"params.yaml: there is no row {name!r}; known: {', '.join(sorted(rows))}")
    row = strict(Row, rows[name], f"rows.{name}")
    if row.augmenter is not None:
        where, kind = f"rows.{name}.augmenter", row.augmenter.get("type")
        augmenters = [name for name in fasa.__all__ if is_augmenter(getattr(fasa, name))]
        if kind not in augmenters:
            raise UserError(f"params.yaml: {where}.type is {kind!r}; known: {', '.join(augmenters)}")
        arguments = inspect.signature(getattr(fasa, kind)).parameters
        check_keys(row.augmenter, arguments.keys() - {"num_classes", "width", "seed"} | {"type"}, where)
        for key, value in row.augmenter.items():
            if key in arguments and is_number(arguments[key].default) and not is_number(value):
                raise UserError(f"params.yaml: {where}.{key} is {value!r}, not a number")
        fields = {field.name for field in dataclasses.fields(MeanShiftGroups)}
        check_keys(row.augmenter.get("groups", {}), fields, f"{where}.groups")
    return row


def is_number(value: Any) -> bool:
    """Whether it is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_augmenter(thing: Any) -> bool:
    """Whether it is a method of fasa, rather than a part of one."""
    return isinstance(thing, type) and issubclass(thing, fasa.Augmenter) and thing is not fasa.Augmenter


def check(params: dict[str, Any]) -> None:
    """Check all sections of params.yaml, the active profile's lifted to the top.

    Raises:
        UserError: the first thing that is wrong, and how to mend it.
    """
    sections = dict(
        profile=str,
        run=Run,
        tuning=Tuning,
        threads=int,
        data=glyphs.Settings,
        warmup=Schedule,
        train=Schedule,
        rows=dict,
        table=Table,
    )
    profile = params.get("profile")
    others = {path.stem for path in Path("configs").glob("*.py")}
    if profile not in others:
        raise UserError(f"params.yaml: profile {profile!r} has no configs/{profile}.py")
    check_keys(params, sections.keys() | others, profile)
    for name, kind in sections.items():
        if name not in params:
            raise UserError(f"params.yaml: {profile}.{name} is missing")
        if dataclasses.is_dataclass(kind):
            strict(kind, params[name], name)
        elif not isinstance(params[name], kind):
            raise UserError(f"params.yaml: {profile}.{name} is {params[name]!r}, not {kind.__name__}")
    for name in {*params["rows"], *params["run"]["rows"]}:
        read_row(params["rows"], name)


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
