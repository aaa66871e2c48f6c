"""FASA: feature augmentation and sampling adaptation for long-tailed recognition.

The algorithm is plain PyTorch; ``fasa.detection`` plugs it into mmdet.
"""

from fasa.algorithm import FASA
from fasa.augmenter import Augmenter, Virtual, virtual_loss
from fasa.class_stats import ClassMoments

__version__ = "0.1.0"
__all__ = ["FASA", "Augmenter", "ClassMoments", "Virtual", "virtual_loss"]
