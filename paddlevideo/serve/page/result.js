// The result of one file: player, best classes, frames, time per stage, JSON.

import { byId, element, note } from "./dom.js";
import { clock, milliseconds, readable, score } from "./text.js";
import { addSegment, clearTimeline, setDuration, setPosition, startTimeline } from "./timeline.js";

const STAGES = ["decode", "preprocess", "inference", "postprocess"];
const player = byId("player");

let job = null; // the job that is shown
let address = ""; // of its file, for the player
let live = null; // the stream of the webcam, while it is shown
let playable = true;

export function startResult() {
  startTimeline(seek);
  player.addEventListener("loadedmetadata", () => !live && setDuration(player.duration));
  player.addEventListener("error", () => player.hasAttribute("src") && showStill());
  for (const name of ["seeked", "pause", "ended", "timeupdate"]) {
    player.addEventListener(name, () => follow(player.paused));
  }
  player.addEventListener("play", everyFrame);
  byId("json").addEventListener("toggle", showJson);
  byId("copy").addEventListener("click", copyJson);
  byId("download").addEventListener("click", downloadJson);
}

/** Show a job, or what has become of it; `stream` of a webcam is shown in place of its file. */
export function showJob(shown, stream = null) {
  const other = shown !== job;
  job = shown;
  byId("result").hidden = !job;
  if (!job) return show(null);
  const without = !job.result && (job.state === "failed" || job.state === "cancelled");
  byId("result").classList.toggle("failed", without);
  byId("result").classList.toggle("live", job.live);
  byId("facts").hidden = without;
  note("result-title", readable(job.name));
  show(stream ?? job.file);
  if (other) byId("copied").textContent = "";
  clearTimeline();
  job.segments.forEach(addSegment);
  setDuration(job.result?.duration ?? 0);
  if (playable && !live) {
    setDuration(player.duration);
    follow(true);
  }
  showClasses();
  showFrames();
  showSpeed();
  showTimelineNote();
  showJson();
}

/** Add a segment of the timeline to the page, if the job is shown. */
export function showSegment(of, segment) {
  if (of !== job) return;
  addSegment(segment);
  showTimelineNote();
}

/** Show whether a timeline is made or complete; what is on the page stays, and so does the focus. */
export function showTimelineState(of) {
  if (of !== job) return;
  showTimelineNote();
  showJson();
}

/** Show the webcam before its first clip has a result. */
export function showCamera(stream) {
  job = null;
  byId("result").hidden = false;
  byId("result").classList.remove("failed");
  byId("result").classList.add("live");
  byId("facts").hidden = false;
  note("result-title", "Webcam");
  show(stream);
  clearTimeline();
  byId("bar-rows").replaceChildren();
  byId("frames").replaceChildren();
  byId("stack").replaceChildren();
  byId("legend").replaceChildren();
  for (const id of ["bar-note", "frames-note", "timeline-note"]) note(id, "");
}

// --- player -------------------------------------------------------------------------------------

function show(source) {
  if (source instanceof MediaStream) {
    if (live === source) return;
    release();
    live = source;
    player.muted = true;
    player.srcObject = source;
    player.play().catch(() => {});
  } else if (player.file !== source) {
    release();
    if (source) player.src = address = URL.createObjectURL(source);
    player.file = source;
  }
  player.controls = !live;
}

function release() {
  if (live) player.muted = false;
  live = null;
  player.srcObject = null;
  player.removeAttribute("src");
  player.load();
  player.file = null;
  if (address) URL.revokeObjectURL(address);
  address = "";
  playable = true;
  player.hidden = false;
  byId("still").hidden = true;
  byId("screen-note").hidden = true;
}

/** In place of a file that the browser cannot play: the frame that is nearest to the time. */
function showStill() {
  playable = false;
  player.hidden = true;
  byId("screen-note").hidden = false;
  note("screen-note", "This browser cannot play this file.");
  nearestFrame(0);
}

function nearestFrame(seconds) {
  const frames = job?.result?.frames ?? [];
  const away = (frame) => Math.abs(frame.time - seconds);
  const nearest = [...frames].sort((one, other) => away(one) - away(other))[0];
  const still = byId("still");
  still.hidden = !nearest;
  if (!nearest) return;
  still.src = jpeg(nearest);
  still.alt = `Frame at ${clock(nearest.time, 2)}`;
  note("screen-note", `This browser cannot play this file. Frame at ${clock(nearest.time, 2)}`);
}

function seek(seconds) {
  if (live) return;
  if (playable) player.currentTime = seconds;
  else nearestFrame(seconds);
}

function follow(spoken) {
  if (!live && playable) setPosition(player.currentTime, spoken);
}

function everyFrame() {
  follow(false);
  if (!player.paused && !live) requestAnimationFrame(everyFrame);
}

// --- classes, frames, time ----------------------------------------------------------------------

function showClasses() {
  const categories = job.result?.categories ?? [];
  const rows = categories.map(({ id, name, score: value }) => {
    const bar = element("div");
    bar.style.width = `${100 * Math.min(1, Math.max(0, Number(value) || 0))}%`;
    return element("tr", {},
      element("td", { class: "name" }, readable(name ?? id)),
      element("td", { class: "bar" }, bar),
      element("td", { class: "n" }, score(value)),
    );
  });
  byId("bar-rows").replaceChildren(...rows);
  note("bar-note", classNote());
}

function classNote() {
  const { model, result, backend = result?.backend } = job;
  if (!result) return byId("facts").hidden ? "No result." : "";
  const parts = [readable(result.model ?? model?.name ?? "")];
  if (backend) parts.push(readable(backend));
  if (model?.multi_label) parts.push("multi-label: each score is on its own");
  if (result.note) parts.push(readable(result.note));
  return parts.filter(Boolean).join(" · ");
}

function showFrames() {
  const frames = job.result?.frames ?? [];
  const items = frames.map((frame) => {
    const time = clock(frame.time, 2);
    const image = element("img", { src: jpeg(frame), alt: "", width: 160, height: 120 });
    const button = element("button", { type: "button" }, image, time);
    button.setAttribute("aria-label", `Go to the frame at ${time}`);
    button.addEventListener("click", () => {
      setPosition(frame.time, true);
      seek(frame.time);
    });
    return element("li", {}, button);
  });
  byId("frames").replaceChildren(...items);
  byId("frames").hidden = listens() || Boolean(job.result && !frames.length);
  const text = framesNote(frames.length);
  note("frames-note", text);
  byId("frames-note").hidden = !text;
  if (!playable) nearestFrame(0);
}

/** Whether the model uses audio only. */
function listens() {
  const modalities = job.model?.modalities ?? [];
  return modalities.length === 1 && modalities[0] === "audio";
}

function framesNote(count) {
  if (!job.result) return "";
  if (listens()) return "This model uses audio only. It looked at no frames.";
  if (!count) return "The service sent no frames of this file.";
  return job.model?.modalities?.includes("audio") ? "The model also used the audio." : "";
}

/** The address of a frame: {time, jpeg} with a base64 JPEG. */
function jpeg(frame) {
  return `data:image/jpeg;base64,${frame.jpeg}`;
}

function showSpeed() {
  const speed = job.result?.speed ?? {};
  const stages = STAGES.filter((name) => Number.isFinite(speed[name]));
  const total = stages.reduce((sum, name) => sum + speed[name], 0);
  const bars = stages.map((name, number) => {
    const bar = element("div", { class: `fill${number + 1}` });
    bar.style.width = `${(100 * speed[name]) / (total || 1)}%`;
    return bar;
  });
  const words = stages.map((name, number) => {
    const chip = element("i", { class: `fill${number + 1}` });
    return element("span", {}, chip, `${name} ${milliseconds(speed[name])}`);
  });
  if (words.length) words.push(element("span", {}, `total ${milliseconds(total)}`));
  byId("stack").replaceChildren(...bars);
  byId("legend").replaceChildren(...words);
}

function showTimelineNote() {
  const count = `${job.segments.length} ${job.segments.length === 1 ? "segment" : "segments"}`;
  const some = job.segments.length > 0;
  const texts = {
    off: job.result ? "No timeline was made." : "",
    running: some ? `${count} so far` : "A segment appears when its class ends.",
    done: some ? `${count}. Click or use the arrow keys to move.` : "No segment has a class.",
  };
  const failed = job.timeline === "failed";
  note("timeline-note", failed ? readable(job.timelineError) : texts[job.timeline], failed);
}

// --- JSON ---------------------------------------------------------------------------------------

/** The result as text; frames appear as their times, without their pixels. */
function jsonText() {
  if (!job?.result) return "";
  const { frames, ...result } = job.result;
  const times = frames ? { frames: frames.map(({ time }) => time) } : {};
  const segments = job.segments.length ? { timeline: job.segments } : {};
  return JSON.stringify({ file: job.name, ...result, ...times, ...segments }, null, 1);
}

function showJson() {
  byId("copy").disabled = byId("download").disabled = !job?.result;
  byId("json-text").textContent = byId("json").open ? jsonText() : "";
}

async function copyJson() {
  const copied = await copyText(jsonText());
  byId("copied").textContent = copied ? "Copied." : "The browser refused; select the text below.";
}

/** Browsers give the clipboard to https pages and localhost; elsewhere a selection is copied. */
async function copyText(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  const area = element("textarea", { class: "unseen", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  byId("copy").focus();
  return copied;
}

function downloadJson() {
  const url = URL.createObjectURL(new Blob([jsonText()], { type: "application/json" }));
  const stem = job.name.replace(/\.[^.]*$/, "") || "result";
  const link = element("a", { href: url, download: `${stem}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
