"""How figures look and are saved: sizes, fonts, and one colour for one thing in all of them.

Colour-blind readers too tell each from those that it stands beside: Okabe and Ito's colours for frequency
groups and for what a detection is; light and dark, grey and purple, for rows without and with FASA.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from fasa.errors import UserError
from fasa.files import replacing

COLOUR = dict(
    r="#D55E00",  # rare
    c="#00855F",  # common; a little darker than Okabe and Ito's, for eyes without blue cones
    f="#56B4E9",  # frequent
    all="#000000",  # classes of all three
    truth="#000000",
    right="#0072B2",  # a detection that is
    wrong="#E69F00",
)
MARKER = dict(r="D", c="s", f="o")
ROWS = {  # by whether images are repeated (RFS), and whether features are augmented by FASA
    (False, False): "#949494",
    (False, True): "#8B2FC9",
    (True, False): "#505050",
    (True, True): "#3D0A5C",
}
# Of class groups (Tol's muted), each told apart by its marker too: 7 colours and 6 markers make 42.
GROUP_COLOURS = ("#332288", "#DDCC77", "#44AA99", "#CC6677", "#88CCEE", "#999933", "#AA4499")
GROUP_MARKERS = ("o", "s", "^", "D", "v", "p")
METADATA = dict(png=dict(Software=None), svg=dict(Date=None))


def row_colour(row: str) -> str:
    """The colour of a row: grey without FASA, purple with it, each darker with repeat factor sampling."""
    traits = row.split("_")
    return ROWS["rfs" in traits, "fasa" in traits]


def use() -> None:
    """Set matplotlib's style, and nothing of the user's own settings."""
    mpl.rcdefaults()
    mpl.rcParams.update(
        {
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.labelsize": 12,
            "axes.prop_cycle": mpl.cycler(color=GROUP_COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 12,
            "figure.constrained_layout.use": True,
            "figure.figsize": (7.0, 4.2),
            "figure.titlesize": 13,
            "figure.titleweight": "bold",
            "font.size": 11,
            "grid.alpha": 0.3,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "legend.title_fontsize": 10,
            "savefig.dpi": 150,
        }
    )


def save(figure: Figure, path: str | Path, kinds: Sequence[str] = ("png", "svg")) -> None:
    """Save a figure, ``results/main/counts`` as ``counts.png`` and ``counts.svg``.

    The same figure gives the same bytes: no date, no random ids. Its title is that of the file too.

    Raises:
        UserError: the path has a suffix of its own, or a kind is neither png nor svg.
    """
    path, title = Path(path), " ".join(figure.get_suptitle().split())
    if path.suffix or not set(kinds) <= set(METADATA):
        raise UserError(f"{path}: figures are saved as {' and '.join(METADATA)}, under a name without suffix")
    for kind in kinds:
        metadata = METADATA[kind] | (dict(Title=title) if title else {})
        with mpl.rc_context({"svg.hashsalt": "fasa"}), replacing(path.with_suffix(f".{kind}")) as file:
            figure.savefig(file, format=kind, metadata=metadata)
