"""The other evaluators, each as its users call it: from the files to the numbers, in a process of its own.

    python benchmarks/evaluation/contenders.py NAME GT.json DT.json {bbox,segm} OUT.json

NAME is one of CONTENDERS. Writes what `python -m fasa.evaluation` writes:
{"bbox": {"old": {"AP": ...}}}, in percent.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np


def lvis_old(gt: str, dt: str, iou_type: str) -> dict[str, float | None]:
    """lvis-api, the best 300 detections of an image."""
    from lvis import LVISEval

    return _lvis(LVISEval(gt, dt, iou_type))


def lvis_fixed(gt: str, dt: str, iou_type: str) -> dict[str, float | None]:
    """lvis-api, the best 10,000 detections of a class."""
    from lvis import LVIS, LVISEval, LVISResults

    by_class = defaultdict(list)
    for row in json.loads(Path(dt).read_bytes()):
        by_class[row["category_id"]].append(row)
    best = [row for rows in by_class.values() for row in sorted(rows, key=lambda row: -row["score"])[:10_000]]
    gt = LVIS(gt)
    return _lvis(LVISEval(gt, LVISResults(gt, best, max_dets=-1), iou_type))


def hotcoco(gt: str, dt: str, iou_type: str) -> dict[str, float | None]:
    """hotcoco as LVIS's evaluator, the best 300 detections of an image."""
    from hotcoco import LVIS, LVISEval, LVISResults

    gt = LVIS(gt)
    evaluation = LVISEval(gt, LVISResults(gt, dt), iou_type)
    evaluation.run()
    return _percent(evaluation.get_results())


def faster_coco_eval(gt: str, dt: str, iou_type: str) -> dict[str, float | None]:
    """faster-coco-eval in LVIS's style, the best 300 detections of an image."""
    from faster_coco_eval import COCO, COCOeval_faster

    gt = COCO(gt)
    options = dict(lvis_style=True, print_function=lambda *_: None)
    evaluation = COCOeval_faster(gt, gt.loadRes(dt), iou_type, **options)
    evaluation.params.maxDets = [300]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    names = dict(AP_all="AP", AP_50="AP50", AP_75="AP75", AP_small="APs", AP_medium="APm", AP_large="APl")
    names |= dict(
        AR_all="AR", AR_small="ARs", AR_medium="ARm", AR_large="ARl", APr="APr", APc="APc", APf="APf"
    )
    return _percent({name: evaluation.stats_as_dict[theirs] for theirs, name in names.items()})


def tidecv(gt: str, dt: str, iou_type: str) -> dict[str, float]:
    """TIDE as published, at IoU 0.5."""
    from tidecv import TIDE, datasets

    tide = TIDE(mode=TIDE.BOX if iou_type == "bbox" else TIDE.MASK)
    run = tide.evaluate(datasets.LVIS(gt), datasets.LVISResult(dt))
    (errors,) = tide.get_main_errors().values()
    return {"AP50": run.ap, **errors}


def _lvis(evaluation) -> dict[str, float | None]:
    np.float = float  # lvis 0.5.3 was written for NumPy < 1.24
    evaluation.run()
    return _percent(evaluation.get_results())


def _percent(results: dict[str, float]) -> dict[str, float | None]:
    """From fractions, of which -1 means that there was nothing to measure."""
    return {
        name.removesuffix("@300"): 100 * float(value) if value >= 0 else None
        for name, value in results.items()
    }


CONTENDERS = {  # with the protocol that each computes
    "lvis": (lvis_old, "old"),
    "lvis-fixed": (lvis_fixed, "fixed"),
    "hotcoco": (hotcoco, "old"),
    "faster-coco-eval": (faster_coco_eval, "old"),
    "tidecv": (tidecv, "tide"),
}

if __name__ == "__main__":
    name, gt, dt, iou_type, out = sys.argv[1:]
    function, protocol = CONTENDERS[name]
    Path(out).write_text(json.dumps({iou_type: {protocol: function(gt, dt, iou_type)}}))
