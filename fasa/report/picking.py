"""Choices of a person in JupyterLab, and what is drawn of them."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
from IPython.display import Markdown, display
from ipywidgets import Dropdown, HBox

from fasa.errors import UserError


class Picker:
    """Drop-down lists, and what `show` draws of what they stand at: at once, and anew after each choice.

    What is drawn is a plain picture: it stays in a saved notebook, which needs neither widgets nor a kernel.

    Args:
        options: by name what can be chosen, pairs of a label and a value; the first is chosen to begin with.
    """

    def __init__(self, **options: Sequence[tuple[str, Any]]):
        self.lists = {name: Dropdown(options=those, description=name) for name, those in options.items()}
        display(HBox(list(self.lists.values())))

    def show(self, draw: Callable[..., Any]) -> None:
        """Display what `draw` returns, a figure or Markdown, given each choice by its name."""

        def drawn() -> Any:
            try:
                return draw(**{name: one.value for name, one in self.lists.items()})
            except UserError as error:
                return Markdown(str(error))
            finally:
                plt.close("all")  # or they are shown a second time when the cell ends

        shown = display(drawn(), display_id=True)
        for one in self.lists.values():
            one.observe(lambda _: shown.update(drawn()), names="value")
