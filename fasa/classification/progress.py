"""One line of progress now and then."""

import datetime
import time

from torch import Tensor


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
