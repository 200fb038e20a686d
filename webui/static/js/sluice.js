// SPDX-License-Identifier: GPL-2.0-or-later
// What the live pages need beyond htmx: rest while nobody looks, and say so when nobody answers.
"use strict";
(function () {
  const live = document.getElementById("live");
  if (!live) return;
  const banner = document.getElementById("stale");

  function seen() {
    const mark = document.getElementById("seen");
    if (!mark) return;
    document.title = mark.dataset.title;
    document.getElementById("stale-seen").textContent = mark.dataset.seen;
  }

  function stale(words) {
    document.getElementById("stale-words").textContent = words;
    banner.hidden = false;
    live.classList.add("is-stale");
  }

  live.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) htmx.trigger(live, "resume");
  });
  live.addEventListener("htmx:afterSwap", () => {
    banner.hidden = true;
    live.classList.remove("is-stale");
    seen();
  });
  live.addEventListener("htmx:responseError", (event) => {
    if (event.detail.xhr.status === 404) window.location.reload();
    else stale("The agent does not answer; traffic keeps flowing.");
  });
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    live.addEventListener(name, () => stale("The appliance can't be reached from here."));
  }
  seen();
})();
