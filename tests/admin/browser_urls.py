"""The admin, and a page whose person searches again and again while keys come and go."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from partium_auth import PartiumRequest
from tests.admin.urls import urlpatterns as admin_urls

PAGE = """<!doctype html><title>Searching</title><script>
window.answers = [];
(async () => {
  for (;;) {
    const response = await fetch("/search/");
    window.answers.push(response.status);
    await new Promise((go) => setTimeout(go, 20));
  }
})();
</script>"""


def searching(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE)


def search(request: PartiumRequest) -> HttpResponse:
    found = request.partium.client.search(text="fan")
    return JsonResponse({"parts": len(found.results)})


urlpatterns = [*admin_urls, path("searching/", searching), path("search/", search)]
