// Elements. Text always goes in as text, never as HTML: names come from other people.

export const byId = (id) => document.getElementById(id);

/** A new element; `attributes` are set by name, `children` are elements or text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Set a text, and keep the line's height where there is none. */
export function note(id, text, bad = false) {
  const line = byId(id);
  const shown = text || "\u00a0";
  if (line.textContent !== shown) line.textContent = shown;
  line.classList.toggle("bad", bad);
}
