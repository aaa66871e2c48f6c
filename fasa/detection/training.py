"""From an mmengine config to a trained model."""

import io
import json
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from fasa.augmenter import Augmenter
from fasa.class_stats import all_reduce_sum
from fasa.detection.adaptation import AdaptationHook
from fasa.detection.ranks import agreed
from fasa.detection.resume import AUGMENTER, ExactResumeHook, check_model, latest, read_checkpoint
from fasa.detection.two_stage import unwrap
from fasa.errors import UserError
from fasa.files import replacing


class Branch(Hook):
    """Starts a run from a checkpoint's weights, once mmengine has initialised the model.

    Of augmenters, what both have is taken, whatever their methods. `AdaptationHook` then initialises them:
    that keeps what was learnt, parameters and class statistics, and sets the rest, FASA's probabilities above
    all, to what the config says.
    """

    priority = "VERY_HIGH"

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint

    def before_train(self, runner: Runner) -> None:
        """Load, unless this run is resumed."""
        if runner.iter > 0:
            return
        model = unwrap(runner.model)
        mine = model.state_dict()
        kept = {
            key: value
            for key, value in read_checkpoint(self.checkpoint)["state_dict"].items()
            if AUGMENTER not in key or key in mine and mine[key].shape == value.shape
        }
        check_model(model, kept, self.checkpoint)
        model.load_state_dict(kept, strict=False)


def start_from(cfg: Config, checkpoint: str | Path) -> None:
    """Let the backbone of a config start from a checkpoint of `save_model`, of nothing but a ``backbone``.

    Args:
        cfg: with `classes.names`, see `fasa.detection.experiment.model_config`.

    Raises:
        UserError: there is none, it has learnt classes that the detector is to learn, or it is of another
            backbone, which mmengine would only remark upon.
    """
    prefix, found = "backbone.", read_checkpoint(checkpoint)
    if both := {*found["meta"]["dataset_meta"]["classes"]} & {*cfg.classes["names"]}:
        raise UserError(
            f"{checkpoint}: has learnt {min(both)} and {len(both) - 1} more of the data's classes already; "
            "pretrain on these data anew"
        )
    state = {name.removeprefix(prefix): value for name, value in found["state_dict"].items()}
    init_default_scope("mmdet")
    check_model(MODELS.build(cfg.model.backbone), state, checkpoint)
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(checkpoint), prefix=prefix)


def train(cfg: Config, branch_from: Path | None = None) -> Runner:
    """Train as `cfg` says, taking up a killed run of the same work directory.

    Args:
        branch_from: a checkpoint to start from, see `Branch`.
    """
    if last := agreed(latest(cfg.work_dir)):
        cfg.merge_from_dict(dict(resume=True, load_from=str(last)))
    runner = Runner.from_cfg(cfg)
    if last and not any(isinstance(hook, ExactResumeHook) for hook in runner.hooks):
        read_checkpoint(last)  # which that hook does; mmengine says in many lines that it cannot read its own
    if branch_from:
        runner.register_hook(Branch(branch_from), priority=Branch.priority)
    runner.train()
    return runner


def trained(runner: Runner) -> nn.Module:
    """The model of a run as it is validated: where mmengine's EMAHook averages the weights, that mean."""
    means = [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
    return means[0] if means else unwrap(runner.model)


def save_model(model: nn.Module, classes: list[str], path: Path) -> None:
    """Write a checkpoint of plain data that `mmdet.apis.init_detector` and a stock model read.

    The bytes depend on the weights alone. Of several ranks the first one writes, and all wait for it.
    """
    if is_main_process():
        checkpoint = dict(
            state_dict=unwrap(model).state_dict(), meta=dict(dataset_meta=dict(classes=classes))
        )
        # Through a buffer: given a path, torch.save writes the file's name into the archive.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with replacing(path) as file:
            file.write(buffer.getvalue())
    barrier()


def save_history(runner: Runner, path: Path) -> None:
    """Write what augmenters did in a run, as JSON; to be called on all ranks.

    That is iterations; drawn, the virtual samples of each class, of all heads and ranks together; passes,
    what `AdaptationHook` recorded. The latter two are empty without an augmenter.
    """
    passes = next((hook.history for hook in runner.hooks if isinstance(hook, AdaptationHook)), [])
    drawn = [part.drawn for part in unwrap(runner.model).modules() if isinstance(part, Augmenter)]
    drawn = all_reduce_sum(torch.stack(drawn).sum(0)).tolist() if drawn else []
    if is_main_process():
        with replacing(path, "w") as file:
            json.dump(dict(iterations=runner.iter, drawn=drawn, passes=passes), file)
