import numpy as np
import pytest
from pycocotools import mask as mask_utils

from fasa.evaluation import native

SIDE = 24  # of every image, times its scale


@pytest.fixture(scope="session")
def make_federated():
    """A maker of random LVIS data with all that the rules are about; integer boxes, so that IoUs tie.

    `scale` multiplies all lengths: 14 spreads the objects over the area ranges.
    """

    def make(seed, n_images=4, n_classes=5, most_detections=40, tied_scores=True, scale=1):
        side = SIDE * scale
        rng = np.random.default_rng(seed)
        image_ids = (rng.permutation(n_images) + 3).tolist()
        category_ids = (rng.permutation(n_classes) * 2 + 1).tolist()

        def shape(box, hollow):
            x, y, w, h = box
            mask = np.zeros((side, side), np.uint8, order="F")
            mask[y : y + h, x : x + w] = 1
            if hollow:
                mask[y + 1 : y + h - 1, x + 1 : x + w - 1] = 0
            return mask_utils.encode(mask)

        def some_box():
            x, y = rng.integers(0, SIDE - 8, 2).tolist()
            w, h = rng.integers(0 if rng.random() < 0.1 else 1, 9, 2).tolist()
            return [scale * value for value in (x, y, w, h)]

        images, annotations, detections = [], [], []
        for image_id in image_ids:
            present = [c for c in category_ids if rng.random() < 0.4]
            absent = [c for c in category_ids if c not in present and rng.random() < 0.6]
            images.append(
                {
                    "id": image_id,
                    "height": side,
                    "width": side,
                    "neg_category_ids": absent,
                    "not_exhaustive_category_ids": [c for c in category_ids if rng.random() < 0.3],
                }
            )
            here = []
            for category_id in present:
                for _ in range(rng.integers(1, 5)):
                    box = some_box()
                    rle = shape(box, hollow=rng.random() < 0.3)
                    here.append(
                        {
                            "id": len(annotations) + len(here) + 1,
                            "image_id": image_id,
                            "category_id": category_id,
                            "bbox": box,
                            "area": float(mask_utils.area(rle)),
                            "ignore": int(rng.random() < 0.1),
                            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                        }
                    )
            annotations += here
            n_detections = rng.integers(0, most_detections + 1)
            places = rng.permutation(n_detections)
            for place in places:
                box, category_id = some_box(), rng.choice(category_ids).item()
                if here and rng.random() < 0.7:  # close to an object, mostly of its class
                    target = rng.choice(here)
                    x, y, w, h = np.add(
                        target["bbox"], rng.integers(-1, 2, 4) * (rng.random(4) < 0.3)
                    ).tolist()
                    box = [max(x, 0), max(y, 0), max(w, 0), max(h, 0)]
                    category_id = target["category_id"] if rng.random() < 0.8 else category_id
                detections.append(
                    {
                        "image_id": image_id,
                        "category_id": category_id,
                        "score": float(
                            rng.integers(1, 6) / 5 if tied_scores else (place + 1) / (n_detections + 1)
                        ),
                        "bbox": box,
                        "segmentation": shape(box, hollow=rng.random() < 0.3),
                    }
                )
        order = rng.permutation(len(detections))
        frequency = rng.choice(list("rcf"), n_classes)
        categories = [{"id": c, "frequency": str(f)} for c, f in zip(category_ids, frequency, strict=True)]
        gt = {"images": images, "categories": categories, "annotations": annotations}
        return gt, [detections[i] for i in order]

    return make


@pytest.fixture(scope="module", params=["core", "numpy"])
def path(request):
    """Both ways through the evaluator: the compiled core and NumPy."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(native, "core", None)
        yield request.param
