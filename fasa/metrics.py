"""The few metrics of a run that a line of a terminal has room for."""

# Shown as, and its name among all. DVC sorts by what is shown: hence the underscore, which comes before c.
HEADLINE = {
    "AP": "segm_AP",
    "AP_r": "segm_APr",
    "APc": "segm_APc",
    "APf": "segm_APf",
    "box": "bbox_AP",
    "box_r": "bbox_APr",
}


def headline(metrics: dict[str, float]) -> dict[str, float]:
    """Those of a run that are among them, rounded as tables are; of masks where nothing else is said.

    Example:
        >>> headline(dict(segm_APr=3.456, segm_AR=30.0, segm_AP=23.456))
        {'AP': 23.5, 'AP_r': 3.5}
    """
    return {shown: round(metrics[name], 1) for shown, name in HEADLINE.items() if name in metrics}
