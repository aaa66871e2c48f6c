"""The learning rate of every epoch, as LDAM-DRW trains (Cao et al. 2019)."""

from fasa.classification.job import Schedule

DROPS = (0.8, 0.9)  # shares of the epochs: 160 and 180 of 200
FACTOR = 0.01  # at each of them


def learning_rate(schedule: Schedule, epoch: int) -> float:
    """The rate of an epoch, counted from 0, the same for all of its iterations.

    ``lr (epoch + 1) / warmup`` during warm-up, then ``lr``; from each of `DROPS` on, `FACTOR` times as much.
    """
    if epoch < schedule.warmup:
        return schedule.lr * (epoch + 1) / schedule.warmup
    return schedule.lr * FACTOR ** sum(epoch / schedule.epochs >= drop for drop in DROPS)
