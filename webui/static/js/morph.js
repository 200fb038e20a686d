// SPDX-License-Identifier: GPL-2.0-or-later
// htmx's way to swap a live part: only what differs is touched, so focus, selection and scrolling stay where they are
// and nothing moves that has not changed. Elements with an id are the same element wherever they stand.
"use strict";
(function () {
  function same(a, b) {
    return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
  }

  function attributes(now, next) {
    for (const { name } of Array.from(now.attributes)) {
      // What the reader opened stays open.
      if (!next.hasAttribute(name) && name !== "open") now.removeAttribute(name);
    }
    for (const { name, value } of Array.from(next.attributes)) {
      if (now.getAttribute(name) !== value) now.setAttribute(name, value);
    }
  }

  function children(now, next) {
    const byId = new Map();
    for (const child of Array.from(now.children)) if (child.id) byId.set(child.id, child);
    let place = now.firstChild;
    for (const wanted of Array.from(next.childNodes)) {
      let found = place && same(place, wanted) ? place : wanted.id ? byId.get(wanted.id) : null;
      if (found && found.parentNode === now && same(found, wanted)) {
        if (found === place) place = place.nextSibling;
        else now.insertBefore(found, place);
        node(found, wanted);
      } else {
        now.insertBefore(wanted, place);
      }
    }
    while (place) {
      const rest = place.nextSibling;
      place.remove();
      place = rest;
    }
  }

  function node(now, next) {
    if (now.nodeType === Node.ELEMENT_NODE) {
      attributes(now, next);
      children(now, next);
    } else if (now.nodeValue !== next.nodeValue) {
      now.nodeValue = next.nodeValue;
    }
  }

  htmx.defineExtension("morph", {
    isInlineSwap: (style) => style === "morph",
    handleSwap: (style, target, fragment) => {
      if (style !== "morph") return false;
      children(target, fragment);
      return [target];
    },
  });
})();
