import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.testing import assert_close

from fasa.algorithm import FASA
from fasa.class_stats import ClassMoments, batch_moments
from fasa.errors import UserError

K, D = 7, 3


def test_batch_moments_equal_torch():
    z, labels = torch.randn(50, D), torch.randint(0, K, (50,))
    classes, n, mean, var = batch_moments(z, labels, K)
    assert torch.equal(classes, labels.unique())
    for i, c in enumerate(classes):
        mine = z[labels == c]
        assert n[i] == len(mine)
        assert_close(mean[i], mine.mean(0))
        assert_close(var[i], mine.var(0), equal_nan=True)


def test_variance_keeps_its_digits_far_from_zero():
    z = (torch.randn(1000, 1, dtype=torch.float64) + 1e4).float()
    *_, var = batch_moments(z, torch.zeros(1000, dtype=torch.int64), 1)
    assert_close(var, z.double().var(0)[None].float(), rtol=1e-4, atol=0)


def test_one_sample_leaves_the_variance_alone():
    moments = ClassMoments(K, D, momentum=0.5)
    moments.update(torch.tensor([[1.0, 2, 3]]), torch.tensor([4]))
    assert moments.seen.nonzero().tolist() == [[4]] and not moments.spread.any()
    assert moments.mean[4].tolist() == [1, 2, 3] and (moments.var == 0).all()
    moments.update(torch.tensor([[1.0, 2, 3], [3, 2, 1]]), torch.tensor([4, 4]))
    assert moments.var[4].tolist() == [2, 0, 2]  # the first variance initialises, though the mean is older
    moments.update(torch.tensor([[9.0, 9, 9]]), torch.tensor([4]))
    assert moments.var[4].tolist() == [2, 0, 2]


def test_empty_batch_changes_nothing():
    moments = ClassMoments(K, D)
    moments.update(torch.randn(20, D), torch.randint(0, K, (20,)))
    before = {name: value.clone() for name, value in moments.state_dict().items()}
    moments.update(torch.zeros(0, D), torch.zeros(0, dtype=torch.int64))
    assert all(torch.equal(before[name], value) for name, value in moments.state_dict().items())


def test_what_is_not_finite_leaves_its_class_alone():
    """Squares that overflow, as of embeddings that an augmenter has not looked at."""
    moments = ClassMoments(2, 1, momentum=0.5)
    moments.update(torch.tensor([[1.0], [3.0], [4.0], [8.0]]), torch.tensor([0, 0, 1, 1]))
    before = {name: value.clone() for name, value in moments.state_dict().items()}
    moments.update(torch.tensor([[2e38], [-2e38], [5.0], [5.0]]), torch.tensor([0, 0, 1, 1]))
    assert moments.var[0] == before["var"][0] and moments.mean[0] == 1.0  # mean of 2 and 0
    moments.update(torch.tensor([[torch.inf], [torch.nan]]), torch.tensor([0, 1]))
    assert moments.mean.flatten().tolist() == [1.0, 5.5] and moments.var.flatten().tolist() == [2.0, 4.0]


def test_no_gradient_into_the_bank():
    moments = ClassMoments(K, D)
    moments.update(torch.randn(20, D, requires_grad=True), torch.randint(0, K, (20,)))
    assert not moments.mean.requires_grad


def batches(rank: int, step: int):
    generator = torch.Generator().manual_seed(100 * rank + step)
    size = 0 if (rank, step) == (1, 2) else 9 + rank  # one rank has an empty batch once
    labels = torch.randint(0, K, (size,), generator=generator)
    return torch.randn(size, D, generator=generator, dtype=torch.float64) + labels[:, None], labels


def both_batches(step: int):
    z, labels = zip(batches(0, step), batches(1, step), strict=True)
    return torch.cat(z), torch.cat(labels)


def train(augmenter: FASA, batch) -> dict:
    """Some steps, adapting after each but the first; the state."""
    augmenter.initialise(torch.arange(K))
    for step in range(5):
        z, labels = batch(step)
        augmenter(z.float(), labels)
        if step:
            augmenter.adapt(torch.rand(K, generator=torch.Generator().manual_seed(step)))
    return augmenter.state_dict()


def train_rank(rank: int, world: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    torch.save(train(FASA(K, D), lambda step: batches(rank, step)), f"{out}/{rank}.pth")
    dist.destroy_process_group()


def step_rank(rank: int, world: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    augmenter = FASA(K, D).double()
    augmenter.initialise(torch.ones(K))
    for step in range(5):
        z, labels = batches(rank, step)
        if rank == 1:
            z[step::4] = (torch.inf, torch.nan, -torch.inf, 1e30, torch.nan)[step]
        augmenter(z, labels)
    torch.save(augmenter.state_dict(), f"{out}/{rank}.pth")
    dist.destroy_process_group()


def test_an_overflow_on_one_rank_reaches_no_state(tmp_path):
    mp.spawn(step_rank, (2, str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    whole = ClassMoments(K, D).double()
    for step in range(5):
        (z, labels), (z1, labels1) = batches(0, step), batches(1, step)
        kept = torch.ones(len(z1), dtype=torch.bool)
        kept[step::4] = False
        whole.update(torch.cat([z, z1[kept]]), torch.cat([labels, labels1[kept]]))
    for name, value in whole.state_dict().items():
        assert torch.equal(ranks[0]["moments." + name], ranks[1]["moments." + name])
        assert_close(ranks[0]["moments." + name], value)
    assert [rank["skipped"].item() for rank in ranks] == [0, 4]  # once it had no embedding at all


def test_ranks_agree_with_one_process_on_all_data(tmp_path):
    """Moments, counts, probabilities and groups; what was drawn is each rank's own."""
    mp.spawn(train_rank, (2, str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    whole = train(FASA(K, D), both_batches)
    assert len(whole["groups"].unique()) > 1 and len(whole["probability"].unique()) > 2
    assert not torch.equal(ranks[0].pop("drawn"), ranks[1].pop("drawn")) and whole.pop("drawn").sum()
    for name, value in whole.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        assert_close(ranks[0][name], value, rtol=1e-6, atol=1e-6)


def test_moments_are_read_from_a_checkpoint(tmp_path):
    moments, path = ClassMoments(K, D), tmp_path / "warmup.pth"
    moments.update(torch.randn(20, D), torch.randint(0, K - 1, (20,)))
    state = {f"roi_head.bbox_head.augmenter.moments.{k}": v for k, v in moments.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    saved = ClassMoments.saved(path)
    assert all(torch.equal(getattr(saved, name), value) for name, value in moments.named_buffers())
    torch.save(dict(state_dict={"backbone.weight": torch.ones(1)}), path)
    with pytest.raises(UserError, match="no class moments: it is of a row without FASA"):
        ClassMoments.saved(path)
