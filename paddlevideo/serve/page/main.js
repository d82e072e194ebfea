// The page: files and webcam clips become jobs, which are sent to the service one after the other.

import { classify, getModels, onToken, timeline } from "./api.js";
import { byId, element, note } from "./dom.js";
import { listenForDrops } from "./drop.js";
import { showCamera, showJob, showSegment, showTimelineState, startResult } from "./result.js";
import { readable, score, size } from "./text.js";
import { askToken } from "./token.js";
import { openCamera, recordClips } from "./webcam.js";

const MEDIA = "video/*,audio/*,.avi,.mkv,.flv,.ts,.mts,.webm,.mov"; // for the dialog of files
const MAX_CLIPS = 20; // of the webcam that stay in the list
const MAX_WAITING = 2; // clips of the webcam; older ones are dropped, so that the page never lags

let models = null; // the answer of GET /models
let jobs = []; // {name, file, state, error, result, segments, timeline, timelineError, live, model}
let selected = null;
let running = null; // the AbortController of what is running
let camera = null; // {stream, stop} while the webcam is on
let following = false; // whether the page shows the newest clip of the webcam

// --- jobs ---------------------------------------------------------------------------------------

function newJob(file, live = false) {
  const job = { name: file.name, file, live, row: null };
  reset(job);
  return job;
}

function reset(job) {
  Object.assign(job, { state: "waiting", error: "", result: null, segments: [] });
  Object.assign(job, { timeline: "off", timelineError: "", model: null });
}

function addFiles(files) {
  if (!files.length) return;
  stopCamera();
  jobs = jobs.filter((job) => !job.live);
  const added = [...files].map((file) => newJob(file));
  jobs.push(...added);
  select(added[0]);
  run();
}

/** Run all jobs that wait, in their order. */
async function run() {
  if (running) return;
  running = new AbortController();
  const { signal } = running;
  draw();
  try {
    if (!models) await loadModels(signal);
    for (let job; !signal.aborted && (job = jobs.find((one) => one.state === "waiting")); ) {
      await runJob(job, signal);
    }
  } catch (error) {
    fail(error, signal);
  }
  running = null;
  draw();
  sayEnd(signal.aborted);
  if (jobs.some((job) => job.state === "waiting")) run();
}

async function runJob(job, signal) {
  try {
    const { fields, segments } = options();
    job.model = chosenModel() ?? null;
    enter(job, "sending");
    note("status", `${place(job)}${readable(job.name)}: sending ${size(job.file.size)}`);
    const sent = { topk: fields.topk, model: fields.model };
    job.result = await classify(job.file, sent, signal, wait);
    show(job);
    const wanted = byId("with-timeline").checked && !job.live && !usesFeatures(job.model);
    if (wanted) await runTimeline(job, { ...fields, ...segments }, signal);
    enter(job, "done");
    showTimelineState(job);
  } catch (error) {
    job.error = signal.aborted ? "" : error.message;
    enter(job, signal.aborted ? "cancelled" : "failed");
    show(job);
  }
}

/** Read the timeline of a job; if that fails, the best classes stay. */
async function runTimeline(job, fields, signal) {
  job.timeline = "running";
  enter(job, "timeline");
  showTimelineState(job);
  note("status", `${place(job)}${readable(job.name)}: making the timeline`);
  try {
    for await (const segment of timeline(job.file, fields, signal, wait)) {
      job.segments.push(segment);
      showSegment(job, segment);
    }
    job.timeline = "done";
  } catch (error) {
    job.timeline = "failed";
    job.timelineError = signal.aborted ? "Cancelled." : error.message;
    if (signal.aborted) throw error;
  }
}

function enter(job, state) {
  job.state = state;
  drawRow(job);
}

/** "2 of 5, " for one of several files. */
function place(job) {
  const files = jobs.filter((one) => !one.live);
  return files.length > 1 && !job.live ? `${files.indexOf(job) + 1} of ${files.length}, ` : "";
}

function wait(seconds) {
  note("status", `The service is busy. Next try in ${Math.ceil(seconds)} s.`);
}

function fail(error, signal) {
  const reason = signal.aborted ? "" : error.message;
  for (const job of jobs.filter((one) => one.state === "waiting")) {
    job.error = reason;
    enter(job, signal.aborted ? "cancelled" : "failed");
  }
  if (selected) show(selected);
  note("alert", reason, true);
}

function sayEnd(cancelled) {
  const files = jobs.filter((job) => !job.live);
  const failed = files.filter((job) => job.state === "failed").length;
  const done = `${files.length - failed} files done`;
  if (cancelled) note("status", "Cancelled.");
  else if (files.length > 1) note("status", failed ? `${done}, ${failed} failed.` : `${done}.`);
  else if (files.length === 1) note("status", failed ? "Failed." : `Done: ${bestOf(files[0])}.`);
  else if (camera) note("status", selected?.result ? `Webcam: ${bestOf(selected)}` : "");
  else note("status", models || !jobs.length ? "" : "Failed.");
}

function bestOf(job) {
  const best = job.result?.categories[0];
  return best ? `${readable(best.name ?? best.id)} ${score(best.score)}` : "no class";
}

/** The options of the form; throws with the field and what is wrong with it. */
function options() {
  const wrong = byId("option-form").querySelector(":invalid");
  if (wrong) {
    byId("options").open = true;
    throw new Error(`${wrong.labels[0].textContent}: ${wrong.validationMessage}`);
  }
  const fields = { topk: byId("topk").value, model: byId("model").value };
  const segments = { window: byId("window").value, stride: byId("stride").value };
  return { fields, segments: { ...segments, min_score: byId("min-score").value } };
}

async function loadModels(signal) {
  models = await getModels(signal, wait);
  const names = models.models.map(({ name }) => {
    const option = element("option", {}, readable(name));
    option.value = name;
    return option;
  });
  const choice = byId("model");
  const chosen = choice.value;
  choice.replaceChildren(...names);
  const known = models.models.some(({ name }) => name === chosen);
  choice.value = known ? chosen : (models.default ?? models.models[0].name);
  choice.disabled = false;
  describeModel();
}

function chosenModel() {
  return models?.models.find(({ name }) => name === byId("model").value);
}

/** Whether the files of a model are features of videos, which have no frames and no timeline. */
function usesFeatures(model) {
  return Boolean(model?.modalities?.includes("features"));
}

function describeModel() {
  const model = chosenModel();
  byId("files").accept = usesFeatures(model) ? "" : MEDIA;
  const uses = model.modalities?.join(" and ");
  const parts = [model.classes && `${model.classes} classes`, uses, model.backend];
  note("model-facts", readable(parts.filter(Boolean).join(" · ")));
}

// --- what is shown ------------------------------------------------------------------------------

function select(job) {
  selected = job;
  show(job);
  draw();
}

function show(job) {
  if (job?.live && following) selected = job.result || job.error ? job : selected;
  if (job !== selected) return;
  showJob(job, job?.live && following ? camera?.stream : null);
  note("alert", job?.error ? readable(job.error) : "", true);
  for (const one of jobs) drawRow(one);
}

function draw() {
  const focused = document.activeElement;
  byId("cancel").hidden = !running;
  byId("again").hidden = Boolean(running || camera) || !jobs.length;
  byId("clear").hidden = byId("again").hidden;
  byId("live").hidden = !camera || following;
  byId("webcam").textContent = camera ? "Stop the webcam" : "Use the webcam";
  byId("intro").hidden = jobs.length > 0 || Boolean(camera);
  byId("list").hidden = jobs.length < 2 && !camera;
  byId("list").classList.toggle("live", Boolean(camera));
  const most = Math.min(Number(byId("topk").value) || 5, chosenModel()?.classes ?? Infinity);
  byId("columns").style.setProperty("--topk", most);
  const rows = jobs.map((job) => job.row ?? newRow(job));
  const body = byId("list-rows");
  const others = rows.length !== body.children.length || rows.some((row) => !row.isConnected);
  if (others) body.replaceChildren(...rows);
  for (const job of jobs) drawRow(job);
  const next = jobs.length && !camera ? "again" : "choose";
  if (focused?.hidden) byId(running ? "cancel" : next).focus();
}

function newRow(job) {
  const open = element("button", { type: "button", class: "link" }, readable(job.name));
  open.addEventListener("click", () => {
    following = false;
    select(job);
  });
  const cells = ["name", "n", ""].map((name) => element("td", { class: name }));
  job.row = element("tr", {}, element("td", { class: "name" }, open), ...cells);
  return job.row;
}

function drawRow(job) {
  if (!job.row) return;
  const [, best, value, state] = job.row.children;
  const first = job.result?.categories[0];
  best.textContent = first ? readable(first.name ?? first.id) : "";
  value.textContent = first ? score(first.score) : "";
  state.textContent = job.error ? `failed: ${readable(job.error)}` : job.state;
  state.className = job.error ? "bad state" : "state";
  if (job === selected) job.row.setAttribute("aria-current", "true");
  else job.row.removeAttribute("aria-current");
}

// --- webcam -------------------------------------------------------------------------------------

async function startCamera() {
  note("alert", "");
  try {
    if (!byId("clip-seconds").checkValidity()) options();
    const stream = await openCamera(Boolean(chosenModel()?.modalities?.includes("audio")));
    running?.abort();
    jobs = [];
    selected = null;
    following = true;
    const stop = recordClips(stream, Number(byId("clip-seconds").value), addClip, cameraEnded);
    camera = { stream, stop };
    showCamera(stream);
    note("status", "The webcam records its first clip.");
  } catch (error) {
    note("alert", error.message, true);
  }
  draw();
}

function stopCamera() {
  camera?.stop();
  camera = null;
  if (following && selected) showJob(selected);
  following = false;
  if (!jobs.length && !selected) showJob(null);
  draw();
}

function cameraEnded(reason) {
  stopCamera();
  note("alert", reason, true);
}

function addClip(file) {
  if (!camera) return;
  jobs.push(newJob(file, true));
  const waiting = jobs.filter((job) => job.state === "waiting");
  const dropped = new Set(waiting.slice(0, -MAX_WAITING));
  const kept = jobs.filter((job) => !dropped.has(job));
  jobs = kept.filter((job, number) => number >= kept.length - MAX_CLIPS || job === selected);
  draw();
  run();
}

// --- start --------------------------------------------------------------------------------------

function listen() {
  const click = (id, action) => byId(id).addEventListener("click", action);
  click("choose", () => byId("files").click());
  byId("files").addEventListener("change", (event) => {
    addFiles(event.target.files);
    event.target.value = ""; // the same file can be chosen again
  });
  click("webcam", () => (camera ? stopCamera() : startCamera()));
  click("live", () => {
    following = true;
    select(jobs.findLast((job) => job.result) ?? selected);
  });
  click("cancel", () => {
    stopCamera();
    running?.abort(new DOMException("Cancelled", "AbortError"));
    for (const job of jobs.filter((one) => one.state === "waiting")) enter(job, "cancelled");
  });
  click("again", () => {
    note("status", "");
    models = null; // a service that was started again may have others
    jobs.forEach(reset);
    if (selected) show(selected);
    run();
  });
  click("clear", () => {
    jobs = [];
    select(null);
    note("status", "");
    byId("choose").focus();
  });
  byId("model").addEventListener("change", describeModel);
  byId("option-form").addEventListener("submit", (event) => event.preventDefault());
}

onToken(askToken);
startResult();
listen();
listenForDrops(addFiles);
run();
