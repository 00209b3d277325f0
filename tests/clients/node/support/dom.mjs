// A document for React, in place before React is loaded. Requests go through Node's own fetch.
import { JSDOM } from "jsdom";

const { window } = new JSDOM("<!doctype html>", { url: "http://localhost/", pretendToBeVisual: true });
// Newer versions of Node have a navigator of their own, which cannot be assigned to.
globalThis.navigator ??= window.navigator;
Object.assign(globalThis, { window, document: window.document });

let page;

/** An empty page in the place of the one before, which lives on unseen. */
export function newPage() {
  page?.remove();
  page = window.document.createElement("div");
  window.document.body.append(page);
  return page;
}

/** The text of the first element of the page that the selector finds; undefined if there is none. */
export const textAt = (selector) => page.querySelector(selector)?.textContent;

export const countOf = (selector) => page.querySelectorAll(selector).length;

export function click(selector) {
  const element = page.querySelector(selector);
  if (!element) throw new Error(`there is no ${selector}`);
  element.dispatchEvent(new window.MouseEvent("click", { bubbles: true }));
}
