"""Fragments of configs: what a row changes beside its augmenter, a file of ``configs/traits`` each."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from fasa.errors import UserError

PACKAGED = Path(__file__).with_name("configs")  # by a wheel
CONFIGS = PACKAGED if PACKAGED.is_dir() else Path("configs")  # of the checkout that this runs in
FOLDER = CONFIGS / "traits"


def exists(name: str) -> bool:
    """Whether there is a fragment of that name."""
    return (FOLDER / f"{name}.py").is_file()


def load(name: str) -> ModuleType:
    """A fragment of a config.

    It has ``Settings``, a `fasa.sections.Section` of its numbers; ``warmup``, whether the warm-up has it too,
    as a change of the network must; ``imports``, modules that register what it names; ``scores = True`` if
    class scores are then of its own kind; and ``apply(cfg, classes, settings)``, which changes an mmengine
    config for these `fasa.detection.experiment.Classes`.

    Raises:
        UserError: there is none of that name.
    """
    path = FOLDER / f"{name}.py"
    if not path.is_file():
        raise UserError(f"there is no {path}, and no augmenter of that name in the profile's traits")
    spec = importlib.util.spec_from_file_location(f"configs.traits.{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def box_heads(cfg: Any) -> list[dict]:
    """The box heads in a config, one for each stage of a cascade."""
    return listed(cfg.model.roi_head.bbox_head)


def listed(heads: dict | list[dict]) -> list[dict]:
    """One head or the heads of a cascade, as a list."""
    return heads if isinstance(heads, list) else [heads]


def innermost(dataset: dict) -> dict:
    """The config of a data set inside its wrappers."""
    while "dataset" in dataset:
        dataset = dataset.dataset
    return dataset
