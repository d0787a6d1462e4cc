// A long action answers after a few seconds and goes on with the next request. Without JavaScript there is a button.
document.querySelector("form[data-partium-continue]")?.submit();
