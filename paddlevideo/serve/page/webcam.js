// The webcam as clips of a few seconds, each of them a complete file.

const TYPES = ["video/webm;codecs=vp8,opus", "video/webm;codecs=vp8", "video/webm", "video/mp4"];
const REASONS = {
  NotAllowedError:
    "The browser does not let this page use the webcam. Allow it next to the address, " +
    "then try again.",
  NotFoundError: "No webcam was found. Connect one, then try again.",
  NotReadableError: "The webcam does not start. Close the program that uses it, then try again.",
};

/** The stream of the webcam, with audio for models that use it. */
export async function openCamera(withAudio) {
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
    throw new Error("The browser gives the webcam only to https pages and to localhost.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: true, audio: withAudio });
  } catch (error) {
    throw new Error(REASONS[error.name] ?? `The webcam does not start: ${error.message}`);
  }
}

/**
 * Record clips of `seconds`, one after the other, until the returned function is called.
 *
 * `onClip(file)` gets each complete clip; `onEnd(reason)` is called if the webcam ends by itself.
 */
export function recordClips(stream, seconds, onClip, onEnd) {
  const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
  let recorder = null;
  let timer = 0;

  function stop() {
    clearTimeout(timer);
    if (recorder) recorder.onstop = null; // an unfinished clip is not sent
    if (recorder?.state === "recording") recorder.stop();
    for (const track of stream.getTracks()) track.stop();
  }

  function record() {
    const parts = [];
    const began = new Date();
    recorder = new MediaRecorder(stream, mimeType ? { mimeType } : {});
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => onClip(clipFile(parts, mimeType, began));
    recorder.start();
    timer = setTimeout(() => {
      recorder.stop();
      record();
    }, seconds * 1000);
  }

  stream.getVideoTracks()[0].onended = () => {
    stop();
    onEnd("The webcam was disconnected.");
  };
  record();
  return stop;
}

function clipFile(parts, mimeType, began) {
  const type = (mimeType || parts[0]?.type || "video/webm").split(";")[0];
  const suffix = type === "video/mp4" ? "mp4" : "webm";
  const time = began.toTimeString().slice(0, 8).replaceAll(":", "-");
  return new File(parts, `webcam_${time}.${suffix}`, { type });
}
