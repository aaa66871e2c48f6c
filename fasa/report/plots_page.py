"""The frame of the page of ``dvc plots show``: ``python -m fasa.report.plots_page FILE``, which set-up does.

DVC's own loads Vega from the network and lets figures run out of the window. This one has Vega inside, and
scales them.
"""

import sys
from pathlib import Path

from fasa.files import replacing

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Plots</title>
{refresh_tag}
<style>
body { font-family: sans-serif; margin: 1em }
body > div { margin-bottom: 1em; overflow-x: auto !important; white-space: normal !important }
body > div > div { max-width: calc(100% - 12px); box-sizing: border-box }
img { height: auto; max-width: 100% }
body > div:has(> div > img[src$=".svg"]) { display: none } /* the same figures as the PNGs beside them */
</style>
<script>{vega}</script>
<script>
const embed = vegaEmbed // what DVC could not load has an empty specification
vegaEmbed = (id, spec) => "data" in spec ? embed(id, spec) : document.querySelector(id).remove()
</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def write(path: str | Path) -> None:
    """Write the frame, which DVC fills where it says ``{plot_divs}``."""
    import vl_convert

    with replacing(path, "w") as file:
        file.write(PAGE.replace("{vega}", vl_convert.javascript_bundle()))


if __name__ == "__main__":
    write(sys.argv[1])
