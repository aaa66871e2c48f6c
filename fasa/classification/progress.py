"""One line of progress now and then, and a table of the losses."""

import datetime
import time
from collections.abc import Sequence

from torch import Tensor

KEPT = "losses.tsv"


def losses_table(curve: Sequence[dict[str, float]]) -> str:
    """The mean losses of each epoch, a line an epoch, tab-separated: epoch, loss, with FASA loss_virtual.

    Args:
        curve: of a run, as `Outcome.curve`.
    """
    names = [name for name in curve[0] if name != "lr"]
    lines = [[str(epoch), *(f"{one[name]:.5f}" for name in names)] for epoch, one in enumerate(curve, 1)]
    return "".join("\t".join(line) + "\n" for line in [["epoch", *names], *lines])


class Progress:
    """Prints epoch, losses, speed and the time left, every few seconds and after the last image.

    Args:
        first: epochs that were done before this process.
        epochs: of the whole run.
        images: of an epoch.
        every: seconds between lines.
    """

    def __init__(self, first: int, epochs: int, images: int, every: float = 5.0):
        self.first, self.epochs, self.images, self.every = first, epochs, images, every
        self.start = self.printed = time.perf_counter()

    def __call__(self, epoch: int, seen: int, losses: dict[str, Tensor]) -> None:
        """Print when it is time.

        Args:
            epoch: the current one, counted from 0.
            seen: images of it so far.
            losses: of the last batch.
        """
        now = time.perf_counter()
        done, all_images = epoch * self.images + seen, self.epochs * self.images
        if now - self.printed < self.every and done < all_images:
            return
        self.printed = now
        speed = (done - self.first * self.images) / max(now - self.start, 1e-9)  # adaptation included
        left = datetime.timedelta(seconds=round((all_images - done) / speed))
        # .item() waits for a GPU, so not for every batch
        shown = "  ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
        print(f"epoch {epoch + 1}/{self.epochs}  {speed:.0f} images/s  {left} left  {shown}", flush=True)
