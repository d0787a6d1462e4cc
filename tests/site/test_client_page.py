"""The examples of docs/client.md run, and the pieces of the client that a template uses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.http import QueryDict
from django.template import Context, Template
from django.test import RequestFactory

from partium_auth.conf import conf
from partium_auth.forms import FacetForm, chosen_filters
from partium_auth.partium.results import Facet, FacetValue
from partium_auth.session import PartiumSession
from partium_auth.testing.people import PartiumUser, log_in
from partium_auth.testing.sandbox import PartiumSandbox

PAGE = (Path(__file__).parents[2] / "docs/client.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def session_of(person: PartiumUser) -> PartiumSession:
    request = RequestFactory().get("/")
    request.user, request.session = person.user, person.client.session
    return PartiumSession(request)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, partium_user: PartiumUser) -> None:
    names: dict[str, Any] = {"client": session_of(partium_user).client}
    exec(compile(EXAMPLES[number], f"docs/client.md, example {number}", "exec"), names)


def test_what_partium_answers_one_person_is_never_served_to_another(
    partium_user: PartiumUser, partium_sandbox: PartiumSandbox
) -> None:
    """What comes back depends on organization and role (Partium, help center: attribute permissions)."""
    for person in (partium_user, log_in(partium_sandbox, "colleague"), log_in(partium_sandbox, "rival", "globex")):
        partium = session_of(person)
        found = partium.client.search(text="fan", facets=True)
        partium.client.page(found.session_id or "", skip=5)
        partium.client.hierarchy()
        partium.client.attributes()
        partium.client.attribute_values("Voltage")
        asked = [call.endpoint for call in partium_sandbox.calls(credential=partium.access_token)]
        assert asked == ["search", "state", "filters", "filters", "filters"], (
            "each call reaches Partium, as this person"
        )


def test_a_link_carries_what_its_page_reports(partium_user: PartiumUser, partium_sandbox: PartiumSandbox) -> None:
    client = session_of(partium_user).client
    found = client.search(text="fan")
    link = Template("{% load partium %}{% partium_viewed part %}").render(Context({"part": found.parts[3]}))
    query = QueryDict(link.replace("&amp;", "&")).dict()
    client.report.viewed_link({name: str(value) for name, value in query.items()})
    client.report.confirmed_link({"partium_id": "../x", "partium_session": "y"})
    (event,) = partium_sandbox.events
    assert event["data"] == {
        "partium_id": found.parts[3].partium_id,
        "search_session_id": found.session_id,
        "index": "3",
    }


def test_facets_are_check_boxes_that_keep_their_state_in_the_url() -> None:
    query = QueryDict("text=fuse&filter.Voltage=220V&filter.Voltage=9V&filter.Color=")
    facets = [Facet("Voltage", [FacetValue("220V", 2), FacetValue("127V", 1)])]
    assert chosen_filters(query) == {"Voltage": ["220V", "9V"]}
    html = FacetForm(facets, query).as_div()
    assert 'value="220V"' in html
    assert "220V (2)" in html
    assert html.count("checked") == 2, "9V is not found any more, and can be given up"


def test_what_partium_does_not_document_is_a_setting(settings: Any) -> None:
    settings.PARTIUM_ASSUMPTIONS = {"page_path": "/x/{session_id}?offset={skip}"}
    assert conf.assumptions.page_path == "/x/{session_id}?offset={skip}"
    wrong: Any
    for wrong in ({"page_paht": "/x"}, {"page_path": "/x/{session}"}, {"page_path": 5}, []):
        settings.PARTIUM_ASSUMPTIONS = wrong
        with pytest.raises(Exception, match="PARTIUM_ASSUMPTIONS"):
            _ = conf.assumptions
