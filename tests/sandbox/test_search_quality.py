"""What a search finds: languages, typos, ranking, highlights; and that the catalog is the same every time."""

import subprocess
import sys
from typing import Any

import pytest

from partium_auth.testing.sandbox.catalog import (
    CATEGORIES,
    LANGUAGES,
    MATERIALS,
    PARTS_PER_ORGANIZATION,
    Catalog,
    catalog_of,
    category_of,
)
from partium_auth.testing.sandbox.drawings import part_png, part_svg
from partium_auth.testing.sandbox.find import (
    highlights,
    language_index,
    part_number_in,
    ranges,
    search_image,
    search_text,
    within_edits,
)


def _found(text: str, language: str = "en", organization: str = "acme") -> list[str]:
    found = search_text(organization, LANGUAGES.index(language), text)
    return [catalog_of(organization).parts[one].category.slug for one in found.parts]


@pytest.mark.parametrize(
    ("language", "text", "slug"),
    [
        ("en", "fan", "fans"),
        ("en", "FANS", "fans"),
        ("de", "Lüfter", "fans"),
        ("de", "lufter", "fans"),
        ("de", "Luefter", "fans"),
        ("de", "Ventilator", "fans"),
        ("fr", "ventilateur", "fans"),
        ("es", "ventilador", "fans"),
        ("it", "ventola", "fans"),
        ("en", "bearng", "bearings"),
        ("en", "baering", "bearings"),
        ("de", "Kugellager", "bearings"),
        ("de", "Lager", "bearings"),
        ("fr", "roulement à billes", "bearings"),
        ("en", "filtr", "filters"),
        ("es", "filtro de aceite", "filters"),
        ("de", "Dichtung", "seals"),
        ("en", "timing belt", "belts"),
        ("it", "cinghia", "belts"),
        ("fr", "électrovanne", "valves"),
        ("fr", "electrovanne", "valves"),
        ("de", "Schrittmotor", "motors"),
        ("en", "proximity", "sensors"),
        ("de", "Pumpe", "pumps"),
    ],
)
def test_people_find_what_they_mean(language: str, text: str, slug: str) -> None:
    found = _found(text, language)
    assert len(found) >= 20
    assert set(found) == {slug}


def test_two_words_for_the_same_thing_find_the_same_parts() -> None:
    german = LANGUAGES.index("de")
    english = LANGUAGES.index("en")
    parts = set(search_text("acme", german, "Lüfter").parts)
    assert (
        parts == set(search_text("acme", german, "Ventilator").parts) == set(search_text("acme", english, "fan").parts)
    )


def test_another_language_is_not_searched() -> None:
    assert _found("Lüfter", "en") == []
    assert _found("bearing", "de") == []


def test_nonsense_finds_nothing() -> None:
    assert _found("xqzwv") == []
    assert _found("***") == []


@pytest.mark.parametrize("write", [str, str.lower, lambda one: f" {one[:2]}-{one[2:5]} {one[5:]} "])
def test_a_part_number_comes_first_however_it_is_written(write) -> None:  # type: ignore[no-untyped-def]
    catalog = catalog_of("acme")
    for index in (0, 7, 1234):
        assert search_text("acme", 0, write(catalog.parts[index].id)).parts[0] == index


def test_a_manufacturers_number_finds_its_part_first() -> None:
    part = catalog_of("acme").parts[42]
    first = search_text("acme", 0, part.manufacturer_part_number).parts[0]
    assert catalog_of("acme").parts[first].manufacturer_part_number == part.manufacturer_part_number


def test_the_beginning_of_a_part_number_finds_all_that_begin_so() -> None:
    catalog = catalog_of("acme")
    begun = catalog.parts[3].id[:6]
    expected = {index for index, part in enumerate(catalog.parts) if part.id.startswith(begun)}
    assert set(search_text("acme", 0, begun).parts) == expected


def test_all_words_have_to_fit_where_they_can() -> None:
    catalog = catalog_of("acme")
    found = [catalog.parts[one] for one in search_text("acme", 0, "axial fan 120").parts]
    assert found
    assert all("Axial fan 120" in part.name(0) for part in found)


def test_attributes_are_searched() -> None:
    catalog = catalog_of("acme")
    found = [catalog.parts[one] for one in search_text("acme", 0, "stainless valve").parts]
    assert found
    assert {part.material for part in found} == {"stainless"}
    assert {part.category.slug for part in found} == {"valves"}


def test_a_name_that_fits_comes_before_a_keyword_that_fits() -> None:
    catalog = catalog_of("acme")
    found = search_text("acme", LANGUAGES.index("de"), "lüfter").parts
    names = ["lüfter" in catalog.parts[one].name(1).lower() for one in found]
    assert names == sorted(names, reverse=True)
    assert False in names
    assert True in names


def test_words_that_nothing_knows_do_not_hide_the_rest() -> None:
    assert _found("please xqzwv fan")[0] == "fans"


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("Axial fan 60 mm", {"fan": "fan"}, [(6, 9)]),
        ("Kühllüfter 80 mm", {"kuhllufter": "lufter"}, [(4, 10)]),
        ("Needle bearing", {"bearing": "bear"}, [(7, 11)]),
        ("Needle bearing", {"bearing": "bearng"}, [(7, 14)]),
        ("Groß fan", {"gross": "gros"}, [(0, 4)]),
        ("Axial fan 60 mm", {}, []),
        ("O-ring 8 × 2 mm", {"o": "o", "ring": "ring"}, [(0, 1), (2, 6)]),
    ],
)
def test_ranges_mark_what_fits(name: str, words: dict[str, str], expected: list[tuple[int, int]]) -> None:
    assert [(one["from"], one["to"]) for one in ranges(name, words)] == expected


def _highlights(text: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The texts of the first part that is found, and its highlights."""
    found = search_text("acme", 0, text)
    part = catalog_of("acme").parts[found.parts[0]]
    shown = highlights(part.id, part.name(0), part.attributes(0), found.words)
    return {"id": part.id, "name": part.name(0), "snippet": shown["snippet"]}, shown


def _marked(text: str) -> dict[str, list[str]]:
    texts, shown = _highlights(text)
    return {name: [texts[name][one["from"] : one["to"]] for one in marks] for name, marks in shown["indices"].items()}


def test_the_highlights_of_a_typo_mark_the_word_that_was_meant() -> None:
    assert _marked("bearng")["name"] == ["bearing"]


def test_an_attribute_that_fits_is_the_snippet() -> None:
    texts, _ = _highlights("fan polyamide")
    assert texts["snippet"].startswith("Material: Polyamide")
    assert _marked("fan polyamide")["snippet"] == ["Polyamide"]
    assert _highlights("axial")[0]["snippet"] == ""


def test_a_part_number_is_marked_where_it_was_asked_for() -> None:
    number = catalog_of("acme").parts[0].id
    assert _marked(number) == {"id": [number], "name": [], "snippet": []}


@pytest.mark.parametrize(
    ("left", "right", "edits"),
    [
        ("fan", "fan", 0),
        ("bearng", "bearing", 1),
        ("baering", "bearing", 1),
        ("fan", "pump", None),
        ("ab", "abcd", None),
    ],
)
def test_edits_are_counted(left: str, right: str, edits: int | None) -> None:
    assert within_edits(left, right, 1) == edits == within_edits(right, left, 1)


@pytest.mark.parametrize(
    ("asked", "fallback", "language"),
    [("de", "en", "de"), ("de-AT", "en", "de"), ("DE_at", "en", "de"), ("ja", "it", "it"), ("ja", "zh", "en")],
)
def test_a_language_is_chosen(asked: str, fallback: str, language: str) -> None:
    assert LANGUAGES[language_index(asked, fallback)] == language


def test_organizations_have_different_parts_with_unique_ids() -> None:
    acme, globex = catalog_of("acme"), catalog_of("globex")
    assert len(acme.by_id) == len(acme.parts) == PARTS_PER_ORGANIZATION
    assert not set(acme.by_id) & set(globex.by_id)
    assert [part.name(0) for part in acme.parts] != [part.name(0) for part in globex.parts]


def test_the_catalog_is_the_same_in_every_process() -> None:
    code = (
        "from partium_auth.testing.sandbox.catalog import Catalog; print(*(repr(p) for p in Catalog('acme', 50).parts))"
    )
    once, again = (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60).stdout
        for _ in range(2)
    )
    assert once == again
    assert len(once) > 1000


def test_organizations_with_unusual_ids_have_parts_too() -> None:
    for org_id in ("x", "日本", "-"):
        part = Catalog(org_id, 20).parts[0]
        assert category_of(part.id) is part.category


def test_every_text_exists_in_every_language() -> None:
    for category in CATEGORIES:
        assert len(category.keywords) == len(LANGUAGES)
        assert all(len(variant) == len(LANGUAGES) for variant in category.variants)
        assert set(category.materials) <= set(MATERIALS)


def test_every_category_can_be_drawn() -> None:
    catalog = catalog_of("acme")
    pictures = {part_svg(part.id) for part in catalog.parts[: len(CATEGORIES)]}
    assert len(pictures) == len(CATEGORIES)
    assert None not in pictures
    assert all(part_png(part.id) for part in catalog.parts[: len(CATEGORIES)])
    assert part_svg("unknown") is part_png("unknown") is None


def test_a_drawing_carries_its_number_as_png_and_a_jpeg_can_too() -> None:
    assert part_number_in(part_png("AC1000001") or b"") == "AC1000001"
    comment = b"PartNumber=AC1000001"
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + b"\xff\xda"
    assert part_number_in(jpeg) == "AC1000001"


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt",
        b"\xff\xd8\xff\xfe\x00\x00\xff\xfe\x00\x00",
        b"\xff\xd8\xff",
        b"GIF89a",
    ],
)
def test_an_image_without_a_number_has_none(image: bytes) -> None:
    assert part_number_in(image) is None


def test_an_image_search_shows_the_same_kind_before_others_and_prefers_what_fits_the_text() -> None:
    catalog = catalog_of("acme")
    shown = catalog.parts[0]
    found = [catalog.parts[one] for one in search_image("acme", 0, part_png(shown.id) or b"", None).parts]
    assert found[0] is shown
    kinds = [part.variant == shown.variant for part in found]
    assert kinds == sorted(kinds, reverse=True)
    with_text = search_image("acme", 0, part_png(shown.id) or b"", "230 V")
    first = catalog.parts[with_text.parts[0]]
    assert "230 V" in first.name(0)
    assert first.category is shown.category


@pytest.mark.parametrize("slug", ["fans", "gears", "valves"])
def test_an_image_of_another_organizations_part_finds_the_same_kind_of_thing(slug: str) -> None:
    theirs = next(part for part in catalog_of("acme").parts if part.category.slug == slug)
    catalog = catalog_of("globex")
    found = search_image("globex", 0, part_png(theirs.id) or b"", None).parts
    assert found
    assert {catalog.parts[one].category.slug for one in found} == {slug}
