from __future__ import annotations

import torch

from napari_virst.model.fusion import PresenceReader
from napari_virst.training.auxiliary import (
    Alignment,
    PathReader,
    TopicReader,
    classes_of,
    owner_cells,
    pointing_loss,
    there_loss,
)
from napari_virst.training.scene_lessons import STILL_TOPICS, TOPICS


class Lesson(torch.nn.Module):
    def __init__(self, reader):
        super().__init__()
        self.reader = reader

    def forward(self, hidden, pointed, masks):
        return there_loss(self.reader(hidden, pointed), masks)


def fall(module, *inputs, steps=30, rate=0.05):
    """Loss before and after training a module alone."""
    optimiser = torch.optim.Adam(module.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        loss = module(*inputs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def test_cell_belongs_to_the_highest_object_in_it():
    owners = torch.zeros(1, 8, 8, dtype=torch.uint8)
    owners[0, :4] = 1
    owners[0, 1, 5] = 3
    cells = owner_cells(owners, 2)
    assert cells.tolist() == [[[1, 3], [0, 0]]]


def test_classes_follow_owners_and_background_has_none():
    facts = torch.tensor([[[4, 2], [5, -1]]])
    owners = torch.tensor([[[0, 1], [2, 0]]])
    assert classes_of(owners, facts).tolist() == [[[[-1, -1], [4, 2]], [[5, -1], [-1, -1]]]]


def test_pointing_is_learned_where_prompts_tell_cells_apart():
    torch.manual_seed(0)
    maps = torch.randn(2, 8, 4, 4)
    target = torch.zeros(2, 16, 16)
    target[0, :8, :8] = target[1, 8:, 8:] = 1
    before, after = fall(Alignment(8), torch.randn(2, 3, 8), maps, target)
    assert after < 0.5 * before


def test_pointing_costs_least_where_the_tokens_that_show_the_answer_are_named():
    shares = torch.eye(2, 6)
    right, wrong = pointing_loss(8 * shares - 4, shares), pointing_loss(4 - 8 * shares, shares)
    assert right < 0.05 < 1 < wrong


def test_a_path_is_read_where_the_target_is_seen():
    torch.manual_seed(0)
    masks = torch.zeros(2, 4, 16, 16)
    masks[0, :, 2:4, 2:4] = masks[1, 2:, 12:14, 4:6] = 1
    reader, hidden = PathReader(8), torch.randn(2, 3, 8)
    before, after = fall(reader, hidden, masks)
    assert after < 0.3 * before
    assert reader(hidden, torch.zeros_like(masks)) == 0


def test_topics_are_read_where_they_are_known():
    torch.manual_seed(0)
    classes = torch.full((5, len(TOPICS)), -1)
    classes[:3, 0] = torch.tensor([1, 2, 3])
    reader, cells = TopicReader(8, ("colour",)), torch.randn(5, 8)
    before, after = fall(reader, cells, classes)
    assert after < 0.2 * before
    assert reader.read(cells[:3]).argmax(1).tolist() == [1, 2, 3]


def test_cells_without_objects_teach_nothing():
    cells = torch.randn(5, 8, requires_grad=True)
    loss = TopicReader(8, STILL_TOPICS)(cells, torch.full((5, len(TOPICS)), -1))
    loss.backward()
    assert loss.item() == 0
    assert not cells.grad.any()


def test_what_is_nowhere_is_learned_with_and_without_a_pointer():
    torch.manual_seed(0)
    masks = torch.zeros(4, 2, 8, 8)
    masks[:2, 1, :4] = 1
    for pointed in (None, torch.randn(4, 5)):
        reader, hidden = PresenceReader(8), torch.randn(4, 3, 8)
        before, after = fall(Lesson(reader), hidden, pointed, masks, steps=60)
        assert after < 0.3 * before


def test_topics_that_nothing_is_known_of_cost_nothing():
    torch.manual_seed(0)
    reader, cells = TopicReader(8, tuple(TOPICS)), torch.randn(6, 8)
    classes = torch.full((6, len(TOPICS)), -1)
    classes[:4, 0] = torch.arange(4)
    loss = reader(cells, classes)
    assert bool(loss.isfinite())
    classes[:4, -1] = 1
    assert reader(cells, classes) > loss
