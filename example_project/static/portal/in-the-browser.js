/* The page "In the browser": searches with the SDK (here: its stand-in) that partium_auth has started with a token. */
(() => {
  "use strict";

  const log = document.getElementById("browser-log");
  const form = document.getElementById("browser-search");
  const results = document.getElementById("browser-results");
  let starts = 0;

  function note(text) {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = new Date().toLocaleTimeString(document.documentElement.lang);
    item.append(time, text);
    if (starts < 2 && log.children.length === 1 && !log.querySelector("time")) log.replaceChildren();
    log.prepend(item);
    while (log.children.length > 8) log.lastElementChild.remove();
  }

  function explain(title, text) {
    const box = document.getElementById("browser-note").content.cloneNode(true);
    box.querySelector("h2").textContent = title;
    box.querySelector("p").textContent = text;
    results.replaceChildren(box);
  }

  document.addEventListener("partium:ready", () => {
    starts += 1;
    note(starts === 1 ? gettext("The SDK was started with an access token.") : gettext("The SDK was started again with a new access token."));
    form?.querySelector("button").removeAttribute("disabled");
  });

  document.addEventListener("partium:login", () => {
    note(gettext("The session has ended: log in again."));
    if (form) explain(gettext("You are logged out"), gettext("Load the page again to log in."));
  });

  document.addEventListener("partium:reload", () => location.reload());

  function show(found, text, startedAt) {
    const parts = found.searchResults;
    const known = { text, count: parts.length, time: Math.round(performance.now() - startedAt) };
    note(interpolate(gettext("Partium answered “%(text)s” with %(count)s parts in %(time)s ms."), known, true));
    if (!parts.length) {
      explain(interpolate(gettext("No part found for “%s”"), [text]), gettext("Try fewer or more general words."));
      return;
    }
    const title = document.createElement("h2");
    title.textContent = interpolate(gettext("Parts for “%s”"), [text]);
    const list = document.createElement("ul");
    list.className = "results";
    for (const part of parts) {
      const card = document.getElementById("browser-card").content.cloneNode(true);
      const picture = card.querySelector("img");
      picture.addEventListener("error", () => picture.remove());
      picture.src = `${form.dataset.pictures}${encodeURIComponent(part.previewData?.kind ?? "")}.svg`;
      card.querySelector(".number").textContent = part.id;
      card.querySelector("h3").textContent = part.name ?? part.id;
      list.append(card);
    }
    results.replaceChildren(title, list);
  }

  function explainFailure({ status }) {
    note(gettext("The search failed."));
    if (status === 429 || status === 503) explain(gettext("Partium is busy"), gettext("Wait a few seconds and search again."));
    else if (status === 401) explain(gettext("The token was not accepted"), gettext("Load the page again to get another one."));
    else if (status === 403) explain(gettext("You may not search this catalog"), gettext("Switch to another organization."));
    else explain(gettext("Partium did not answer"), gettext("Check your connection to the network and search again."));
  }

  let running = null;

  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = form.elements.text.value.trim();
    if (!text) return;
    running?.unsubscribe(); // only the newest search is shown
    results.setAttribute("aria-busy", "true");
    const startedAt = performance.now();
    const input = { organizationName: form.dataset.organization, searchLanguage: "en", text };
    running = window.Partium.search.performSearch(input, {}, ["id", "name", "previewData"], { limit: 6 }).subscribe(
      (found) => { results.setAttribute("aria-busy", "false"); show(found, text, startedAt); },
      (error) => { results.setAttribute("aria-busy", "false"); explainFailure(error); }
    );
  });
})();
