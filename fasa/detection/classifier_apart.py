"""The layer that makes class scores is optimised in a way of its own."""

from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn
from torch.optim import Optimizer

from fasa.detection.two_stage import box_heads
from fasa.errors import UserError


class Together(Optimizer):
    """Optimizers of different parameters as one, with the groups and the state of all.

    So schedulers scale every rate, gradients are clipped by their common norm, and a checkpoint holds all;
    mmengine's `OptimWrapperDict` does none of it in a loop by iterations.
    """

    def __init__(self, *parts: Optimizer):
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.defaults = parts[0].defaults  # whose rate mmengine follows as the base of all
        self._share()

    def _share(self) -> None:
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    def __setstate__(self, state: dict) -> None:
        """Called with what a checkpoint holds."""
        super().__setstate__(state)
        self._share()

    def step(self, closure: None = None) -> None:
        """Move all parameters."""
        for part in self.parts:
            part.step()


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class ClassifierApart:
    """Builds mmengine's wrapper of a detector's optimizer with another one for the `fc_cls` of its box heads.

    Example, in a config:
        optim_wrapper = dict(
            constructor="ClassifierApart",
            optimizer=dict(type="AdamW", lr=1e-3, classifier=dict(type="SGD", lr=0.02, momentum=0.9)),
        )

    Raises:
        UserError: it is given a `paramwise_cfg`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        if paramwise_cfg:
            raise UserError("optim_wrapper: ClassifierApart takes no paramwise_cfg; leave one of them out")
        self.wrapper = dict(type="OptimWrapper") | dict(optim_wrapper_cfg)
        self.rest = dict(self.wrapper.pop("optimizer"))
        self.classifier = dict(self.rest.pop("classifier"))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Of this model."""
        classifiers = [one for head in box_heads(model) for one in head.fc_cls.parameters()]
        apart = set(classifiers)
        rest = [one for one in model.parameters() if one not in apart]
        parts = ((self.rest, rest), (self.classifier, classifiers))
        optimizer = Together(*(OPTIMIZERS.build(how | dict(params=what)) for how, what in parts))
        return OPTIM_WRAPPERS.build(self.wrapper | dict(optimizer=optimizer))
