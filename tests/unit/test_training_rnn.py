"""Recurrent networks against PyTorch's own, alone against packed, and what padding may change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hpo_service import catalog, errors
from workers.models import rnn
from workers.models.base import Shape
from workers.models.cells import CELLS, Space, fused_lstm, recur
from workers.models.rnn import Rnn
from workers.training import seeding

CPU = torch.device("cpu")
STEPS, CHANNELS, OUTPUTS = 6, 3, 4
SEQUENCES = Shape(
    "classification",
    STEPS * CHANNELS + 1,
    OUTPUTS,
    torch.float64,
    CPU,
    dims=(STEPS, CHANNELS),
)
TEXTS = Shape("classification", STEPS, OUTPUTS, torch.float64, CPU, dims=(STEPS,), symbols=9)
TAGS = Shape(
    "classification", STEPS, OUTPUTS, torch.float64, CPU, dims=(STEPS,), symbols=9, per_step=True
)
KINDS = {"sequence": SEQUENCES, "text": TEXTS, "tags": TAGS}


def networks(shape: Shape, seeds: list[int], each: Any = None, **params: Any) -> Rnn:
    """One lane for each seed; `each`: what differs from lane to lane."""
    params = {"hidden_units": 5, "embedding": 3, "batch_size": 7} | params
    settings = [
        catalog.settings_of(catalog.FAMILIES["rnn"], params | (each or {}).get(seed, {}))
        for seed in seeds
    ]
    made = Rnn(settings, [seeding.generator(seed, 0, 0) for seed in seeds], shape)  # type: ignore[arg-type]
    for lane, seed in enumerate(seeds):
        noise = torch.Generator().manual_seed(seed)
        drawn = torch.randn(made.parameters.shape[1], dtype=torch.float64, generator=noise)
        made.parameters[lane] += 0.1 * drawn
    return made


def batch(shape: Shape, lanes: int, rows: int = 7, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Inputs and target of rows of all lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, STEPS + 1, (lanes, rows), generator=generator)
    lengths[:, 0] = STEPS - 1  # no row has all steps, one each has the most
    lengths.clamp_(max=STEPS - 1)
    real = torch.arange(STEPS) < lengths.unsqueeze(2)
    if shape.symbols:
        inputs = torch.randint(2, shape.symbols, (lanes, rows, STEPS), generator=generator) * real
    else:
        values = torch.randn(lanes, rows, STEPS, CHANNELS, dtype=torch.float64, generator=generator)
        values = (values * real.unsqueeze(3)).flatten(2)
        inputs = torch.cat([values, lengths.unsqueeze(2).double()], 2)
    size = (lanes, rows, STEPS) if shape.per_step else (lanes, rows)
    target = torch.randint(0, OUTPUTS, size, generator=generator)
    if shape.per_step:
        target = torch.where(real, target, -1)
    return inputs.double(), target, lengths


def theirs(made: Rnn, lane: int) -> tuple[torch.nn.RNNBase, dict[str, torch.Tensor]]:
    """PyTorch's own network with a lane's weights, and all of the weights."""
    built = made.built
    kinds = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    more = {"nonlinearity": built.activation} if built.cell == "elman" else {}
    below = (made.shape.symbols and built.embedding) or CHANNELS
    found = kinds[built.cell](
        below,
        built.hidden_units,
        built.hidden_layers,
        batch_first=True,
        bidirectional=built.bidirectional,
        dtype=torch.float64,
        **more,
    )
    arrays = {name: torch.from_numpy(array) for name, array in made.arrays(lane).items()}
    with torch.no_grad():
        for name, number in found.named_parameters():
            kind, _, rest = name.rpartition("_l")
            layer, _, reverse = rest.partition("_")
            ours = f"layers.{layer}.{kind.replace('bias_ih', 'bias')}"
            number.zero_()
            if ours in arrays:
                number.copy_(arrays[ours][bool(reverse) * 1])
    return found, arrays


def reference(
    made: Rnn, lane: int, inputs: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.nn.RNNBase, dict[str, torch.Tensor]]:
    """What PyTorch's network gives for a lane's rows, the network, the other weights."""
    network, arrays = theirs(made, lane)
    others = {n: a.requires_grad_() for n, a in arrays.items() if not n.startswith("layers")}
    if made.shape.symbols:
        values = others["embedding"][inputs.long()]
    else:
        values = inputs[:, :-1].view(-1, STEPS, CHANNELS)
    packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
    states, last = network(packed)
    states = pad_packed_sequence(states, batch_first=True, total_length=STEPS)[0]
    real = (torch.arange(STEPS) < lengths.unsqueeze(1)).unsqueeze(2)
    directions = 2 if made.built.bidirectional else 1
    last = (last[0] if made.built.cell == "lstm" else last)[-directions:]
    found = {
        "last": last.transpose(0, 1).flatten(1),
        "mean": states.sum(1) / lengths.unsqueeze(1),
        "max": torch.where(real, states, -torch.inf).amax(1),
    }[made.built.readout]
    if made.shape.per_step:
        found = states
    outputs = functional.linear(found, others["head.weight"], others["head.bias"])
    return outputs, network, others


def expected_gradient(
    made: Rnn, network: torch.nn.RNNBase, others: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """PyTorch's gradients under our names."""
    found = {name: number.grad for name, number in others.items()}
    for name, number in network.named_parameters():
        kind, _, rest = name.rpartition("_l")
        layer = rest[0]
        ours = f"layers.{layer}.{kind.replace('bias_ih', 'bias')}"
        if made.built.cell != "gru" and kind == "bias_hh":
            continue
        found[ours] = (
            torch.cat([found[ours], number.grad[None]]) if "_r" in rest else number.grad[None]
        )
    return found  # type: ignore[return-value]


CASES: dict[str, dict[str, Any]] = {
    "elman": {"cell": "elman"},
    "elman relu": {"cell": "elman", "activation": "relu", "bidirectional": True},
    "lstm": {"cell": "lstm", "readout": "mean"},
    "gru": {"cell": "gru"},
    "lstm deep": {"cell": "lstm", "hidden_layers": 3, "bidirectional": True},
    "gru deep": {"cell": "gru", "hidden_layers": 2, "bidirectional": True, "readout": "max"},
    "elman deep": {"cell": "elman", "hidden_layers": 2, "readout": "max"},
    "gru mean": {"cell": "gru", "readout": "mean", "bidirectional": True},
}


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_gradients_and_predictions_agree_with_pytorch(case: str, kind: str, lanes: int) -> None:
    made = networks(KINDS[kind], [3, 4][:lanes], **CASES[case])
    inputs, target, lengths = batch(made.shape, lanes)
    made.start_epoch([1] * lanes)
    losses = made.learn(0, inputs, target, 1 / 7)
    predicted = made.predict(inputs)
    for lane in range(lanes):
        outputs, network, others = reference(made, lane, inputs[lane], lengths[lane])
        if made.shape.per_step:
            steps = STEPS - 1
            ours = predicted[lane].view(-1, STEPS, OUTPUTS)
            real = target[lane] >= 0
            torch.testing.assert_close(ours[real], outputs[real])
            assert not ours[:, steps:].any()
            rows = functional.cross_entropy(
                outputs.flatten(0, 1), target[lane].flatten(), ignore_index=-1, reduction="none"
            ).view(-1, STEPS).sum(1) / real.sum(1)
        else:
            torch.testing.assert_close(predicted[lane], outputs)
            rows = functional.cross_entropy(outputs, target[lane], reduction="none")
        torch.testing.assert_close(losses[lane], rows.detach())
        torch.autograd.backward(rows.mean())
        wanted = expected_gradient(made, network, others)
        found = made.unpack(made.gradient, lane)
        assert found.keys() == wanted.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(torch.from_numpy(gradient), wanted[name], msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_a_lane_computes_the_same_packed_and_alone(case: str, kind: str) -> None:
    seeds = [1, 2, 3]
    each = {1: {"dropout": 0.3}, 3: {"dropout": 0.6, "label_smoothing": 0.1}}
    packed = networks(KINDS[kind], seeds, each, **CASES[case])
    alone = [networks(KINDS[kind], [seed], each, **CASES[case]) for seed in seeds]
    counts = [7, 4, 6]
    weights = torch.tensor([[1 / c] * c + [0] * (7 - c) for c in counts], dtype=torch.float64)
    for epoch in range(3):
        for made in (packed, *alone):
            made.start_epoch([2] * len(made.parameters))
        for step in range(2):
            inputs, target, _ = batch(packed.shape, 3, seed=2 * epoch + step)
            losses = packed.learn(step, inputs, target, weights)
            packed.parameters -= packed.gradient
            for lane, (made, count) in enumerate(zip(alone, counts, strict=True)):
                some = slice(lane, lane + 1), slice(count)
                found = made.learn(step, inputs[some], target[some], 1 / count)
                torch.testing.assert_close(losses[some], found, rtol=1e-9, atol=1e-9)
                made.parameters -= made.gradient
    packed.keep([0, 2])
    found = packed.predict(inputs[[0, 2]])
    for lane, made in enumerate((alone[0], alone[2])):
        torch.testing.assert_close(
            found[lane], made.predict(inputs[[0, 2]][[lane]])[0], rtol=1e-9, atol=1e-9
        )


def test_lanes_without_dropout_go_on_when_those_with_it_have_left() -> None:
    packed, alone = networks(SEQUENCES, [1, 2], {2: {"dropout": 0.5}}), networks(SEQUENCES, [1])
    packed.keep([0])
    inputs, target, _ = batch(SEQUENCES, 1)
    for made in (packed, alone):
        made.start_epoch([1])
    losses = [made.learn(0, inputs, target, 1 / 7) for made in (packed, alone)]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_what_stands_after_a_row_s_end_changes_nothing(case: str, lanes: int) -> None:
    made = networks(SEQUENCES, [1, 2][:lanes], **CASES[case])
    inputs, target, lengths = batch(SEQUENCES, lanes)
    made.learn(0, inputs, target, 1 / 7)
    gradient, predicted = made.gradient.clone(), made.predict(inputs)
    after = torch.arange(STEPS) >= lengths.unsqueeze(2)
    spoiled = inputs.clone()
    spoiled[..., :-1].unflatten(2, (STEPS, CHANNELS))[after] = torch.nan
    made.learn(0, spoiled, target, 1 / 7)
    assert torch.equal(made.gradient, gradient)
    assert torch.equal(made.predict(spoiled), predicted)


def test_states_that_explode_after_a_row_s_end_leave_the_gradient_alone() -> None:
    shape = Shape("regression", 401, 1, torch.float32, CPU, dims=(400, 1))
    made = networks(shape, [1, 2], cell="elman", activation="relu", hidden_units=3)
    # The first network grows without bound, the second one has the long rows.
    made.weights["layers.0.weight_hh"].data.fill_(0.1)[0] = 2.0
    made.weights["layers.0.bias"].data.fill_(1.0)
    inputs = torch.zeros(2, 2, 401)
    inputs[..., -1] = torch.tensor([[3.0, 10.0], [400.0, 10.0]])
    made.learn(0, inputs, torch.zeros(2, 2, 1), 1 / 2)
    assert made.gradient.isfinite().all()


def test_a_step_without_a_label_counts_for_nothing() -> None:
    made = networks(TAGS, [1], cell="gru", bidirectional=True)
    inputs, target, _ = batch(TAGS, 1)
    target[0, :, 1::2] = -1
    target[0, 2] = -1
    losses = made.learn(0, inputs, target, 1 / 7)
    assert losses[0, 2] == 0
    outputs = made.predict(inputs).view(1, 7, STEPS, OUTPUTS)
    for row in range(7):
        labelled = target[0, row] >= 0
        if row != 2:
            wanted = functional.cross_entropy(outputs[0, row, labelled], target[0, row, labelled])
            torch.testing.assert_close(losses[0, row], wanted)


@pytest.mark.parametrize("case", CASES)
def test_what_unpack_gives_pack_takes(case: str) -> None:
    made = networks(TEXTS, [1, 2], **CASES[case])
    flat = torch.zeros_like(made.parameters)
    for lane in range(2):
        made.pack(made.unpack(made.parameters, lane), flat, lane)
    assert torch.equal(flat, made.parameters)
    assert rnn.size(made.built, made.shape).numbers == flat.shape[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kernel_for_one_network_computes_what_the_step_by_step_one_does(
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    sizes = [(2, 24, 8, 3), (2, 20, 3), (2, 20, 5), (2, 20)]
    inputs, *weights = (torch.randn(*size, dtype=dtype, requires_grad=True) for size in sizes)
    upstream = torch.randn(2, 24, 8, 5, dtype=dtype)
    ways = [
        fused_lstm(inputs, weights),
        recur(CELLS["lstm"](Space(), "tanh", None), inputs, weights),
    ]
    accuracy = 1e-9 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(*ways, rtol=accuracy, atol=accuracy)
    gradients = [torch.autograd.grad(way, [inputs, *weights], upstream) for way in ways]
    torch.testing.assert_close(*gradients, rtol=accuracy, atol=10 * accuracy)


def test_forget_gates_start_open_and_initial_weights_gate_by_gate() -> None:
    settings = catalog.settings_of(
        catalog.FAMILIES["rnn"],
        {"cell": "lstm", "hidden_units": 8, "bidirectional": True, "initialization": "orthogonal"},
    )
    made = Rnn([settings], [seeding.generator(0, 0, 0)], SEQUENCES)  # type: ignore[list-item]
    arrays = {name: torch.from_numpy(array) for name, array in made.arrays(0).items()}
    bias = arrays["layers.0.bias"].view(2, 4, 8)
    assert (bias[:, 1] == 1).all()
    assert not bias[:, [0, 2, 3]].any()
    for gate in arrays["layers.0.weight_hh"].view(8, 8, 8):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8, dtype=torch.float64))


def test_looking_ahead_is_refused_where_the_next_symbol_is_to_be_told() -> None:
    following = replace(TAGS, outputs=TAGS.symbols - 2)
    networks(following, [0])
    with pytest.raises(errors.InvalidRequest, match=r"params\.bidirectional: a second pass"):
        networks(following, [0], bidirectional=True)
    networks(replace(following, per_step=False), [0], bidirectional=True)
