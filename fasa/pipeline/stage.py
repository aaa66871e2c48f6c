"""What a DVC stage declares: its parameters, and the state of the files it depends on."""

from typing import Any, NamedTuple

from fasa.errors import UserError
from fasa.pipeline.project import lift, load_params


class Inputs(NamedTuple):
    """All that a stage's result may depend on, as it is now."""

    files: dict[str, str]  # path -> hash of the content
    params: dict[str, Any]  # dotted key in params.yaml -> value


def read_inputs(stage: str) -> Inputs:
    """The declared inputs of a stage, addressed as DVC does (``train@mask_rcnn``, its ``DVC_STAGE``).

    DVC resolves them itself, so templates, ``foreach`` and ``matrix`` mean what they mean to ``dvc repro``.
    """
    # here, not above: half a second that a notebook run by hand does not need
    from dvc.dependency import ParamsDependency
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    inputs = Inputs({}, {})
    try:
        # dvc gives its lock up while a stage runs; another one beside it may be writing dvc.lock right now.
        with Repo(_wait_for_lock=True) as repo, repo.lock:
            for dep in repo.stage.collect(stage)[0].deps:
                if isinstance(dep, ParamsDependency):
                    inputs.params.update(dep.get_hash().value)
                else:
                    inputs.files[dep.def_path] = dep.get_hash().value
    except (DvcException, FileNotFoundError) as error:
        raise UserError(f"stage {stage}: {error}") from None
    return inputs


def changes(before: Inputs, after: Inputs) -> list[str]:
    """The names of the files and parameters that differ."""
    return [
        name
        for old, new in zip(before, after, strict=True)
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def variables(declared: dict[str, Any]) -> dict[str, Any]:
    """The declared parameters as a notebook's variables, the active profile's section lifted to the top.

    ``{"seeds": s, "embedded.data": d, "embedded.rows.mask_rcnn": r}`` becomes
    ``{"seeds": s, "data": d, "rows": {"mask_rcnn": r}, "profile": "embedded"}``.
    """
    tree: dict[str, Any] = {}
    for key, value in sorted(declared.items()):
        *parents, leaf = key.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    profile = load_params()["profile"]
    return lift(tree, profile) | {"profile": profile}
