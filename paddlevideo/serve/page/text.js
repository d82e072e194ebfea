// Text for people: names from files, times, sizes and scores.

const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;
const JOINERS = "\u200c\u200d"; // part of words in Persian and Hindi, and of emoji

/** One printable line: control characters and those that turn text around appear as codes. */
export function readable(text) {
  return String(text).replace(HIDDEN, (character) =>
    JOINERS.includes(character) ? character : code(character.codePointAt(0)),
  );
}

function code(point) {
  const digits = point.toString(16);
  if (point < 0x100) return `\\x${digits.padStart(2, "0")}`;
  return point < 0x10000 ? `\\u${digits.padStart(4, "0")}` : `\\U${digits.padStart(8, "0")}`;
}

/** Seconds as 0:02.5, or 1:02:03.5 from an hour on; `digits` behind the point. */
export function clock(seconds, digits = 1) {
  const unit = 10 ** digits; // rounded first, so that 59.97 is 1:00.0
  const units = Math.max(0, Math.round((Number(seconds) || 0) * unit));
  const minutes = Math.floor(units / (60 * unit));
  const rest = ((units % (60 * unit)) / unit).toFixed(digits).padStart(3 + digits, "0");
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** A number of bytes as 830 KB or 1.4 MB. */
export function size(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} KB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}

export function milliseconds(value) {
  return value < 9.95 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

export function score(value) {
  return Number(value).toFixed(3);
}
