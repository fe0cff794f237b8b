"""What augmentation draws, and that it does to images what was drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hpo_service import catalog
from workers.models.augmentation import Augmentation
from workers.models.base import Shape
from workers.models.cnn import Cnn
from workers.training import seeding

SIDE, ROWS = 5, 16


def augmentation(*params: dict[str, Any], sides: tuple[int, int] = (SIDE, SIDE)) -> Augmentation:
    family, shared = catalog.FAMILIES["cnn"], {"batch_size": ROWS}
    settings = [catalog.settings_of(family, shared | each) for each in params]
    rngs = [seeding.generator(lane, 0, 0) for lane in range(len(settings))]
    return Augmentation(settings, rngs, sides, torch.empty(0))


def images(lanes: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    """Every pixel of a row is another number, none is 0; the second channel is the first + 100."""
    numbers = torch.arange(1.0, ROWS * height * width + 1).view(1, ROWS, 1, height, width)
    return torch.cat([numbers, numbers + 100], 2).expand(lanes, -1, -1, -1, -1)


def moved(image: Tensor, down: int, right: int) -> Tensor:
    found = torch.zeros_like(image)
    height, width = image.shape[1:]
    for y in range(max(0, down), min(height, height + down)):
        for x in range(max(0, right), min(width, width + right)):
            found[:, y, x] = image[:, y - down, x - right]
    return found


def test_a_shifted_image_is_the_shift() -> None:
    made = augmentation({"shift": 2})
    made.start([2])
    before = images(1)
    after = made.apply(1, before, None)[0]
    found = set()
    for row in range(ROWS):
        found |= {
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(after[0, row], moved(before[0, row], down, right))
        }
    assert len(found) > 5
    assert {-2, 2} <= {down for down, _ in found} & {right for _, right in found}


def test_a_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    made = augmentation({"flip": True})
    made.start([20])
    before, mirrored = images(1), 0
    for step in range(20):
        after = made.apply(step, before, None)[0]
        for row in range(ROWS):
            flipped = torch.equal(after[0, row], before[0, row].flip(2))
            assert flipped or torch.equal(after[0, row], before[0, row])
            mirrored += flipped
    assert 0.4 < mirrored / (20 * ROWS) < 0.6


def test_a_crop_keeps_a_window_and_zeros_the_rest() -> None:
    made = augmentation({"crop": 2})
    made.start([1])
    before = images(1)
    after = made.apply(0, before, None)[0]
    corners = set()
    for row in range(ROWS):
        kept = after[0, row, 0] != 0
        top, left = (int(kept.any(dim).int().argmax()) for dim in (1, 0))
        window = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        window[top : top + 3, left : left + 3] = True
        assert torch.equal(after[0, row], before[0, row] * window)
        corners.add((top, left))
    assert len(corners) > 3


def test_signals_move_in_time_with_their_length() -> None:
    made = augmentation({"shift": 3}, sides=(1, 8))
    made.start([1])
    before, lengths = images(1, 1, 8), torch.full((1, ROWS), 2.0)
    before = before * (torch.arange(8) < 2)
    after, ends = made.apply(0, before, lengths)
    assert ends is not None
    shifts = (ends - 2).long()[0].tolist()
    # A row of two steps can move back by one at most: something of it stays.
    assert set(shifts) == {-1, 0, 1, 2, 3}
    for row, right in enumerate(shifts):
        assert torch.equal(after[0, row], moved(before[0, row], 0, right))


def test_draws_do_not_depend_on_other_lanes() -> None:
    params = [{"shift": 1}, {}, {"flip": True, "crop": 1, "shift": 2}]
    packed = augmentation(*params)
    packed.start([3, 1, 2])
    before = images(3)
    assert torch.equal(packed.apply(0, before, None)[0][1], before[1])
    for lane, steps in ((0, 3), (2, 2)):
        alone = augmentation(params[lane])
        alone._rngs = [seeding.generator(lane, 0, 0)]
        alone.start([steps])
        for step in range(steps):
            found = packed.apply(step, before, None)[0][lane]
            assert torch.equal(found, alone.apply(step, before[:1], None)[0][0])


@pytest.mark.parametrize("params", [{"shift": 2}, {"flip": True}, {"crop": 2}])
def test_only_training_rows_are_changed(params: dict[str, Any]) -> None:
    shape = Shape("classification", 25, 3, torch.float64, torch.device("cpu"), dims=(1, 5, 5))
    family = catalog.FAMILIES["cnn"]
    nets = []
    for changes in (params, {}):
        settings: Any = catalog.settings_of(
            family, changes | {"batch_size": ROWS, "dropout": 0.0, "normalization": "none"}
        )
        nets.append(Cnn([settings], [seeding.generator(0, 0, 0)], shape))
        nets[-1].start_epoch([1])
    inputs = images(1)[:, :, 0].flatten(2).double() / 100
    torch.testing.assert_close(nets[0].predict(inputs), nets[1].predict(inputs))
    target = torch.zeros(1, ROWS, dtype=torch.int64)
    losses = [net.learn(0, inputs, target, 1 / ROWS) for net in nets]
    assert not torch.allclose(*losses)
