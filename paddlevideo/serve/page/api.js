// Requests to the service. Errors are sentences for people, with what to do.

const MAX_TRIES = 60; // of a request that the service is too busy for
const LONGEST_WAIT = 60; // seconds between two tries

const MEANING = {
  400: "The service cannot read this file",
  404: "The service does not know this",
  408: "The upload is too slow",
  413: "This file is larger than the service allows",
  415: "The service cannot read this file",
  422: "The service cannot use this file",
  429: "The service is busy",
  503: "The service is not ready",
  504: "This file takes longer than the service allows",
};
const ADVICE = {
  413: "Send a shorter or smaller file.",
  429: "Try again later.",
  503: "Try again in a moment.",
  504: "Cut the file into shorter parts.",
};
const DOWN =
  "The service does not answer. Start it again, or check the network, then press Run again.";
const CUT =
  "The connection broke off while the file was sent. It may be larger than the service allows, " +
  "or it was moved or changed on this computer.";
const CUT_TIMELINE =
  "The connection broke off before the end of the timeline. Press Run again.";
const NO_JSON = "The service answered with something other than JSON. Is a proxy in between?";

export class ServiceError extends Error {}

let token = "";
let askToken = null; // async (wasRefused, signal) -> token

/** `ask(wasRefused, signal)` asks the user for the token of a service that answers 401. */
export function onToken(ask) {
  askToken = ask;
}

/** The models of the service: {models: [...], default: name}. */
export async function getModels(signal, onWait) {
  const answer = await parsed(await request("models", { signal, onWait }));
  if (!Array.isArray(answer.models) || !answer.models.length) {
    throw new ServiceError("The service has no model. Start it with --model FOLDER.");
  }
  return answer;
}

/** The best classes of one file, with frames and times: the `result` of the service's answer. */
export async function classify(file, fields, signal, onWait) {
  const body = form(file, { ...fields, details: 1, frames: 1 });
  const answer = await parsed(await request("video-classification", { body, signal, onWait }));
  if (answer.errorCode) throw new ServiceError(sentence(answer.errorMsg || "The service failed"));
  if (!Array.isArray(answer.result?.categories)) {
    throw new ServiceError("The service answered without categories.");
  }
  return answer.result;
}

/** The segments of one file, each as the service sends it. */
export async function* timeline(file, fields, signal, onWait) {
  const response = await request("timeline", { body: form(file, fields), signal, onWait });
  for await (const line of lines(response.body, signal)) {
    const row = json(line);
    if (row.done) return;
    if (row.error && row.start === undefined) throw new ServiceError(sentence(row.error));
    yield row;
  }
  throw new ServiceError("The service broke off before the end of the timeline. Press Run again.");
}

function form(file, fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== "") body.append(name, String(value));
  }
  body.append("file", file, file.name);
  return body;
}

/** Send a request until the service has time for it; returns a good response. */
async function request(path, { body, signal, onWait }) {
  for (let tries = 1; ; tries += 1) {
    const response = await send(path, body, signal);
    if (response.ok) return response;
    if (response.status === 401 && askToken) {
      token = await askToken(token !== "", signal);
      continue;
    }
    const seconds = retryAfter(response);
    if (seconds === null || tries >= MAX_TRIES) throw await refusal(response);
    response.body?.cancel();
    onWait?.(seconds);
    await pause(seconds, signal);
  }
}

async function send(path, body, signal) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const method = body ? "POST" : "GET";
  try {
    return await fetch(path, { method, body, headers, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ServiceError((await answers()) && body ? CUT : DOWN);
  }
}

async function answers() {
  try {
    await fetch("health", { cache: "no-store", signal: AbortSignal.timeout(3000) });
    return true;
  } catch {
    return false;
  }
}

/** Seconds until the next try of a request that was refused for now; null for any other refusal. */
function retryAfter(response) {
  const header = response.headers.get("Retry-After");
  if (response.status !== 429 && !(header && [503, 504].includes(response.status))) return null;
  const seconds = Number(header ?? 1);
  const wait = Number.isNaN(seconds) ? (Date.parse(header) - Date.now()) / 1000 : seconds;
  return Math.min(LONGEST_WAIT, Math.max(0.2, Number.isNaN(wait) ? 1 : wait));
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

async function refusal(response) {
  const { status } = response;
  const reason = reasonIn(await response.text().catch(() => ""));
  const other = status >= 500 ? "The service failed" : "The service refused the request";
  const meaning = MEANING[status] ?? other;
  const first = sentence(reason ? `${meaning}: ${reason}` : `${meaning} (HTTP ${status})`);
  return new ServiceError(ADVICE[status] ? `${first} ${ADVICE[status]}` : first);
}

/** The reason in the body of an error: PaddleX's errorMsg, FastAPI's detail; "" for a page. */
function reasonIn(text) {
  try {
    const { errorMsg, error, detail } = JSON.parse(text);
    const reason = errorMsg ?? error ?? detail ?? "";
    if (!Array.isArray(reason)) return String(reason);
    return reason.map((one) => `${one.loc?.at(-1) ?? ""} ${one.msg ?? ""}`.trim()).join("; ");
  } catch {
    return "";
  }
}

function sentence(text) {
  return /[.!?]\s*$/.test(text) ? text : `${text}.`;
}

async function parsed(response) {
  return json(await response.text());
}

function json(text) {
  try {
    const value = JSON.parse(text);
    if (value !== null && typeof value === "object") return value;
  } catch {
    // the same as any other text
  }
  throw new ServiceError(NO_JSON);
}

/** The lines of a stream of bytes that are not empty. */
async function* lines(stream, signal) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      const parts = (rest + (value ?? "")).split("\n");
      rest = done ? "" : parts.pop();
      yield* parts.filter((line) => line.trim());
      if (done) return;
    }
  } catch (error) {
    if (signal?.aborted || error instanceof ServiceError) throw error;
    throw new ServiceError(CUT_TIMELINE);
  } finally {
    reader.cancel().catch(() => {});
  }
}
