/* The portal works without this file. With it, results come without a new page, the photo is shown before it is sent,
   and the session panel is live. */
(() => {
  "use strict";

  const FRAGMENT = { "X-Fragment": "1", Accept: "text/html" };
  const byId = (id) => document.getElementById(id);

  // ------------------------------------------------------------------------------------------ organization switch

  for (const form of document.querySelectorAll(".partium-organization-switch")) {
    const select = form.querySelector("select");
    const button = form.querySelector("button");
    const current = [...select.options].find((option) => option.defaultSelected)?.value ?? "";
    let byKeyboard = false;
    // With the keyboard, every arrow key is a change: people press the button instead. It is also shown where somebody
    // has chosen before this script ran.
    button.hidden = select.value === current;
    select.addEventListener("keydown", () => { byKeyboard = true; });
    select.addEventListener("pointerdown", () => { byKeyboard = false; });
    select.addEventListener("change", () => {
      if (byKeyboard) button.hidden = select.value === current;
      else if (select.value) form.requestSubmit();
    });
  }

  // ------------------------------------------------------------------------------------------ searching in place

  const results = byId("results");
  let running = null;

  // Fetch a page's results. Returns the fragment, or null if another search has begun or the browser leaves the page.
  // If the session has ended, the browser logs in and goes on to afterLogin.
  async function fetchResults(url, options = {}, afterLogin = location.href) {
    running?.abort();
    const mine = running = new AbortController();
    results.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(url, { ...options, headers: FRAGMENT, signal: mine.signal });
      if (response.redirected || response.status === 401) {
        if (afterLogin === location.href) location.reload(); else location.assign(afterLogin);
        return null;
      }
      const text = await response.text();
      const fragment = document.createElement("template");
      fragment.innerHTML = text;
      if (!fragment.content.querySelector(".note, .card, .results-head")) return byId("no-answer").content.cloneNode(true);
      return fragment.content;
    } catch (error) {
      return error.name === "AbortError" ? null : byId("no-answer").content.cloneNode(true);
    } finally {
      if (running === mine) results.setAttribute("aria-busy", "false");
    }
  }

  function show(fragment) {
    results.replaceChildren(fragment);
    pollSoon();
  }

  function clearMarks() {
    for (const one of document.querySelectorAll(".field-error")) one.remove();
    for (const one of document.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
  }

  const textForm = byId("text-search");
  const photoForm = byId("photo-search");

  textForm?.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearMarks();
    const url = `${textForm.action.split("?")[0]}?${new URLSearchParams(new FormData(textForm))}`;
    const fragment = await fetchResults(url, {}, new URL(url, location.href).href);
    if (!fragment) return;
    const words = textForm.elements.text.value.trim();
    history.pushState(null, "", url);
    shownUrl = location.pathname + location.search;
    document.title = `${words || gettext("Find a part")} · ${gettext("Parts Portal")}`;
    show(fragment);
    // On a phone the form fills the screen.
    if (results.getBoundingClientRect().top > innerHeight * 0.75) results.scrollIntoView({ block: "start" });
  });

  for (const select of textForm?.querySelectorAll("select") ?? []) {
    select.addEventListener("change", () => {
      for (const hidden of photoForm.querySelectorAll(`input[name="${select.name}"]`)) hidden.value = select.value;
    });
  }

  // A link within the page, such as the one that skips to its content, must not reload it.
  let shownUrl = location.pathname + location.search;
  addEventListener("popstate", () => { if (location.pathname + location.search !== shownUrl) location.reload(); });

  results?.addEventListener("click", async (event) => {
    const link = event.target.closest("a[data-more]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.getAttribute("aria-disabled")) return;
    link.setAttribute("aria-disabled", "true");
    const fragment = await fetchResults(link.href);
    if (!fragment) return;
    const further = fragment.querySelectorAll(".part");
    const row = link.parentElement;
    if (fragment.querySelector(".note")) {
      link.removeAttribute("aria-disabled");
      row.before(fragment);
      return;
    }
    for (const note of results.querySelectorAll(".note")) note.remove();
    byId("shown").textContent = fragment.querySelector("#shown")?.textContent
      ?? interpolate(gettext("%s shown, that is all"), [results.querySelectorAll(".part").length]);
    byId("cards").append(...further);
    const next = fragment.querySelector(".more");
    if (next) row.replaceWith(next); else row.remove();
    // Move the keyboard's focus to the first new part.
    if (further.length) { further[0].tabIndex = -1; further[0].focus({ preventScroll: true }); }
    pollSoon();
  });

  // ------------------------------------------------------------------------------------------ photo

  if (photoForm) {
    const input = photoForm.elements.image;
    const preview = photoForm.querySelector(".preview");
    const picture = preview.querySelector("img");
    const caption = preview.querySelector(".hint");
    const maxBytes = Number(photoForm.dataset.mostBytes);
    let address = null;

    const complain = (text) => {
      clearMarks();
      const note = document.createElement("p");
      note.className = "field-error";
      note.id = "image-error";
      note.setAttribute("role", "alert");
      note.textContent = text;
      input.setAttribute("aria-invalid", "true");
      photoForm.append(note);
    };

    photoForm.querySelector("[data-gallery]").addEventListener("click", () => {
      input.removeAttribute("capture");
      input.click();
      input.setAttribute("capture", "environment");
    });
    picture.addEventListener("error", () => { preview.hidden = true; });
    input.addEventListener("change", () => {
      clearMarks();
      if (address) URL.revokeObjectURL(address);
      const [file] = input.files;
      preview.hidden = !file;
      if (!file) return;
      address = URL.createObjectURL(file);
      picture.src = address;
      caption.textContent = `${file.name}, ${(file.size / 1e6).toFixed(1)} MB`;
      if (file.size > maxBytes) complain(gettext("This photo is too large. Choose one of at most 5 MB, or a smaller resolution."));
    });

    // Without this script the link downloads the picture.
    photoForm.querySelector("[data-try]").addEventListener("click", async (event) => {
      event.preventDefault();
      const chosen = new DataTransfer();
      try {
        const answer = await fetch(event.currentTarget.href);
        if (!answer.ok) throw new Error(String(answer.status));
        chosen.items.add(new File([await answer.blob()], "try-this.png", { type: "image/png" }));
      } catch {
        return show(byId("no-answer").content.cloneNode(true));
      }
      input.files = chosen.files;
      input.dispatchEvent(new Event("change"));
      photoForm.requestSubmit();
    });

    photoForm.addEventListener("submit", async (event) => {
      event.preventDefault();
      const [file] = input.files;
      if (file && file.size > maxBytes) return complain(gettext("This photo is too large. Choose one of at most 5 MB, or a smaller resolution."));
      clearMarks();
      const fragment = await fetchResults(photoForm.action, { method: "POST", body: new FormData(photoForm) });
      if (!fragment) return;
      document.title = `${gettext("Search by photo")} · ${gettext("Parts Portal")}`;
      show(fragment);
      results.focus({ preventScroll: true });
      results.scrollIntoView({ block: "start" });
    });
  }

  // ------------------------------------------------------------------------------------------ session panel

  const panel = byId("session-panel");
  const EVERY_SECONDS = 4;
  let pollSoon = () => {};

  if (panel) {
    const chip = document.querySelector(".chip");
    const gauge = panel.querySelector(".gauge");
    const events = panel.querySelector(".events");
    const form = panel.querySelector("form[data-use-token]");
    let state = null;
    let readAt = 0;
    let timer = 0;
    let failures = 0;

    const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
    const put = (name, text) => {
      for (const field of document.querySelectorAll(`.panel [data-field="${name}"], .chip [data-field="${name}"]`)) {
        if (field.textContent !== String(text)) field.textContent = text;
      }
    };

    function note(text) {
      const item = document.createElement("li");
      const time = document.createElement("time");
      time.textContent = new Date().toLocaleTimeString(document.documentElement.lang);
      item.append(time, text);
      events.prepend(item);
      while (events.children.length > 4) events.lastElementChild.remove();
    }

    function tick() {
      if (!state) return;
      if (state.seconds_left === null) { gauge.value = 0; return; }
      const left = Math.max(0, state.seconds_left - (performance.now() - readAt) / 1000);
      put("left", clock(left));
      gauge.max = state.lifetime_seconds || 1;
      gauge.value = left;
    }

    function update(next) {
      if (state) {
        if (next.refreshes > state.refreshes) note(gettext("A new token was fetched."));
        else if (state.window === "none" && next.window !== "none") note(gettext("The first token was fetched."));
        else if (next.window !== state.window) note(`${next.window_label}. ${next.window_text}`);
      }
      if (next.problem) note(`${next.problem.title}.`);
      // Somebody has added a key: do what the page was opened for.
      if (next.usable && document.querySelector('[data-problem="no_usable_key"]')) location.reload();
      state = next;
      readAt = performance.now();
      panel.dataset.window = next.window;
      if (chip) chip.dataset.window = next.window;
      for (const name of ["window_label", "window_text", "refreshes", "lifetime", "source_label", "organization", "left"]) put(name, next[name]);
      tick();
    }

    async function poll(options = {}) {
      clearTimeout(timer);
      try {
        const response = await fetch(panel.dataset.url, { ...options, headers: { "X-Fragment": "1", Accept: "application/json" } });
        if (response.status === 401) {
          put("window_label", gettext("Logged out"));
          put("window_text", gettext("This session has ended. Load the page again to log in."));
          for (const name of ["left", "refreshes", "lifetime", "source_label", "organization"]) put(name, "–");
          state = null;
          panel.dataset.window = "none";
          if (chip) chip.dataset.window = "none";
          gauge.value = 0;
          return;
        }
        if (!response.ok) throw new Error(String(response.status));
        update(await response.json());
        failures = 0;
      } catch {
        failures += 1;
        put("window_text", gettext("The portal does not answer at the moment; trying again."));
      }
      if (!document.hidden) timer = setTimeout(poll, Math.min(60, EVERY_SECONDS * 2 ** failures) * 1000);
    }

    pollSoon = () => poll();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      poll({ method: "POST", body: new FormData(form) });
    });
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) clearTimeout(timer); else poll();
    });
    setInterval(() => { if (!document.hidden) tick(); }, 250);
    poll();
  }
})();
