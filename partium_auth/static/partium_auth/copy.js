// Copies the text before a "Copy" button. The buttons are hidden where no script runs.
// URLs of a provider follow what is typed as its short name.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const name = document.getElementById("id_slug");
  const follow = () => {
    for (const url of document.querySelectorAll('code[data-partium-template]:not([data-partium-template=""])')) {
      url.textContent = url.dataset.partiumTemplate.replace("SHORT-NAME", name.value.trim() || "SHORT-NAME");
    }
  };
  if (name) {
    name.addEventListener("input", follow);
    follow();
  }
  for (const button of document.querySelectorAll("button[data-partium-copied]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.previousElementSibling;
      const label = button.textContent;
      try {
        await navigator.clipboard.writeText(text.textContent);
      } catch {
        // Without https there is no clipboard: select the text, so that the person can copy it.
        getSelection().selectAllChildren(text);
        return;
      }
      button.textContent = button.dataset.partiumCopied;
      setTimeout(() => { button.textContent = label; }, 2000);
    });
  }
});
