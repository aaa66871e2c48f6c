"""Trains what an mmengine config says, on one process or on the ranks that a launcher has started.

    python -m fasa.detection.train CONFIG
    torchrun --nproc_per_node=8 -m fasa.detection.train CONFIG --out model.pth
    srun --ntasks-per-node=8 --gres=gpu:8 python -m fasa.detection.train CONFIG

A killed run goes on from the checkpoint that it wrote last, exactly with `fasa.detection.resume`'s hook.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config, DictAction

from fasa.detection.ranks import as_rank, for_ranks
from fasa.detection.training import save_history, save_model, train, trained
from fasa.errors import UserError


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m fasa.detection.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("config", type=Path, help="an mmengine config")
    parser.add_argument("--branch-from", type=Path, help="a checkpoint whose weights to start from")
    parser.add_argument("--out", type=Path, help="where to write the trained model")
    parser.add_argument("--history", type=Path, help="where to write what augmenters did, as JSON")
    parser.add_argument("--batch", type=int, help="images of an iteration, on all ranks together")
    parser.add_argument("--threads", type=int, help="of each process; sums on a CPU depend on it")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="as in mmdet's tools")
    given = parser.parse_args(arguments)
    with as_rank() as ranks:
        if given.threads:
            torch.set_num_threads(given.threads)
        if not given.config.is_file():
            raise UserError(f"{given.config}: no such config")
        cfg = Config.fromfile(given.config)
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
