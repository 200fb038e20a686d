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
    const ids = new Set(Array.from(next.children, (child) => child.id).filter(Boolean));
    const needed = (child) => Boolean(child.id) && ids.has(child.id);
    let place = now.firstChild;

    // What stands before a node that goes on, and is not needed itself, is taken out: to move the node instead would
    // take the focus from it.
    function find(wanted) {
      for (let found = place; found; found = found.nextSibling) {
        if (same(found, wanted)) return found;
        if (!wanted.id && needed(found)) return null;
      }
      return null;
    }

    for (const wanted of Array.from(next.childNodes)) {
      const found = find(wanted);
      if (!found) {
        now.insertBefore(wanted, place);
        continue;
      }
      while (place !== found && !needed(place)) place = remove(place);
      if (place === found) place = place.nextSibling;
      else now.insertBefore(found, place);
      node(found, wanted);
    }
    while (place) place = remove(place);
  }

  function remove(child) {
    const rest = child.nextSibling;
    child.remove();
    return rest;
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
