// Files that are dropped on the page, also in folders.

import { note } from "./dom.js";
import { readable } from "./text.js";

const MAX_FILES = 1000;
const VIDEO = "mp4|m4v|mov|avi|mkv|webm|flv|wmv|mpe?g|m?ts|m2ts|3gp|ogv";
const AUDIO = "wav|mp3|flac|m4a|aac|ogg|opus";
const MEDIA = new RegExp(`\\.(${VIDEO}|${AUDIO})$`, "i");

/** `onFiles(files)` gets the files of each drop, wherever on the page it was. */
export function listenForDrops(onFiles) {
  let inside = 0; // dragenter and dragleave come for every element
  const mark = () => document.body.classList.toggle("dragging", inside > 0);
  const on = (name, action) =>
    addEventListener(name, (event) => {
      event.preventDefault(); // the browser would leave the page and open the file
      action(event);
      mark();
    });
  on("dragenter", () => (inside += 1));
  on("dragleave", () => (inside -= 1));
  on("dragover", () => {});
  on("drop", async (event) => {
    inside = 0;
    const files = await droppedFiles(event.dataTransfer).catch((error) => {
      note("alert", `The folder cannot be read: ${readable(error.message)}`, true);
      return null;
    });
    if (files?.length) onFiles(files);
    else if (files) {
      note("alert", "No file was dropped. Drop video files, or a folder that has some.", true);
    }
  });
}

/** The files of a drop: all that were dropped, and the media files of folders. */
async function droppedFiles(data) {
  // The entries are gone after the first await.
  const items = [...data.items].filter((item) => item.kind === "file");
  const dropped = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [...data.files];
  const found = [];
  for (const [number, entry] of dropped.entries()) {
    if (entry?.isDirectory) await walk(entry, found);
    else if (files[number]) found.push(files[number]);
  }
  return found.slice(0, MAX_FILES);
}

async function walk(folder, found) {
  const reader = folder.createReader();
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length || found.length >= MAX_FILES) return;
    for (const entry of entries) {
      if (entry.isDirectory) await walk(entry, found);
      else if (MEDIA.test(entry.name)) found.push(await new Promise(entry.file.bind(entry)));
    }
  }
}
