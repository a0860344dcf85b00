from __future__ import annotations

from typing import Any

import pytest

from napari_virst.gui.instances_menu import MAX_OFFERED, InstancesMenu


@pytest.fixture
def menu(qtbot: Any) -> InstancesMenu:
    menu = InstancesMenu()
    qtbot.addWidget(menu)
    return menu


def submenu(menu: InstancesMenu, start: str) -> Any:
    return next(action.menu() for action in menu.actions() if action.text().startswith(start))


def test_track_that_is_not_split_offers_splitting_only(menu: InstancesMenu) -> None:
    assert not submenu(menu, "Merge").isEnabled()
    assert not submenu(menu, "Swap").isEnabled()
    assert any("split the track first" in action.text() for action in menu.actions())


@pytest.mark.parametrize("divides", [False, True], ids=["objects", "cells"])
def test_splitting_is_a_wish(menu: InstancesMenu, qtbot: Any, divides: bool) -> None:
    with qtbot.waitSignal(menu.split_requested) as wished:
        menu.actions()[int(divides)].trigger()
    assert wished.args == [divides]


@pytest.mark.parametrize(
    ("start", "signal"), [("Merge", "merge_requested"), ("Swap", "swap_requested")], ids=["merge", "swap"]
)
def test_pairs_begin_with_the_picked_instance(menu: InstancesMenu, qtbot: Any, start: str, signal: str) -> None:
    menu.show_instances((1, 2, 5), 2)
    actions = submenu(menu, start).actions()
    assert len(actions) == 2
    with qtbot.waitSignal(getattr(menu, signal)) as wished:
        actions[1].trigger()
    assert wished.args == [2, 5]


@pytest.mark.parametrize("divides", [False, True], ids=["objects", "cells"])
def test_picked_instance_can_be_split_by_itself(menu: InstancesMenu, qtbot: Any, divides: bool) -> None:
    menu.show_instances((1, 2), 2)
    start = "Instance 2 divides" if divides else "Split instance 2"
    action = next(action for action in menu.actions() if action.text().startswith(start))
    with qtbot.waitSignal(menu.split_one_requested) as wished:
        action.trigger()
    assert wished.args == [2, divides]


@pytest.mark.parametrize(("row", "parent"), [(0, 0), (1, 1)], ids=["nothing", "another"])
def test_parent_of_the_picked_instance_can_be_chosen(menu: InstancesMenu, qtbot: Any, row: int, parent: int) -> None:
    menu.show_instances((1, 2), 2)
    with qtbot.waitSignal(menu.parent_requested) as wished:
        submenu(menu, "Instance 2 came from").actions()[row].trigger()
    assert wished.args == [2, parent]


def test_what_was_not_picked_must_be_picked_first(menu: InstancesMenu) -> None:
    menu.show_instances((1, 2), 9)
    assert not submenu(menu, "Merge").isEnabled()
    assert any("pick an instance" in action.text() for action in menu.actions())


def test_hundreds_of_instances_do_not_fill_the_screen(menu: InstancesMenu) -> None:
    menu.show_instances(tuple(range(1, 400)), 1)
    assert len(submenu(menu, "Merge").actions()) == MAX_OFFERED
