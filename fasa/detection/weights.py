"""What a backbone starts from: ImageNet's public weights, or a file of one's own."""

from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from fasa.data.fetching import fetch
from fasa.detection.resume import read_plain
from fasa.errors import UserError

IMAGENET = "imagenet"
FOLDER = Path("data")
HOST = "https://download.pytorch.org/models"
PUBLIC = {  # depth of a ResNet: file and sha256, of which the file's name has the beginning
    50: ("resnet50-0676ba61.pth", "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
    101: ("resnet101-63fe2227.pth", "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a"),
}


def initial_weights(weights: str | None, backbone: dict[str, Any]) -> dict[str, str] | None:
    """mmengine's `init_cfg` of a backbone, its file checked, and fetched where it is public and not there.

    mmengine would pass over in silence what a file lacks.

    Args:
        weights: "imagenet", torchvision's first weights of a ResNet-50 or 101; or a file with a state dict,
            in whose name ``{depth}`` stands for the ResNet's; None: as the config says, or random.
        backbone: of a config.

    Raises:
        UserError: no such file, or one of another network; or random weights that the config would freeze.
    """
    depth = backbone.get("depth")
    if weights is None and backbone.get("init_cfg"):
        return backbone["init_cfg"]
    if weights is None:
        if backbone.get("frozen_stages", -1) >= 0:
            raise UserError(
                "params.yaml: weights is null, and the config keeps the first layers as they are; name "
                "weights, or set config.model.backbone to {frozen_stages: -1, norm_eval: false}"
            )
        return None
    if weights != IMAGENET:
        path = Path(weights.replace("{depth}", str(depth)))
    elif depth in PUBLIC:
        name, sha256 = PUBLIC[depth]
        path = fetch(f"{HOST}/{name}", FOLDER / name, f"sha256:{sha256}")
    else:
        known = " and ".join(f"ResNet-{one}" for one in PUBLIC)
        raise UserError(f"params.yaml: weights: there are public ones of {known}, none of depth {depth}")
    check_backbone(backbone, path)
    return dict(type="Pretrained", checkpoint=str(path))


def check_backbone(backbone: dict[str, Any], path: Path) -> None:
    """Refuse a file that lacks a layer of a backbone; mmdet's names of layers are torchvision's.

    Raises:
        UserError: names the first layer that is missing or of another shape.
    """
    state = read_plain(path)
    state = state.get("state_dict", state)
    init_default_scope("mmdet")
    with torch.device("meta"):
        mine = MODELS.build(dict(backbone, init_cfg=None)).state_dict()
    for name, value in mine.items():
        if name.endswith("num_batches_tracked"):
            continue
        shape = getattr(state.get(name), "shape", None)
        if shape != value.shape:
            found = "has none" if shape is None else f"has {tuple(shape)}"
            raise UserError(
                f"{path}: holds weights of another network: {name} is {tuple(value.shape)} in a ResNet-"
                f"{backbone.get('depth')}, and the file {found}"
            )
