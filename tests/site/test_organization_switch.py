"""``{% partium_organization_switch %}``: the form in a site's own page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client
from django.urls import include, path

from partium_auth.models import Membership, Organization
from partium_auth.testing import PartiumUser, log_in
from partium_auth.testing.sandbox import PartiumSandbox

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def page(request: HttpRequest) -> HttpResponse:
    text = "{% load partium %}{% partium_organization_switch next=request.GET.then %}"
    return HttpResponse(engines["django"].from_string(text).render({}, request))


urlpatterns = [path("page/", page), path("partium/", include("partium_auth.urls"))]


class Form(HTMLParser):
    """The fields of the page's form, and its options."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(response.content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def fields(self) -> dict[str, str]:
        return {str(one["name"]): one["value"] or "" for one in self.of("input")}


@pytest.fixture
def ann(partium_sandbox: PartiumSandbox) -> PartiumUser:
    ann = log_in(partium_sandbox, "ann", "acme", client=Client(enforce_csrf_checks=True))
    globex = Organization.objects.create(org_id="globex", display_name='Globex <i>"&')
    Membership.objects.create(user=ann.user, organization=globex)
    return ann


def active(person: PartiumUser) -> str | None:
    (chosen,) = [one for one in Form(person.client.get("/page/")).of("option") if "selected" in one]
    return chosen["value"]


def test_the_form_switches_and_comes_back_to_the_page(ann: PartiumUser) -> None:
    form = Form(ann.client.get("/page/?q=a&b=%22"))
    assert [one["value"] for one in form.of("option")] == ["acme", "globex"]
    assert active(ann) == "acme"
    (attributes,) = form.of("form")
    response = ann.client.post(str(attributes["action"]), {**form.fields, "organization": "globex"})
    assert (response.status_code, response["Location"]) == (302, "/page/?q=a&b=%22")
    assert active(ann) == "globex"


def test_a_page_says_where_the_switch_leads(ann: PartiumUser) -> None:
    assert Form(ann.client.get("/page/?then=/parts/")).fields["next"] == "/parts/"


def test_names_and_addresses_are_escaped(ann: PartiumUser) -> None:
    html = ann.client.get("/page/", {"q": '"><script>'}).content.decode()
    assert "Globex &lt;i&gt;&quot;&amp;" in html
    assert "<script" not in html


def test_it_needs_neither_script_nor_style_and_its_field_has_a_label(ann: PartiumUser) -> None:
    html = ann.client.get("/page/").content.decode()
    assert not re.search(r"<script|<style|\sstyle=|\son[a-z]+=|\sid=", html)
    label = html[html.index("<label>") : html.index("</label>")]
    assert "Organization" in label
    assert "<select" in label


def test_a_person_whose_organization_was_closed_chooses_another(ann: PartiumUser) -> None:
    Organization.objects.create(org_id="third").memberships.create(user=ann.user)
    Organization.objects.filter(org_id="acme").update(is_active=False)
    options = Form(ann.client.get("/page/")).of("option")
    assert {one["value"] for one in options[1:]} == {"globex", "third"}
    assert (options[0]["value"], "selected" in options[0]) == ("", True)


def test_nothing_is_shown_where_there_is_nothing_to_choose(client: Client, partium_user: PartiumUser) -> None:
    assert partium_user.client.get("/page/").content.strip() == b""
    assert client.get("/page/").content.strip() == b""
