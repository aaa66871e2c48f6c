"""Prepared data as mmdet takes it: LVIS's, without parsing an annotation file."""

from collections.abc import Sequence
from os.path import join

import numpy as np
from mmdet.datasets import LVISV1Dataset
from mmdet.registry import DATASETS

from fasa.data.compact import open_compact


@DATASETS.register_module()
class PreparedDataset(LVISV1Dataset):
    """What `LVISV1Dataset` makes of a prepared annotation file, image by image, from its compact form.

    See `fasa.data.compact`. Arguments are those of `LVISV1Dataset`, but for `serialize_data`.
    """

    def full_init(self) -> None:
        """Open the annotations, and choose the images that `filter_cfg` leaves."""
        if self._fully_initialized:
            return
        self.compact = open_compact(self.ann_file, thorough=False)
        self.cat_ids = self.compact.category_ids.tolist()
        self.cat2label = {cat_id: i for i, cat_id in enumerate(self.cat_ids)}
        rules = {} if self.test_mode else self.filter_cfg or {}
        keep = self.compact.least_side >= rules.get("min_size", 0)
        if rules.get("filter_empty_gt"):
            keep &= self.compact.annotated
        self.images = np.flatnonzero(keep)
        self._fully_initialized = True
        if self._indices is not None:
            self.get_subset_(self._indices)

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Keep some images alone: the first ones, the last -indices, or these."""
        self.full_init()
        if isinstance(indices, int):
            indices = slice(indices) if indices >= 0 else slice(indices, None)
        self.images = self.images[indices]

    def __len__(self) -> int:
        self.full_init()
        return len(self.images)

    def get_data_info(self, idx: int) -> dict:
        """An image's annotations, as mmdet's data sets give them."""
        self.full_init()
        info = self.compact.image(self.images[idx])
        path = join(self.data_prefix["img"], info.pop("file_name"))
        return dict(img_path=path, seg_map_path=None, sample_idx=idx % len(self)) | info

    def get_cat_ids(self, idx: int) -> list[int]:
        """The labels of an image's objects."""
        self.full_init()
        return self.compact.labels_of(self.images[idx])
