"""mmcv's NMS and RoIAlign without the rest of mmcv's ops, for a machine where mmcv comes without any.

    python -m benchmarks.gpu.mmcv_ops path/to/mmcv-2.1.0.tar.gz .whl    # cross-builds .whl/mmcv_ops.so

mmcv has 58 files of CUDA, and Mask and Cascade R-CNN run kernels of two. The sources are mmcv's own, unpacked
from its source distribution; mmcv_ops.cpp declares them. `install` puts the built module where mmcv looks for
its ops; any other op is there by name only, and says so when it is called.
"""

import argparse
import importlib.machinery
import importlib.util
import os
import shutil
import sys
import tarfile
from pathlib import Path
from types import ModuleType

NAME = "mmcv_ops"
CSRC = "mmcv/ops/csrc/"
SOURCES = ("pytorch/nms.cpp", "pytorch/roi_align.cpp", "pytorch/cpu/nms.cpp", "pytorch/cpu/roi_align.cpp")
KERNELS = ("pytorch/cuda/nms_cuda.cu", "pytorch/cuda/roi_align_cuda.cu")
HEADERS = (
    "common/pytorch_cpp_helper.hpp",
    "common/pytorch_cuda_helper.hpp",
    "common/pytorch_device_registry.hpp",
    "common/cuda/common_cuda_helper.hpp",
    "common/cuda/nms_cuda_kernel.cuh",
    "common/cuda/roi_align_cuda_kernel.cuh",
)


def flat(path: str) -> str:
    """The name of a source in one folder: nms.cpp is there twice."""
    folder, _, name = path.rpartition("/")
    return f"cpu_{name}" if folder.endswith("/cpu") else name


def unpack(sdist: Path, folder: Path) -> None:
    """The few sources, from mmcv's source distribution into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(sdist, "r:gz") as archive:
        for member in archive:
            inside = member.name.partition(CSRC)[2]
            if inside in SOURCES + KERNELS + HEADERS:
                (folder / flat(inside)).write_bytes(archive.extractfile(member).read())


def build(sources: Path, folder: Path, cuda: bool) -> Path:
    """Compile what `unpack` left in `sources`: `folder`/mmcv_ops.so.

    Args:
        cuda: with kernels, for TORCH_CUDA_ARCH_LIST, or for the GPUs that are there.
    """
    from torch.utils.cpp_extension import load

    work = folder / f"{NAME}.build"
    work.mkdir(parents=True, exist_ok=True)
    flags = ["-O2", "-g0", "-w", *(["-DMMCV_WITH_CUDA"] if cuda else [])]
    files = [Path(__file__).with_suffix(".cpp"), *(sources / flat(path) for path in SOURCES + KERNELS * cuda)]
    load(
        name=NAME,
        sources=list(map(str, files)),
        extra_include_paths=[str(sources)],
        extra_cflags=flags,
        extra_cuda_cflags=["-DMMCV_WITH_CUDA", *_wheels()],
        build_directory=str(work),
        with_cuda=cuda,
        is_python_module=False,
    )
    shutil.copy(work / f"{NAME}.so", folder)
    return folder / f"{NAME}.so"


def _wheels() -> list[str]:
    """Where the headers lie that torch's own requirements brought; a bare nvcc comes without cuSPARSE's."""
    places = [Path(place, "nvidia/cu13/include") for place in sys.path]
    return [f"-Xcompiler=-idirafter,{place}" for place in places if place.is_dir()]


class Partial(ModuleType):
    """Stands for `mmcv._ext`: an op that was not built raises when it is called."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def absent(*args, **kwargs):
            raise NotImplementedError(f"mmcv's {name} was not built")

        return absent


def install(folder: Path, cuda: bool) -> str:
    """Give mmcv the ops unless it has its own: `folder`/mmcv_ops.so, or built now if that does not load.

    Args:
        folder: with mmcv_ops.so, or with mmcv_ops/, the sources that `unpack` left.

    Returns:
        What was done, in words.
    """
    spec = importlib.util.find_spec("mmcv")
    for place in spec.submodule_search_locations:
        if own := next(Path(place).glob("_ext*.so"), None):
            return f"mmcv's own, {own.name}"
    try:
        ops, how = _load(folder / f"{NAME}.so", cuda), "built beforehand"
    except (ImportError, OSError, RuntimeError) as error:
        print(f"{folder / NAME}.so: {error}; building it here", file=sys.stderr, flush=True)
        ops, how = _load(build(folder / NAME, Path("/tmp"), cuda), cuda), f"built here, for {error}"
    partial = Partial("mmcv._ext")
    partial.__dict__.update({name: getattr(ops, name) for name in dir(ops) if not name.startswith("__")})
    partial.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
    sys.modules["mmcv._ext"] = partial
    return how


def _load(path: Path, cuda: bool) -> ModuleType:
    import torch

    loader = importlib.machinery.ExtensionFileLoader(NAME, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(NAME, loader))
    loader.exec_module(module)
    if cuda:  # the kernels may be of another architecture
        boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0]] * 2, device="cuda")
        kept = module.nms(boxes, torch.tensor([0.5, 0.9], device="cuda"), 0.5, 0)
        if kept.tolist() != [1]:
            raise RuntimeError(f"NMS on the GPU kept {kept.tolist()}, not [1]")
    return module


def main() -> None:
    """Unpacks the sources and cross-builds them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sdist", type=Path, help="mmcv's source distribution")
    parser.add_argument("folder", type=Path, help="where the sources and mmcv_ops.so go")
    arguments = parser.parse_args()
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "9.0")  # H100, H200
    unpack(arguments.sdist, arguments.folder / NAME)
    print(build(arguments.folder / NAME, arguments.folder, cuda=True))


if __name__ == "__main__":
    main()
