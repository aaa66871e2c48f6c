"""The few metrics of a row that a terminal has room for."""

HEADLINE = (
    *(f"{kind}_{metric}" for kind in ("segm", "bbox") for metric in ("AP", "APr", "APc", "APf")),
    "fasa_adaptations",
    "fasa_groups",
    "virtual_per_iteration",
)


def headline(metrics: dict[str, float]) -> dict[str, float]:
    """Those of a row that are among them, rounded as they are read.

    Example:
        >>> headline(dict(segm_AP=23.456, segm_AR=30.0))
        {'segm_AP': 23.46}
    """
    return {name: round(metrics[name], 2) for name in HEADLINE if name in metrics}
