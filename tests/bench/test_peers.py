"""The benchmarks' peers compute the same as mist-bench: losses, answers and training steps of the same weights."""

import importlib.util

import numpy as np
import pytest
from tinygrad import Tensor

from mist_bench.api.families import TrainingBatch
from mist_bench.bench import command
from mist_bench.engine import noise
from mist_bench.engine.graph import overwrite
from mist_bench.host.registry import Registry
from mist_bench.training.loop import Progress, batch_rows, schedule_numbers, train
from mist_bench.training.step import TrainingGraph

command.benchmark_module("sizes")
from benchmarks import mist_way, ours  # noqa: E402
from benchmarks.sizes import sizes  # noqa: E402

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
SIZE = sizes()["tiny"]
LINEAR = Registry.discover().make("schedule", "linear")
FAMILIES = ["mdlm", "autoregressive"]


def network(family):
    """A model without zero weights, the same model in torch, and the weights."""
    import torch

    from benchmarks import theirs
    from benchmarks.torch_peer import as_ours

    made, model = ours.create(SIZE, family)
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=p.shape).astype(np.float32) * 0.2 for name, p in model.parameters.items()}
    for name, tensor in model.parameters.items():
        overwrite(tensor, values[name])
    net, _ = theirs.create(SIZE, family)
    net.copy_from(values)
    for name, parameters in net.by_name().items():
        np.testing.assert_array_equal(as_ours(name, parameters), values[name], err_msg=name)
    return made, model, net, values, torch


def batch(step=0):
    """Tokens, uniforms, and (t, mask probability, weight) of step `step` of a training."""
    tokens = SIZE.tokens(SIZE.batch, seed=1)
    seed = noise.seed_of(axis="masks", seed=0)
    uniform = noise.uniform_numpy(seed, step, noise.MASKING, np.arange(SIZE.batch), SIZE.length)
    (numbers,) = schedule_numbers(LINEAR, SIZE.batch, seed, range(step, step + 1))
    return tokens, uniform.astype(np.float32), numbers.astype(np.float32)


def seen_tokens():
    tokens, uniform, numbers = batch()
    return np.where(uniform < np.maximum(numbers[1], 0.3)[:, None], SIZE.vocab_size, tokens).astype(np.int32)


@needs_torch
@pytest.mark.parametrize("family", FAMILIES)
def test_the_peers_answer_is_ours(family):
    _, model, net, _, torch = network(family)
    seen = seen_tokens() if family == "mdlm" else SIZE.tokens(SIZE.batch)
    answer = (Tensor(seen), Tensor.zeros(SIZE.batch)) if family == "mdlm" else (Tensor(seen),)
    expected = model.log_probabilities(*answer).numpy()
    np.testing.assert_allclose(net.log_probabilities(torch.from_numpy(seen).long()).detach(), expected, atol=1e-4)


@needs_torch
@pytest.mark.parametrize("family", FAMILIES)
def test_the_peers_training_is_ours(family):
    """Three steps from the same weights on the same data and masks: the same losses, weights and averages."""
    from benchmarks.torch_peer import Training, as_ours

    made, model, net, values, torch = network(family)
    config, data = SIZE.training(), SIZE.tokens(64)
    graph, losses = TrainingGraph(made, model, config), []
    graph.start(values)
    schedule = LINEAR if made.uses_schedule else None
    stop = _Stop(3, losses)
    with pytest.raises(StopIteration):
        train(graph, schedule, data, 0, Progress(), validate=lambda *_: {}, save=lambda _: None, report=stop)
    peer = Training(net, config, half=False, mode=None)
    order, own = noise.seed_of(axis="order", seed=0), []
    for step in range(stop.reached):
        tokens = data[np.sort(batch_rows(len(data), SIZE.batch, order, step))]
        _, uniform, numbers = batch(step)
        told = (uniform, numbers[1], numbers[2]) if made.uses_schedule else ()
        own.append(peer.step(torch.from_numpy(tokens).long(), tuple(map(torch.from_numpy, told))).item())
    chunk = config.checkpoint_every
    np.testing.assert_allclose(np.reshape(own, (-1, chunk)).mean(axis=1), losses, atol=1e-4)
    average = {id(p): mean for p, mean in zip(peer.parameters, peer.average, strict=True)}
    for name, parameters in net.by_name().items():
        np.testing.assert_allclose(as_ours(name, parameters), model.parameters[name].numpy(), atol=1e-4, err_msg=name)
        means = as_ours(name, [average[id(p)] for p in parameters])
        np.testing.assert_allclose(means, graph.averaged()[name], atol=1e-4, err_msg=name)


class _Stop:
    """Stops a training after some steps, and collects the losses it reports."""

    def __init__(self, steps, losses):
        self.steps, self.losses, self.reached = steps, losses, 0

    def __call__(self, step, loss):
        self.losses.append(loss)
        self.reached = step
        if step >= self.steps:
            raise StopIteration


@needs_torch
@pytest.mark.parametrize("mode", ["growing", "masked"])
def test_the_peers_cache_changes_nothing(mode):
    """The token after a text read through the cache is drawn from the law that the whole text gives."""
    _, _, net, _, torch = network("autoregressive")
    from benchmarks import torch_sampling

    laws, real = [], torch_sampling.draw
    torch_sampling.draw = lambda logits: (laws.append(logits.log_softmax(-1)), real(logits))[1]
    try:
        tokens = torch.from_numpy(SIZE.tokens(SIZE.batch)).long()
        cache = torch.zeros(1, 2, SIZE.batch, 2, SIZE.length, SIZE.network.dim // 2)
        with torch.no_grad():
            for i, token in enumerate(net.seen(tokens).T[:, :, None]):
                if mode == "growing":
                    torch_sampling.growing_step(net, token, i, cache)
                else:
                    torch_sampling.next_step(net, token, torch.tensor([i]), cache)
            whole = net.log_probabilities(tokens)
    finally:
        torch_sampling.draw = real
    np.testing.assert_allclose(torch.cat(laws, dim=1), whole, atol=1e-4)


@needs_torch
def test_the_peers_sampler_keeps_to_the_plan():
    """After each step as many positions stay masked as `confidence` leaves, and the surest are revealed."""
    _, _, net, _, torch = network("mdlm")
    from benchmarks.torch_sampling import Generator, confidence_step, draw

    tokens = torch.full((SIZE.batch, SIZE.length), SIZE.vocab_size)
    with torch.no_grad():
        for stay in (5, 2, 0):
            tokens = confidence_step(net, tokens, torch.tensor(stay))
            assert ((tokens == SIZE.vocab_size).sum(-1) == stay).all()
        drawn, sure = draw(net(tokens).expand(2000, *tokens.shape, SIZE.vocab_size))
        p = net(tokens).softmax(-1)
    assert (Generator(net, half=False, mode=None).masked(SIZE.batch, 3) < SIZE.vocab_size).all()
    frequency = torch.stack([(drawn == v).float().mean(0) for v in range(SIZE.vocab_size)], -1)
    assert (frequency - p).abs().max() < 6 * (0.25 / 2000) ** 0.5
    np.testing.assert_allclose(sure[0].exp(), p.gather(-1, drawn[0][..., None])[..., 0], atol=1e-5)


@needs_torch
def test_the_peers_likelihood_is_ours():
    _, model, net, _, torch = network("autoregressive")
    from benchmarks.torch_sampling import Likelihood

    tokens = SIZE.tokens(SIZE.batch)
    ids = tokens[..., None].astype(np.int64)
    expected = -np.take_along_axis(model.log_probabilities(Tensor(tokens)).numpy(), ids, axis=-1)[..., 0].sum(-1)
    measured = Likelihood(net, half=False, mode=None)(torch.from_numpy(tokens).long(), 2)
    np.testing.assert_allclose(measured, expected, atol=1e-3)


def test_mists_way_computes_our_loss():
    made, model = ours.create(SIZE, "mdlm")
    tokens, uniform, (t, probability, weight) = batch()
    loss = made.loss(model, TrainingBatch(
        tokens=Tensor(tokens), uniform=Tensor(uniform), coin=Tensor.zeros(SIZE.batch), t=Tensor(t),
        mask_probability=Tensor(probability), weight=Tensor(weight),
    ))  # fmt: skip
    net = mist_way.PlainNetwork(SIZE.network, SIZE.vocab_size, SIZE.length, model.parameters, model.body.compute)
    natural = net.loss(Tensor(tokens), Tensor(uniform), Tensor(probability), Tensor(weight))
    assert natural.item() == pytest.approx(loss.item(), abs=1e-4)


def test_mists_way_trains_every_parameter():
    _, model = ours.create(SIZE, "mdlm")
    tokens, uniform, (_, probability, weight) = batch()
    net = mist_way.PlainNetwork(SIZE.network, SIZE.vocab_size, SIZE.length, model.parameters, model.body.compute)
    trainer = mist_way.Training(net, SIZE.training())
    before = {name: p.numpy().copy() for name, p in model.parameters.items()}
    for _ in range(2):  # the first moves nothing behind a norm that is zero
        trainer.step(Tensor(tokens), Tensor(uniform), Tensor(probability), Tensor(weight))
    for name, p in model.parameters.items():
        assert (p.numpy() != before[name]).any(), name


def test_flops_are_those_of_the_matrix_products():
    """Two a weight and token, and those of attention; the tiny network by hand."""
    length = SIZE.length
    block = 16 * 48 + 16 * 16 + 2 * 16 * 32
    told = (3 * 2 + 2) * 16 * 16
    by_hand = 2 * length * (block + 16 * 11) + 2 * 2 * length * length * 16 + 2 * told
    assert ours.create(SIZE, "mdlm")[1].forward_flops() == by_hand


def test_the_small_size_has_the_parameters_it_says():
    _, model = ours.create(sizes()["small"], "mdlm")
    assert sum(int(p.numel()) for p in model.parameters.values()) == pytest.approx(1.49e6, rel=2e-3)
