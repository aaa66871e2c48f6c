"""Trains what an mmengine config says, on one process or on the ranks that a launcher has started.

    python -m fasa.detection.train CONFIG
    torchrun --nproc_per_node=8 -m fasa.detection.train CONFIG --out model.pth
    srun --ntasks-per-node=8 --gres=gpu:8 python -m fasa.detection.train CONFIG

A killed run goes on from the checkpoint that it wrote last, exactly with `fasa.detection.resume`'s hook.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config, DictAction

from fasa.detection.ranks import as_rank, for_ranks
from fasa.detection.training import save_history, save_model, train, trained
from fasa.errors import UserError
from fasa.files import check_replaceable


def positive(text: str) -> int:
    """A whole number from 1."""
    if (value := int(text)) < 1:
        raise ValueError
    return value


positive.__name__ = "whole number from 1"  # as argparse tells it


class Changes(DictAction):
    """mmengine's KEY=VALUE; what is none is told as other mistakes of a command line are."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Take them."""
        if wrong := [value for value in values if "=" not in value]:
            raise argparse.ArgumentError(self, f"{wrong[0]!r} is not KEY=VALUE")
        super().__call__(parser, namespace, values, option_string)


def read_config(path: Path) -> Config:
    """A config that can be trained from.

    Raises:
        UserError: it is not there, ends in an error, or lacks what a training needs.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such config")
    try:
        cfg = Config.fromfile(path)
    except UserError:
        raise
    except Exception as error:  # whatever its code does
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: {type(error).__name__}: {reason}; mend the config") from error
    if missing := [name for name in ("model", "train_dataloader", "train_cfg") if name not in cfg]:
        raise UserError(f"{path}: has no {missing[0]}; name a config of mmdet's kind, with its _base_")
    return cfg


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m fasa.detection.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("config", type=Path, help="an mmengine config")
    parser.add_argument("--branch-from", type=Path, help="a checkpoint whose weights to start from")
    parser.add_argument("--out", type=Path, help="where to write the trained model")
    parser.add_argument("--history", type=Path, help="where to write what augmenters did, as JSON")
    parser.add_argument("--batch", type=positive, help="images of an iteration, on all ranks together")
    parser.add_argument("--threads", type=positive, help="of each process; sums on a CPU depend on it")
    parser.add_argument("--cfg-options", nargs="+", action=Changes, default={}, help="as in mmdet's tools")
    given = parser.parse_args(arguments)
    with as_rank() as ranks:
        if given.threads:
            torch.set_num_threads(given.threads)
        for path in filter(None, [given.out, given.history]):
            check_replaceable(path)
        cfg = read_config(given.config)
        cfg.merge_from_dict(given.cfg_options)
        cfg.setdefault("work_dir", str(Path("work_dirs", given.config.stem)))
        runner = train(for_ranks(cfg, ranks, given.batch), given.branch_from)
        if given.out:
            classes = list(runner.train_dataloader.dataset.metainfo["classes"])
            save_model(trained(runner), classes, given.out)
        if given.history:
            save_history(runner, given.history)


if __name__ == "__main__":
    main()
