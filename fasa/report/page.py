"""The report as a page: ``python -m fasa.report.page``, the second command of the stage ``report``.

Text and tables of the executed notebook, without its code, become ``results/PROFILE/report.md`` and, from the
same text, ``report.html``, which holds its figures and loads nothing.
"""

import html
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure

from fasa.command import command
from fasa.errors import UserError
from fasa.files import replacing
from fasa.notebook import output
from fasa.pipeline.project import executed
from fasa.report import style

HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
:root {{ --text: #1b1b1f; --back: #fff; --line: #d5d5dc; --soft: #f4f4f7; --link: #0b57a8 }}
:root {{ --seen: #1a7f37; --opposite: #b42318; --shadow: rgb(0 0 0 / .25) }}
@media (prefers-color-scheme: dark) {{
  :root {{ --text: #e4e4ea; --back: #16161a; --line: #3a3a44; --soft: #22222a; --link: #8ab8f0 }}
  :root {{ --seen: #56d364; --opposite: #ff7b72; --shadow: rgb(255 255 255 / .3) }}
  img {{ filter: brightness(.9) }}
}}
* {{ box-sizing: border-box }}
body {{ margin: 0; color: var(--text); background: var(--back); font: 16px/1.55 system-ui, sans-serif }}
main {{ max-width: 90rem; margin: 0 auto; padding: 1rem }}
h1, h2, h3 {{ line-height: 1.2; margin: 2.2em 0 .6em }}
h1 {{ margin-top: .5em }}
h2 {{ border-top: 1px solid var(--line); padding-top: 1em }}
p, li {{ max-width: 46rem; overflow-wrap: anywhere }}
a {{ color: var(--link) }}
code {{ background: var(--soft); padding: .1em .3em; border-radius: 3px; font-size: .88em }}
/* a shadow at the edge where there is more to scroll to */
.wide {{ overflow-x: auto; margin: 1em 0; background:
  linear-gradient(90deg, var(--back) 40%, transparent) left / 3rem 100% no-repeat local,
  linear-gradient(270deg, var(--back) 40%, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(90deg, var(--shadow), transparent) left / 1rem 100% no-repeat,
  linear-gradient(270deg, var(--shadow), transparent) right / 1rem 100% no-repeat }}
.wide:has(table) {{ width: fit-content; max-width: 100% }}
table {{ border-collapse: collapse; font-size: .88em; font-variant-numeric: tabular-nums }}
td, th {{ padding: .3em .5em; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }}
td {{ white-space: nowrap }}
td.text {{ white-space: normal; min-width: 15rem }}
td.words {{ white-space: normal; min-width: 9rem }}
th {{ background: var(--soft) }}
td:first-child, th:first-child {{ position: sticky; left: 0; box-shadow: 1px 0 var(--line) }}
td:first-child {{ background: var(--back); overflow-wrap: anywhere }}
td[data-verdict="✓"] {{ color: var(--seen) }}
td[data-verdict="✗"] {{ color: var(--opposite) }}
pre {{ background: var(--soft); padding: .6em; overflow-x: auto }}
.contents {{ columns: 18rem }}
@media (max-width: 36rem) {{
  .wide::before {{ content: "scroll sideways →"; font-size: .75em; position: sticky; left: 0 }}
  td:first-child {{ white-space: normal; min-width: 6rem; max-width: 9rem }}
}}
img {{ display: block; width: 100%; min-width: 48rem; max-width: 62rem }}
img {{ background: #fff; border-radius: 4px }}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def show(*parts: str) -> None:
    """Show pieces of Markdown, which the page will have."""
    display(Markdown("\n\n".join(part.strip() for part in parts if part)))


def show_figure(figure: Figure, path: str | Path, alt: str) -> None:
    """Save a figure as SVG and PNG beside each other, and show it; the page will have it.

    Args:
        path: without a suffix, below the folder that the page will lie in.
        alt: what a reader who does not see it should know.
    """
    path = output(path)
    style.save(figure, path)
    plt.close(figure)
    _show(path.with_suffix(".png"), alt)


def show_saved(drawn: str | Path, path: str | Path, alt: str) -> None:
    """Show a figure that another stage has drawn, ``drawn.png`` and ``drawn.svg``; nothing where it is not.

    Args:
        drawn: without a suffix.
        path, alt: as `show_figure` takes them.
    """
    sources = [Path(drawn).with_suffix(suffix) for suffix in (".png", ".svg")]
    if not all(source.exists() for source in sources):
        return
    copies = [output(path).with_suffix(source.suffix) for source in sources]
    for source, copy in zip(sources, copies, strict=True):
        shutil.copyfile(source, copy)
    _show(copies[0], alt)


def _show(saved: Path, alt: str) -> None:
    place = f"{saved.parent.name}/{saved.name}"
    display(Image(saved.read_bytes()), metadata={"image/png": dict(alt=alt, place=place)})


def text(notebook: dict[str, Any]) -> str:
    """What a reader sees of an executed notebook, in Markdown: texts and what the functions above showed.

    After the first piece comes a table of contents; every heading of level 2 is a place to link to.
    """
    first, *rest = (piece.strip() for piece in _pieces(notebook))
    body = HEADING.sub(lambda found: f'<a id="{anchor(found[1])}"></a>\n\n{found[0]}', "\n\n".join(rest))
    contents = [f"- [{found}](#{anchor(found)})" for found in HEADING.findall(body)]
    return "\n\n".join([first, "\n".join(contents), body]) + "\n"


def _pieces(notebook: dict[str, Any]) -> Iterator[str]:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            yield "".join(cell["source"])
        for out in cell.get("outputs", []):
            data = out.get("data", {})
            if "text/markdown" in data:
                yield "".join(data["text/markdown"])
            elif place := out.get("metadata", {}).get("image/png", {}).get("place"):
                yield f"![{out['metadata']['image/png']['alt']}]({place})"


def anchor(title: str) -> str:
    """``table-1`` of ``Table 1: where AP is lost``."""
    return re.sub(r"\W+", "-", title.partition(":")[0].lower()).strip("-")


def page(markdown: str, folder: Path) -> str:
    """The same as one HTML page, by nbconvert; figures below `folder` are in it, as SVG."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def image(self, text, url, title=None):
            drawn = re.sub(r"\.png$", ".svg", url)
            if not (folder / drawn).exists():
                raise UserError(f"{folder / drawn}: no such figure; run the stage anew")
            return super().image(text, drawn, title)

        def link(self, text, url, title=None):
            """A page that is sent alone has no files beside it: they are named."""
            there = re.match("#|https?:", url)
            return super().link(text, url, title) if there else f"{text} (<code>{url.lstrip('./')}</code>)"

    renderer = Renderer(escape=False, embed_images=True, exclude_anchor_links=True, path=str(folder))
    body = MarkdownWithMath(renderer=renderer).render(markdown)
    body = re.sub(r"(<table>.*?</table>|<img [^>]*>)", r'<div class="wide">\1</div>', body, flags=re.DOTALL)
    body = re.sub(r'<p>(<div class="wide"><img [^>]*></div>)</p>', r"\1", body)
    body = re.sub(r"<td>(.*?)</td>", _cell, body)
    body = body.replace("<ul>", '<ul class="contents">', 1)
    title = re.search(r"^# (.+)$", markdown, re.MULTILINE)[1]
    return PAGE.format(title=html.escape(title), body=body)


def _cell(found: re.Match) -> str:
    """A cell of a table, marked where its text is long enough to wrap, or begins with a verdict's mark.

    The paper's number, in brackets, goes below ours.
    """
    inside = re.sub(r"^([-\d.± ]+|not run) (\([\d.± ]+\))$", r"\1<br>\2", found[1])
    longest = max(len(re.sub("<.*?>", "", line)) for line in re.split("<br ?/?>", inside))
    if longest >= 20:
        return f'<td class="{"text" if longest >= 40 else "words"}">{inside}</td>'
    mark = inside[:1] if re.match("[✓✗○?…] ", inside) else ""
    return f'<td data-verdict="{mark}">{inside}</td>' if mark else f"<td>{inside}</td>"


def section(markdown: str, title: str) -> str:
    """The text under one heading of level 2."""
    text = rf"^## {re.escape(title)}\n(.*?)(?=^<a id=\S+\n\n## |\Z)"
    found = re.search(text, markdown, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Write both pages of a stage that has just run; of one that is named, below ``scratch``."""
    named = sys.argv[1:] if argv is None else argv
    stage = named[0] if named else os.environ.get("DVC_STAGE")
    if not stage:
        raise UserError("python -m fasa.report.page: name a stage, such as report@embedded")
    notebook = executed(stage)
    if not notebook.exists():
        raise UserError(f"{notebook}: no such notebook; run: fasa run {stage}")
    markdown = text(json.loads(notebook.read_text()))
    written = output(f"results/{stage.partition('@')[2]}/report.md")
    for path, content in (
        (written, markdown),
        (written.with_suffix(".html"), page(markdown, written.parent)),
    ):
        with replacing(path, "w") as file:
            file.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
