// The token of a service that asks for one. It is kept in memory alone.

import { byId, note } from "./dom.js";

/** Ask for the token of the service; resolves when the user gives one. */
export function askToken(wasRefused, signal) {
  const form = byId("token-form");
  const kept = "It is kept until this page is closed.";
  note("token-note", wasRefused ? "The service refused this token." : kept, wasRefused);
  note("status", "The service asks for a token.");
  form.hidden = false;
  byId("links").hidden = true; // a link sends no token
  byId("token").value = "";
  byId("token").focus();
  return new Promise((resolve, reject) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      form.hidden = true;
      byId("choose").focus();
      note("status", "");
      resolve(byId("token").value.trim());
    };
    signal?.addEventListener("abort", () => {
      form.hidden = true;
      reject(signal.reason);
    }, { once: true });
  });
}
