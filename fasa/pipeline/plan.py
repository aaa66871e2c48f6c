"""Params and code become jobs: ``python -m fasa.pipeline.plan`` checks everything and writes ``build/``.

Each stage of dvc.yaml depends on ``build/jobs/STAGE.json``: its settings, resolved, and the hashes of all
that it imports. So a stage runs again when something changes that it uses, and only then.

    plan                writes ``build/jobs`` and ``build/notebooks``
    plan --dry          says how many stages it would plan, and changes nothing
    plan --why STAGE    says what has changed since a stage last ran
    plan --profile P    says what a profile's stages will take, see `fasa.pipeline.estimate`
"""

import argparse
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

import fasa
from fasa import traits
from fasa.command import command
from fasa.data import kinds
from fasa.data.prepared import OWN, SOURCE
from fasa.errors import UserError
from fasa.job import MODEL, Job
from fasa.params import Params, read_params
from fasa.pipeline import closure, estimate, strip
from fasa.pipeline.project import JOBS, NOTEBOOKS, root
from fasa.rows import candidate, compose, compose_classifier, shared_warmup
from fasa.sections import Section

SOURCES, NUMBER = Path("notebooks"), re.compile(r"^\d+_")
IMAGES = "images.npz"  # all that is in the folder of a stage images@
RUNNER = ("fasa.pipeline.run", "fasa.pipeline.execute", "fasa.pipeline.kernel")  # part of every stage


class Stage(NamedTuple):
    """What is planned of a stage.

    Args:
        name: as DVC calls it, ``train@embedded-mask_rcnn-0``.
        notebook: that it runs, without its number: see `numbered`.
        settings: what the notebook's `job` is.
        modules: that the settings name, beside what the notebook imports.
        files: configs that the settings name.
    """

    name: str
    notebook: str
    settings: dict[str, Any]
    modules: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def stages(params: Params) -> Iterator[Stage]:
    """Every stage that runs a notebook.

    Raises:
        UserError: the first setting that cannot be.
    """
    for profile in params.profiles:
        yield from of_profile(params, profile)
    chosen = params.classify
    for name in chosen.sets:
        there = params.classification.sets[name]
        module, settings = kinds.find(kinds.CLASSIFICATION, there.data, f"classification.sets.{name}.data")
        yield of_data(f"images@{name}", "images", module, settings, set=name, seed=there.seed)
        for row in chosen.rows:
            for seed in chosen.seeds:
                yield of_classifier(params, name, row, seed)


def of_profile(params: Params, profile: str) -> Iterator[Stage]:
    """The stages of the detector at one scale."""
    scale, chosen = params.sections[profile], params.run
    module, data = kinds.find(kinds.DETECTION, scale.data, f"{profile}.data")
    yield of_data(f"data@{profile}", "data", module, data, profile=profile)

    rows = {name: compose(params, profile, name, chosen.seeds[0]) for name in chosen.rows}
    augmenters = [job.augmenter or {} for job in rows.values()]
    groups = next((one["groups"] for one in augmenters if "groups" in one), {})
    for seed in chosen.seeds:
        yield of_job(f"warmup@{profile}-{seed}", "warmup", shared_warmup(params, profile, seed))
        notebook = "cluster" if scale.warmup else "no_groups"
        yield Stage(f"cluster@{profile}-{seed}", notebook, dict(profile=profile, seed=seed, groups=groups))
    model = Path(traits.CONFIGS, scale.configs or profile, f"{MODEL}.py")
    yield Stage(
        f"pretrain@{profile}",
        "pretrain",
        dict(
            profile=profile,
            model=str(model),
            config=scale.config,
            threads=scale.threads,
            pretrain=msgspec.to_builtins(scale.pretrain),
        ),
        files=tuple(closure.config_files(model)),
    )
    for name, job in rows.items():
        for seed in chosen.seeds:
            one = msgspec.structs.replace(job, seed=seed)
            yield of_job(f"train@{profile}-{one.name}", "train", one)
            resamples = scale.table.resamples
            yield of_job(f"evaluate@{profile}-{one.name}", "evaluate", one, resamples=resamples)
        yield of_job(f"cost@{profile}-{name}", "cost", job, cost=msgspec.to_builtins(scale.cost))
    for name, study in params.tuning.items():
        if study.profile == profile:
            yield from of_study(params, name)

    asked, known = params.classify.sets, params.classification.sets
    others = [name for name in known if name not in asked]  # told of where they have run
    trained = {
        name: dict(
            kind=kinds.named(kinds.CLASSIFICATION, one.data, f"classification.sets.{name}.data"),
            epochs=one.schedule.epochs,
            precision=one.precision,
            shots=one.shots,
            asked=name in asked,
        )
        for name, one in known.items()
    }
    classifiers = dict(sets=asked, others=others, rows=params.classify.rows, seeds=params.classify.seeds)
    settings = dict(profile=profile, rows=chosen.rows, seeds=chosen.seeds)
    settings["data"] = dict(kind=scale.data["kind"]) | msgspec.to_builtins(data)
    settings["classifiers"] = classifiers | dict(trained=trained)
    settings["studies"] = [name for name, study in params.tuning.items() if study.profile == profile]
    settings["jobs"] = {name: msgspec.to_builtins(job) for name, job in rows.items()}
    yield Stage(f"report@{profile}", "report", settings, tuple(fasa.methods().values()))


def of_study(params: Params, study: str) -> Iterator[Stage]:
    """The stages of a tuning study, and the one that says what its rule chooses."""
    notebook, those = f"choice_{study}", params.tuning[study]
    profile = those.profile
    if not numbered(notebook):
        raise UserError(
            f"params.yaml: tuning.{study}: there is no notebooks/*_{notebook}.ipynb with its rule"
        )
    for name in those.candidates:
        for seed in those.seeds:
            one = candidate(params, study, name, seed)
            modules, files = {*filter(None, [one.data and one.data["module"]])}, set()
            for job in filter(None, [*one.rows, one.warmup]):
                stage = of_job("", "candidate", job)
                modules.update(stage.modules)
                files.update(stage.files)
            settings = dict(profile=profile, study=study, name=name, seed=seed)
            settings["candidate"] = msgspec.to_builtins(one)
            where = f"candidate@{profile}-{study}-{name}-{seed}"
            yield Stage(where, "candidate", settings, tuple(modules), tuple(files))
    settings = dict(profile=profile, study=study, seeds=those.seeds, candidates=those.candidates)
    yield Stage(f"choice@{profile}-{study}", notebook, settings)


def of_data(name: str, notebook: str, module: ModuleType, settings: Section, **more: Any) -> Stage:
    """A stage that prepares a data set of some kind.

    Raises:
        UserError: what lies where it writes was made by no such stage: DVC would remove it.
    """
    folder = root() / "data" / name.partition("@")[2]
    mend = "move it to another folder, or give the profile or set another name"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"data/{folder.name}: is a file, which {name} would remove; {mend}")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    mark, own = (IMAGES, {IMAGES}) if notebook == "images" else (SOURCE, OWN)
    if foreign := there - (own if mark in there else set()):
        raise UserError(
            f"data/{folder.name}: holds {min(foreign)}, which no stage has made and {name} would remove; "
            + mend
        )
    what = dict(module=module.__name__, settings=msgspec.to_builtins(settings), **more)
    return Stage(name, notebook, what, (module.__name__,))


def of_job(name: str, notebook: str, job: Job, **more: Any) -> Stage:
    """A stage about one run of a detector."""
    folder = Path(traits.CONFIGS, job.configs)
    model = folder / f"{job.model}.py"
    if not folder.is_dir():
        raise UserError(f"params.yaml: configs is {job.configs!r}, but there is no folder {folder}")
    if not model.is_file():
        raise UserError(f"params.yaml: rows.{job.row}.model is {job.model!r}, but there is no {model}")
    modules, files = [], [*closure.config_files(model)]
    for trait in job.traits:
        modules += traits.load(trait).imports
        files.append(traits.FOLDER / f"{trait}.py")
    if job.optimizer.classifier:
        modules.append("fasa.detection.classifier_apart")
    if job.augmenter:
        modules.append(fasa.methods()[job.augmenter["type"]])
        if job.augmenter.get("phase"):
            modules.append("fasa.detection.phases")
    return Stage(name, notebook, dict(run=msgspec.to_builtins(job), **more), tuple(modules), tuple(files))


def of_classifier(params: Params, name: str, row: str, seed: int) -> Stage:
    """A stage about one run of a classifier."""
    job = compose_classifier(params, name, row, seed)
    augmenter = job.settings.augmenter
    modules = [fasa.methods()[augmenter["type"]]] if augmenter else []
    return Stage(
        f"classify@{name}-{row}-{seed}", "classify", dict(run=msgspec.to_builtins(job)), tuple(modules)
    )


def numbered(name: str) -> Path | None:
    """The file of a notebook, ``notebooks/05_train.ipynb`` of ``train``: numbers sort them for readers."""
    return next((path for path in sorted(SOURCES.glob("*.ipynb")) if NUMBER.sub("", path.stem) == name), None)


def content(stage: Stage) -> dict[str, Any]:
    """What the job file of a stage holds."""
    notebook = numbered(stage.notebook)
    sources, pins = uses(notebook, stage.modules, stage.files)
    head = dict(stage=stage.name, notebook=notebook.stem, settings=stage.settings)
    return head | dict(sources=sources, packages=pins)


@cache
def uses(
    notebook: Path, named: tuple[str, ...], configs: tuple[Path, ...]
) -> tuple[dict[str, str], dict[str, str]]:
    """The hashes of the files, and the pins, that a notebook stands on with some modules and configs.

    Stages that differ in their settings have the same: the seeds of a row, say.
    """
    roots = {*RUNNER, *named, *closure.imports(code(notebook))}
    for path in configs:
        roots |= closure.imports(path.read_text())
    modules, others = closure.closure(roots)
    files = [*map(closure.file_of, modules), *closure.data_files(modules), *configs]
    return closure.hashes(files) | closure.hashes([notebook]), closure.packages(others)


def code(notebook: Path) -> str:
    """The code cells that a stage runs of a notebook as one source, without IPython's magics."""
    cells = [cell for cell in strip.staged(strip.read(notebook))["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join("".join(cell["source"]) for cell in cells).split("\n")
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def write(params: Params) -> int:
    """Write ``build`` anew; returns the number of stages.

    Raises:
        UserError: before anything is touched.
    """
    planned = {stage.name: content(stage) for stage in stages(params)}
    for folder in (JOBS, NOTEBOOKS):
        shutil.rmtree(folder, ignore_errors=True)
    JOBS.mkdir(parents=True, exist_ok=True)
    for name, job in planned.items():  # cut short by a crash, they are not what DVC knows, and planned anew
        (JOBS / f"{name}.json").write_text(json.dumps(job, indent=1, ensure_ascii=False) + "\n")
    for profile in params.profiles:  # the report reads what studies have chosen; many profiles have none
        Path("results", profile, "choice").mkdir(parents=True, exist_ok=True)
    for notebook in sorted({job["notebook"] for job in planned.values()}):
        source = strip.staged(strip.read(SOURCES / f"{notebook}.ipynb"))
        strip.write(source, NOTEBOOKS / f"{notebook}.ipynb")
    return len(planned)


def why(stage: str, params: Params) -> list[str]:
    """What differs between what a stage last ran with and what it would run with now, in words.

    Raises:
        UserError: there is no such stage, or it has not run.
    """
    from fasa.pipeline.stage import recorded

    planned, name = {one.name: one for one in stages(params)}, stage.rpartition(":")[2]
    if name not in planned:
        raise UserError(f"there is no stage {stage!r} that runs a notebook; dvc stage list --all names them")
    found = []
    before = recorded(stage, found)
    if before is not None:
        now = json.loads(json.dumps(content(planned[name])))
        for name, old, new in differences(before, now):
            if name.startswith(("sources.", "packages.")):
                verb = "is new" if old is None else "is gone" if new is None else "was edited"
                verb = f"{old} -> {new}" if name.startswith("packages.") else verb
                found.append(f"{name.partition('.')[2]}: {verb}")
            else:
                found.append(f"{name}: {old!r} -> {new!r}")
    return found


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted path, old and new value wherever two nested dicts differ; None where there is none."""
    if isinstance(old, dict) and isinstance(new, dict):
        flat = path in ("sources", "packages")  # their keys hold dots
        for key in [*old, *(key for key in new if key not in old)]:
            if flat and old.get(key) != new.get(key):
                yield f"{path}.{key}", old.get(key), new.get(key)
            elif not flat:
                yield from differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif old != new:
        yield path, old, new


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Plan, or say what is planned or why a stage would run."""
    parser = argparse.ArgumentParser(
        prog="fasa plan", description="check params.yaml and write a job for every stage"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--dry", action="store_true", help="say what would be planned, and write nothing")
    only.add_argument("--why", metavar="STAGE", help="say what has changed since a stage last ran")
    only.add_argument("--profile", help="say what the stages of a profile will take; nothing is written")
    parser.add_argument("--gpus", type=int, help="of each run, with --profile (default: 1)")
    arguments = parser.parse_args(argv)
    if arguments.gpus is not None and arguments.profile is None:
        raise UserError("--gpus: it says of what --profile has; name a profile")
    gpus = 1 if arguments.gpus is None else arguments.gpus
    if gpus < 1:
        raise UserError("--gpus: it takes a whole number from 1")
    os.chdir(root())
    params = read_params(Path("params.yaml"))
    if arguments.profile is not None:
        if arguments.profile not in params.sections:
            known = ", ".join(params.sections)
            raise UserError(f"params.yaml: there is no profile {arguments.profile!r}; known: {known}")
        names = [stage.name for stage in of_profile(params, arguments.profile)]
        print(estimate.report(params, arguments.profile, names, gpus))
    elif arguments.why is not None:
        found = why(arguments.why, params)
        print("\n".join(found) if found else f"{arguments.why}: nothing that it depends on has changed")
    elif arguments.dry:
        planned = [content(stage)["stage"] for stage in stages(params)]
        for family, number in Counter(name.partition("@")[0] for name in planned).items():
            print(f"{family:15} {number:4}")
        print(f"{len(planned)} stages in all; nothing was written")
    else:
        print(f"{write(params)} stages planned")
    return 0


if __name__ == "__main__":
    sys.exit(main())
