import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from fasa.augmenter import virtual_loss
from fasa.baselines.feature_transfer import FeatureTransfer

K, D = 6, 8
COUNTS = [500, 300, 40, 3, 100, 0]  # head: 0, 1 and 4
HEAD, TAIL = {0, 1, 4}, {2, 3, 5}


def new_transfer(**kwargs) -> FeatureTransfer:
    torch.manual_seed(0)  # of the inner layers
    transfer = FeatureTransfer(K, D, **kwargs).double()
    transfer.initialise(torch.tensor(COUNTS))
    return transfer


def random_batch(generator, size=40):
    """Class 5 is never seen; the columns have different variances, so that eigenvectors are well apart."""
    labels = torch.randint(0, 5, (size,), generator=generator)
    z = torch.randn(size, D, generator=generator, dtype=torch.float64) * 2.0 ** -torch.arange(D)
    return z.roll(1, dims=1) + labels[:, None], labels


class SlowTransfer:
    """One embedding at a time, in NumPy, with a full eigendecomposition in every step."""

    def __init__(self, components, momentum=0.1, covariance_momentum=0.01):
        self.components, self.momentum, self.fading = components, momentum, covariance_momentum
        self.mean, self.scatter = {}, np.zeros((D, D))

    def update(self, z, labels):
        squares = [
            np.outer(x - self.mean[c], x - self.mean[c])
            for x, c in zip(z, labels, strict=True)
            if c in HEAD and c in self.mean
        ]
        if squares:
            self.scatter = (1 - self.fading) * self.scatter + self.fading * sum(squares)
        for c in set(labels):
            new = np.mean([x for x, label in zip(z, labels, strict=True) if label == c], axis=0)
            m = self.momentum
            self.mean[c] = (1 - m) * self.mean[c] + m * new if c in self.mean else new

    def virtual(self, z, labels, chosen):
        vectors = np.linalg.eigh(self.scatter)[1][:, ::-1][:, : self.components]
        heads = [(x, c) for x, c in zip(z, labels, strict=True) if c in HEAD]
        return [
            self.mean[t] + vectors @ (vectors.T @ (x - self.mean[c]))
            for (x, c), t in zip(heads, chosen, strict=True)
        ]


def test_equals_slow_twin_over_many_steps():
    generator = torch.Generator().manual_seed(0)
    transfer, slow, made = new_transfer(components=3, refresh=1, seed=5), SlowTransfer(3), 0
    for size in [40, 1, 40, 0, 5, 40] * 4:
        z, labels = random_batch(generator, size)
        virtual = transfer(z, labels)
        slow.update(z.numpy(), labels.tolist())
        if len(virtual.labels):
            expected = slow.virtual(z.numpy(), labels.tolist(), virtual.labels.tolist())
            assert_close(virtual.features, torch.tensor(np.array(expected)))
        made += len(virtual.labels)
        assert set(virtual.labels.tolist()) <= TAIL & set(slow.mean)
    assert made == transfer.drawn.sum() > 200
    assert_close(transfer.scatter, torch.tensor(slow.scatter))
    for c in slow.mean:
        assert_close(transfer.moments.mean[c], torch.tensor(slow.mean[c]))


def test_basis_is_the_pca_of_the_head_classes():
    """Many batches of one distribution: Q spans the leading eigenvectors of the head's true covariance."""
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(D, D, generator=generator, dtype=torch.float64) * torch.tensor([9.0, 7, 5] + [0.1] * 5)
    rotation = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64))[0]
    transfer = new_transfer(components=3, refresh=1)
    for _ in range(200):
        labels = torch.randint(0, 5, (60,), generator=generator)
        noise = torch.randn(60, D, generator=generator, dtype=torch.float64)
        head = torch.isin(labels, torch.tensor(sorted(HEAD)))[:, None]
        # Tail classes vary along other directions, and class means lie far apart: neither may be seen in Q.
        z = torch.where(head, noise @ root.T, 50 * noise @ rotation) + 100 * labels[:, None]
        transfer(z, labels)
    truth = np.linalg.eigh((root @ root.T).numpy())[1][:, -3:]
    cosines = np.linalg.svd(truth.T @ transfer.basis.numpy())[1]  # of the angles between the two spaces
    assert cosines.min() > 0.99
    assert_close(transfer.basis.T @ transfer.basis, torch.eye(3, dtype=torch.float64))


def test_one_virtual_feature_for_each_head_embedding_with_tail_classes_drawn_uniformly():
    transfer = new_transfer()
    z, labels = random_batch(torch.Generator().manual_seed(0), 6000)
    assert len(transfer(z, labels).labels) == 0  # nothing has deviated from an earlier mean
    virtual = transfer(z, labels)
    heads = sum(c in HEAD for c in labels.tolist())
    assert len(virtual.labels) == heads and (virtual.weights == 1).all()
    n = virtual.labels.bincount(minlength=K)
    assert n[2] + n[3] == heads and abs(n[2].item() / heads - 0.5) < 4 * (0.25 / heads) ** 0.5
    # components > D: Q Q^T is the identity, a tail class takes the whole deviation
    mean, head = transfer.moments.mean, torch.isin(labels, torch.tensor(sorted(HEAD)))
    assert_close(virtual.features, mean[virtual.labels] + z[head] - mean[labels[head]])


def test_nothing_without_head_or_tail():
    for keep in (HEAD, TAIL):
        transfer = new_transfer()
        for seed in range(4):
            z, labels = random_batch(torch.Generator().manual_seed(seed))
            mine = torch.isin(labels, torch.tensor(sorted(keep)))
            assert len(transfer(z[mine], labels[mine]).labels) == 0


def test_basis_is_refreshed_on_time():
    transfer, generator, changed = new_transfer(refresh=4, warmup=2), torch.Generator().manual_seed(0), []
    for _ in range(12):
        before = transfer.basis.clone()
        transfer(*random_batch(generator))
        changed.append(not torch.equal(before, transfer.basis))
    assert [step for step, new in enumerate(changed, 1) if new] == [3, 7, 11]
    assert transfer.refreshed == 11


def test_batches_without_a_head_sample_do_not_fade_the_covariance():
    transfer, generator = new_transfer(), torch.Generator().manual_seed(0)
    for _ in range(2):
        transfer(*random_batch(generator))
    before = transfer.scatter.clone()
    transfer(torch.zeros(0, D).double(), torch.zeros(0, dtype=torch.int64))
    transfer(torch.randn(3, D).double(), torch.tensor([2, 2, 3]))
    assert before.any() and torch.equal(before, transfer.scatter)


def test_directions_without_variance_are_left_out():
    transfer = new_transfer()
    for scale in (1.0, 3.0):  # one head class, deviating along one axis
        z = torch.zeros(4, D).double()
        z[:, 2] = scale * torch.tensor([1.0, 2, 3, 0])
        transfer(z, torch.tensor([0, 0, 0, 2]))
    assert_close(transfer.basis @ transfer.basis.T, torch.diag(F.one_hot(torch.tensor(2), D)).double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_state_and_features_are_float32_under_autocast(dtype):
    plain, cast = new_transfer().float(), new_transfer().float()
    for seed in range(3):
        z, labels = random_batch(torch.Generator().manual_seed(seed))
        z = z.to(dtype)
        expected = plain(z, labels)
        with torch.autocast("cpu", dtype=dtype):
            virtual = cast(z, labels)
        assert virtual.features.dtype == torch.float32 and torch.equal(virtual.features, expected.features)
    assert len(virtual.labels)
    assert all(torch.equal(value, cast.state_dict()[name]) for name, value in plain.state_dict().items())


def test_starts_as_the_identity():
    transfer, z = new_transfer(), torch.randn(5, D).double()
    labels, scores = torch.tensor([0, 1, 2, K, K]), torch.randn(5, K + 1).double()
    assert torch.equal(transfer.encode(z), z)
    assert transfer.losses(z, labels, scores)["loss_reconstruction"] == 0


def perturbed(**kwargs) -> FeatureTransfer:
    """R and Dec away from the identity."""
    transfer = new_transfer(**kwargs)
    for net in (transfer.encoder, transfer.decoder):
        nn.init.normal_(net.layers[2].weight, std=0.3)
    return transfer


def test_losses_by_hand():
    transfer = perturbed()
    z, labels = torch.randn(5, D).double(), torch.tensor([0, K, 2, 5, K])
    scores = torch.randn(5, K + 1).double()
    losses = transfer.losses(z, labels, scores)
    errors = [transfer.decoder(transfer.encoder(z[i])) - z[i] for i in (0, 2, 3)]
    expected = 0.5 * sum((e @ e).item() for e in errors) / 3 / D
    assert_close(losses["loss_reconstruction"].item(), expected, rtol=1e-5, atol=0)
    expected = 0.25 * sum((s @ s).item() for s in scores) / 5
    assert_close(losses["loss_regularization"].item(), expected, rtol=1e-5, atol=0)
    mean_score = perturbed(mean_score=True).losses(z, labels, scores)["loss_regularization"].item()
    assert_close(mean_score, expected / (K + 1), rtol=1e-5, atol=0)


def test_losses_reach_encoder_decoder_and_backbone():
    transfer, fc = perturbed(), nn.Linear(D, K + 1).double()
    z, labels = torch.randn(4, D, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, K, 2])
    scores = fc(transfer.encode(z))
    losses = transfer.losses(z, labels, scores)
    losses["loss_reconstruction"].backward(retain_graph=True)
    assert fc.weight.grad is None and z.grad[:2].any() and not z.grad[2].any()  # positives alone
    assert all(p.grad.any() for p in transfer.parameters())
    losses["loss_regularization"].backward()
    assert fc.weight.grad.any() and z.grad[2].any()


def test_the_reconstructed_embedding_is_a_constant():
    """The gradient goes through Dec(R(g)) alone, not through the g that it is compared with."""
    transfer = new_transfer()
    transfer.decoder.layers[2].bias.data.fill_(1.0)  # Dec(f) = f + 1: the error is 1
    z = torch.randn(1, D, dtype=torch.float64, requires_grad=True)
    transfer.losses(z, torch.tensor([0]), torch.zeros(1, K + 1))["loss_reconstruction"].backward()
    assert_close(z.grad, torch.full_like(z, 1 / D))


def test_virtual_features_train_the_encoder_but_not_the_backbone():
    transfer, fc = perturbed(), nn.Linear(D, K + 1).double()
    for seed in range(2):
        z, labels = random_batch(torch.Generator().manual_seed(seed))
        z.requires_grad_()
        virtual = transfer(z, labels)
    assert len(virtual.labels) and not virtual.features.requires_grad
    virtual_loss(fc(transfer.encode(virtual.features)), virtual).backward()
    assert z.grad is None and fc.weight.grad.any()
    assert all(p.grad.any() for p in transfer.encoder.parameters())


def test_two_stages():
    transfer, generator = new_transfer(warmup=2, phase=3), torch.Generator().manual_seed(0)
    stages, made = [], []
    for _ in range(8):
        stages.append(transfer.frozen())
        made.append(len(transfer(*random_batch(generator)).labels) > 0)
    assert stages == [None] * 2 + ["features"] * 3 + ["classifier"] * 3
    assert made == [False] * 2 + [True] * 3 + [False] * 3
    assert new_transfer(warmup=0).frozen() is None


def test_resume_from_state_dict_is_exact():
    generator = torch.Generator().manual_seed(3)
    batches = [random_batch(generator) for _ in range(8)]
    arguments = dict(seed=7, refresh=3, components=2)
    whole, first = new_transfer(**arguments), new_transfer(**arguments)
    for z, labels in batches[:4]:
        whole(z, labels), first(z, labels)
    second = FeatureTransfer(K, D, **arguments).double()
    second.load_state_dict(first.state_dict(), strict=True)
    for z, labels in batches[4:]:
        a, b = whole(z, labels), second(z, labels)
        assert len(a.labels) and torch.equal(a.features, b.features) and torch.equal(a.labels, b.labels)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in whole.state_dict().items())


def test_initialise_keeps_means_and_covariance_and_computes_the_basis_anew():
    transfer, generator = new_transfer(), torch.Generator().manual_seed(0)
    for _ in range(3):
        transfer(*random_batch(generator))
    scatter, mean = transfer.scatter.clone(), transfer.moments.mean.clone()
    transfer.initialise(torch.tensor(COUNTS))
    assert transfer.iteration == 0 and transfer.refreshed == -1
    assert torch.equal(transfer.scatter, scatter) and torch.equal(transfer.moments.mean, mean)
    transfer(*random_batch(generator))
    assert transfer.refreshed == 1


def batches(rank: int, step: int):
    size = 0 if (rank, step) == (1, 2) else 9 + rank  # one rank has an empty batch once
    return random_batch(torch.Generator().manual_seed(100 * rank + step), size)


def train_rank(rank: int, world: int, store: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    transfer = new_transfer(components=3, refresh=2)
    for step in range(5):
        transfer(*batches(rank, step))
    torch.save(transfer.state_dict(), f"{out}/{rank}.pth")
    dist.destroy_process_group()


def test_ranks_agree_with_one_process_on_all_data(tmp_path):
    world = 2
    mp.spawn(train_rank, (world, str(tmp_path / "store"), str(tmp_path)), nprocs=world)
    ranks = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(world)]
    whole = new_transfer(components=3, refresh=2)
    for step in range(5):
        z, labels = zip(*(batches(rank, step) for rank in range(world)), strict=True)
        whole(torch.cat(z), torch.cat(labels))
    for name in ("scatter", "basis", "moments.mean"):
        assert torch.equal(ranks[0][name], ranks[1][name])
    for name in ("scatter", "moments.mean"):
        assert_close(ranks[0][name], whole.state_dict()[name])
    projections = [q @ q.T for q in (ranks[0]["basis"], whole.basis)]  # eigenvectors have a sign to choose
    assert_close(*projections)


def test_refuses_to_work_without_counts():
    with pytest.raises(RuntimeError, match="call initialise"):
        FeatureTransfer(K, D)(torch.zeros(0, D), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize(
    "wrong",
    [
        dict(reconstruction=-0.5),
        dict(regularization=-1.0),
        dict(components=0),
        dict(refresh=0),
        dict(phase=-1),
        dict(tail=-1),
        dict(momentum=0.0),
        dict(covariance_momentum=1.5),
    ],
)
def test_refuses_wrong_arguments(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r}") as error:
        FeatureTransfer(K, D, **wrong)
    assert "\n" not in str(error.value)
