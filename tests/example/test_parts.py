"""Whatever form Partium's answer has, a card shows what it can and never fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from example_project.parts import card
from partium_auth.partium.part import Attributes, Part

PART = Part(
    id="AC1048213",
    partium_id=None,
    name="Axial fan",
    name_language="en",
    preview_data=None,
    images=[],
    mounting_locations_count=None,
    created_at=None,
    modified_at=None,
    attributes=Attributes(None),
    highlights=None,
    raw={},
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text() | st.sampled_from(["label", "value", "url", "kind", "start", "indices", "from", "to"]), inner
        )
    ),
    max_leaves=8,
)


def pairs(part: Part) -> list[tuple[str, str]]:
    shown = card(part)
    return [*shown.key_attributes, *shown.further_attributes]


def test_a_name_is_cut_where_its_highlights_are() -> None:
    highlights = {
        "snippet": "x",
        "indices": {"id": [{"from": 0, "to": 12}], "name": [{"from": 0, "to": 5}, {"from": 6, "to": 9}]},
    }

    name = card(replace(PART, name="Axial fan 60", highlights=highlights)).name

    assert [(piece.text, piece.marked) for piece in name.pieces] == [
        ("Axial", True),
        (" ", False),
        ("fan", True),
        (" 60", False),
    ]


@pytest.mark.parametrize(
    "highlight",
    [
        None,
        7,
        {},
        {"from": 3, "to": 3},
        {"from": 5, "to": 99},
        {"from": "0", "to": "2"},
        {"from": -1, "to": 2},
        {"from": 0},
        {"from": 0.0, "to": 2.0},
    ],
)
def test_a_highlight_that_fits_nowhere_marks_nothing(highlight: Any) -> None:
    for highlights in ([highlight], {"indices": {"name": [highlight]}}, {"indices": {"name": highlight}}, highlight):
        name = card(replace(PART, name="Fan", highlights=highlights)).name
        assert [(piece.text, piece.marked) for piece in name.pieces] == [("Fan", False)]


def test_a_part_without_a_name_is_shown_by_its_number() -> None:
    assert str(card(replace(PART, name=None)).name) == "AC1048213"


def test_only_web_addresses_are_used() -> None:
    images = [{"url": "javascript:alert(1)"}, {"url": "https://cdn.example/2.png"}]

    assert card(replace(PART, images=images)).image_url == "https://cdn.example/2.png"
    assert card(PART).image_url == ""


def test_a_kind_that_the_site_has_a_picture_of_is_shown_with_it() -> None:
    images = [{"url": "https://cdn.example/1.png"}]

    assert card(replace(PART, preview_data={"kind": "fan"}, images=images)).image_url == "/static/portal/parts/fan.svg"
    assert card(replace(PART, preview_data={"kind": "../x"}, images=images)).image_url == "https://cdn.example/1.png"


def test_attributes_are_shown_with_their_labels() -> None:
    listed = [{"label": "Material", "value": "Steel"}, {"label": "rpm", "value": 900}, {"label": "Empty"}, 7]

    assert pairs(replace(PART, attributes=Attributes(listed))) == [("Material", "Steel"), ("rpm", "900")]


def test_three_attributes_are_shown_and_the_rest_folded_away() -> None:
    shown = card(replace(PART, attributes=Attributes([{"label": str(number), "value": "x"} for number in range(5)])))

    assert len(shown.key_attributes) == 3
    assert len(shown.further_attributes) == 2


@given(anything=ANYTHING, images=st.lists(ANYTHING))
def test_odd_answers_are_shown_as_far_as_they_go(anything: Any, images: list[Any]) -> None:
    odd = replace(PART, preview_data=anything, images=images, attributes=Attributes(anything), highlights=anything)

    assert str(card(odd).name) == "Axial fan"
