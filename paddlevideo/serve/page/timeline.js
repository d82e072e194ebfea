// The timeline under the player: a strip with a playhead, and the segments as rows.

import { byId, element, note } from "./dom.js";
import { clock, readable, score } from "./text.js";

const TONES = 5; // colors of classes, in the order in which they appear
const MAX_LANES = 4; // of segments that overlap
const STEP = 1; // seconds per press of an arrow key
const LONG_STEP = 10; // with Shift

let onSeek = () => {};
let segments = []; // {start, end, text, row}
let laneEnds = []; // the end of the last segment of each lane
let tones = new Map(); // class -> color
let duration = 0; // seconds
let position = 0;
let active = -1; // index of the segment at the position

/** `seek(seconds)` is called when the user chooses a time. */
export function startTimeline(seek) {
  onSeek = seek;
  const strip = byId("strip");
  strip.addEventListener("keydown", pressed);
  strip.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    strip.setPointerCapture(event.pointerId);
    seekTo(timeAt(event));
  });
  strip.addEventListener("pointermove", (event) => {
    if (strip.hasPointerCapture(event.pointerId)) seekTo(timeAt(event));
  });
}

export function clearTimeline() {
  segments = [];
  laneEnds = [];
  tones = new Map();
  duration = 0;
  active = -1;
  byId("segments").replaceChildren();
  byId("segment-rows").replaceChildren();
  byId("segment-box").scrollTop = 0;
  setPosition(0, true);
  note("time-end", "");
}

/** The length of the video in seconds; segments behind it make it longer. */
export function setDuration(seconds) {
  if (!(seconds > duration) || !Number.isFinite(seconds)) return;
  duration = seconds;
  note("time-end", clock(duration));
  byId("strip").setAttribute("aria-valuemax", duration.toFixed(1));
  byId("segments").style.setProperty("--duration", duration);
  setPosition(position, true);
}

/** Add a segment: start, end, class_ids, scores, label_names, or an error in place of classes. */
export function addSegment({ start, end, class_ids, scores, label_names, error }) {
  const name = readable(label_names?.[0] ?? class_ids?.[0] ?? "");
  const text = error ? `not decoded: ${readable(error)}` : name || "no class";
  const tone = error || !name ? "gap" : `tone${toneOf(name)}`;
  const bar = element("div", { class: `segment ${tone}`, title: text }, error ? "" : name);
  bar.style.setProperty("--start", start);
  bar.style.setProperty("--end", end);
  bar.style.setProperty("--lane", laneOf(start, end));
  const times = `${clock(start)}–${clock(end)}`;
  const seek = element("button", { type: "button", class: "link" }, times);
  seek.addEventListener("click", () => seekTo(start));
  const chip = element("i", { class: tone });
  const row = element("tr", {},
    element("td", { class: "times" }, seek),
    element("td", { class: "name" }, chip, text),
    element("td", { class: "n" }, scores?.length ? score(scores[0]) : ""),
  );
  segments.push({ start, end, text, row });
  byId("segments").append(bar);
  byId("segments").style.setProperty("--lanes", laneEnds.length);
  byId("segment-rows").append(row);
  setDuration(end);
  if (active < 0) setPosition(position, true);
}

function toneOf(name) {
  if (!tones.has(name)) tones.set(name, (tones.size % TONES) + 1);
  return tones.get(name);
}

function laneOf(start, end) {
  const free = laneEnds.findIndex((last) => last <= start + 1e-6);
  const lane = free >= 0 ? free : Math.min(laneEnds.length, MAX_LANES - 1);
  laneEnds[lane] = Math.max(end, laneEnds[lane] ?? 0);
  return lane;
}

/** Move the playhead; `spoken` also updates what screen readers say. */
export function setPosition(seconds, spoken = false) {
  position = seconds;
  byId("playhead").style.left = duration ? `${Math.min(100, (100 * seconds) / duration)}%` : "0";
  note("time-now", clock(seconds));
  const now = segments.findIndex(({ start, end }) => start <= seconds && seconds < end);
  if (now !== active) activate(now);
  if (!spoken) return;
  const strip = byId("strip");
  strip.setAttribute("aria-valuenow", seconds.toFixed(1));
  const what = now < 0 ? "" : `, ${segments[now].text}`;
  strip.setAttribute("aria-valuetext", `${clock(seconds)} of ${clock(duration)}${what}`);
}

function activate(index) {
  segments[active]?.row.removeAttribute("aria-current");
  active = index;
  const row = segments[active]?.row;
  if (!row) return;
  row.setAttribute("aria-current", "true");
  const box = byId("segment-box"); // scrolled by itself, so that the page stays where it is
  const head = box.querySelector("thead").offsetHeight;
  const bottom = row.offsetTop + row.offsetHeight;
  if (row.offsetTop - head < box.scrollTop) box.scrollTop = row.offsetTop - head;
  else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
}

function timeAt(event) {
  const { left, width } = byId("strip").getBoundingClientRect();
  return ((event.clientX - left) / width) * duration;
}

function seekTo(seconds) {
  if (!duration) return;
  const time = Math.min(duration, Math.max(0, seconds));
  setPosition(time, true);
  onSeek(time);
}

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const step = event.shiftKey ? LONG_STEP : STEP;
  const later = segments.find(({ start }) => start > position + 0.05);
  const earlier = segments.findLast(({ start }) => start < position - 0.05);
  const target = {
    ArrowLeft: position - step,
    ArrowDown: position - step,
    ArrowRight: position + step,
    ArrowUp: position + step,
    PageUp: earlier?.start ?? 0,
    PageDown: later?.start ?? duration,
    Home: 0,
    End: duration,
  }[event.key];
  if (target === undefined) return;
  event.preventDefault();
  seekTo(target);
}
