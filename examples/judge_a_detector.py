"""Judges the detections of any detector on LVIS, whatever it was written with.

    python examples/judge_a_detector.py lvis_v1_val.json results.json

`results.json` is in LVIS's results format: a list of image_id, category_id, score and segmentation.
"""

import sys

from fasa.errors import UserError
from fasa.evaluation import FIXED, OLD, POOL, evaluate, tide


def main(annotations: str, results: str) -> None:
    """Print AP under three protocols, and where AP50 was lost."""
    for protocol in (OLD, FIXED, POOL):
        summary = evaluate(annotations, results, protocol=protocol).summary
        print(f"AP_{protocol.name}:", {name: round(value, 1) for name, value in summary.items()})
    print("lost AP50:", {name: round(value, 1) for name, value in tide(annotations, results).main.items()})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
