"""The catalog's data hold together, and what a search finds in them: words, languages, machines, highlights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from partium_auth.testing.sandbox.catalog import ASSEMBLIES, KINDS, LANGUAGES, PARTS, parts_of, translated
from partium_auth.testing.sandbox.find import language_of, result, search_image, search_text, words_of
from partium_auth.testing.sandbox.pictures import part_number_in, part_png

PICTURES = Path(__file__).parents[2] / "example_project" / "static" / "portal"


def found(text: str, language: str = "en", organization: str = "acme") -> list[str]:
    return [part.id for part in search_text(organization, language, words_of(text))]


def shown(text: str, language: str = "en", organization: str = "acme") -> dict[str, Any]:
    words = words_of(text)
    part = search_text(organization, language, words)[0]
    return result(part, organization, language, words, "https://sandbox.example")


def test_every_part_is_mounted_somewhere_and_every_assembly_belongs_to_a_machine() -> None:
    assert len({part.id for part in PARTS}) == len(PARTS)
    assert all(part.assemblies and set(part.assemblies) <= set(ASSEMBLIES) for part in PARTS)
    assert all(one.parent in ASSEMBLIES for one in ASSEMBLIES.values() if one.parent is not None)


def test_every_name_and_label_is_translated() -> None:
    texts = {one.name for one in ASSEMBLIES.values()} | {part.name for part in PARTS}
    texts |= {label for part in PARTS for label in part.attributes} | {"Size"}
    assert [text for text in texts if all(translated(text, language) == text for language in LANGUAGES[1:])] == []


def test_every_kind_has_a_picture_in_the_example_project_and_parts_for_everybody() -> None:
    for kind in KINDS:
        assert (PICTURES / "parts" / f"{kind}.svg").exists()
        for organization in ("acme", "globex"):
            assert len([part for part in parts_of(organization) if part.kind == kind]) >= 2, kind


def test_every_part_has_a_picture_that_names_it() -> None:
    for part in PARTS:
        assert part_number_in(part_png(part.id) or b"") == part.id
    assert part_png("AF9999") is None


@pytest.mark.parametrize(
    ("language", "text", "kind"),
    [
        ("en", "fan", "fan"),
        ("en", "FUSE", "fuse"),
        ("en", "bear", "bearing"),
        ("de", "Lüfter", "fan"),
        ("de", "lufter", "fan"),
        ("de", "Kugellager", "bearing"),
        ("fr", "filtre à huile", "filter"),
        ("es", "válvula", "valve"),
        ("it", "cinghia dentata", "belt"),
    ],
)
def test_words_find_parts_in_the_language_of_the_search(language: str, text: str, kind: str) -> None:
    ids = found(text, language)
    assert ids
    assert {part.kind for part in PARTS if part.id in ids} == {kind}


def test_another_language_and_nonsense_find_nothing() -> None:
    assert found("Lüfter", "en") == found("bearing", "de") == found("xqzwv") == found("  ") == []


def test_all_words_have_to_occur_also_in_attributes() -> None:
    assert found("axial fan 120 24") == ["AF1007"]
    assert found("stainless valve") == ["BV1502"]
    assert found("fuse acme 220V") == ["GF2302"]


def test_a_part_number_comes_first() -> None:
    assert found("of1102") == ["OF1102"]
    assert found("GF23") == ["GF2301", "GF2302", "GF2303"]


def test_a_name_that_fits_comes_before_an_attribute_that_fits() -> None:
    assert found("glass") == ["GF2301", "GF2302", "GF2303"]
    assert found("steel")[0] == "CF1021"


def test_an_organization_finds_what_is_in_its_machines() -> None:
    assert found("geared motor", organization="acme") == ["GM1611"]
    assert found("geared motor", organization="globex") == []
    assert found("63 cm", organization="globex") == ["GP1803"]
    assert found("63 cm", organization="acme") == found("63 cm", organization="initech") == []
    assert found("oil filter", organization="initech") == ["OF1101", "OF1102", "OF1103"]


def test_places_are_counted_in_the_machines_of_the_organization() -> None:
    counts = [shown("GF2302", organization=one)["mountingLocationsCount"] for one in ("acme", "initech")]
    assert counts == [2, 1]


def test_a_photo_without_a_number_stands_always_for_the_same_kind() -> None:
    kinds = {part.kind for part in search_image("acme", "en", b"any photo", ())}
    assert len(kinds) == 1
    assert kinds == {part.kind for part in search_image("acme", "en", b"any photo", ())}


def test_labels_and_values_are_translated() -> None:
    german = shown("Gusseisen Scheibe", "de")
    assert german["nameLanguage"] == "de"
    assert german["name"] == "Bremsscheibe 300 mm"
    assert {"label": "Werkstoff", "value": "Gusseisen"} in german["attributes"]


def test_highlights_mark_the_words_in_id_name_and_the_first_attribute_that_fits() -> None:
    marks = shown("axial polyamide")["highlights"]
    assert marks["snippet"] == "Material: Polyamide"
    assert marks["indices"] == {"id": [], "name": [{"from": 0, "to": 5}], "snippet": [{"from": 10, "to": 19}]}
    assert shown("Lüfter", "de")["highlights"]["indices"]["name"] == [{"from": 5, "to": 11}]
    assert shown("af1001")["highlights"] == {
        "snippet": "",
        "indices": {"id": [{"from": 0, "to": 6}], "name": [], "snippet": []},
    }


@pytest.mark.parametrize(
    ("asked", "fallback", "language"),
    [("de", "en", "de"), ("de-AT", "en", "de"), ("DE_at", "en", "de"), ("ja", "it", "it"), ("ja", "zh", "en")],
)
def test_a_language_is_chosen(asked: str, fallback: str, language: str) -> None:
    assert language_of(asked, fallback) == language
