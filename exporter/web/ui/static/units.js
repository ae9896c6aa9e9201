// Formatters of values in base units.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const minuteOfDay = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const dayAndTime = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** Format bytes per second as bit/s. */
export function formatBitrate(bytesPerSecond) {
  return formatWithUnit(bytesPerSecond * 8, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]);
}

export function formatBytes(value) {
  return formatWithUnit(value, ["B", "kB", "MB", "GB", "TB", "PB"]);
}

export function formatCount(value) {
  return whole.format(value);
}

export function formatPercent(ratio) {
  const value = ratio * 100;
  return `${value > 0 && value < 10 ? formatThreeDigits(value) : Math.round(value)} %`;
}

/** Format with two digits, to tell 29.97 from 30. */
export function formatFrameRate(framesPerSecond) {
  return `${Number(framesPerSecond.toFixed(2))} fps`;
}

/** Format a delay, below a second in milliseconds. */
export function formatDelay(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${formatThreeDigits(seconds)} s`;
}

/** Format a duration in one unit. */
export function formatDuration(seconds) {
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** Format Unix seconds as a time of day. */
export function formatTimeOfDay(timestamp) {
  return clock.format(timestamp * 1000);
}

/** Format Unix seconds as hours and minutes, with the day if it is not today. */
export function formatSince(timestamp) {
  const isToday = new Date(timestamp * 1000).toDateString() === new Date().toDateString();
  return (isToday ? minute : minuteOfDay).format(timestamp * 1000);
}

/** Format Unix seconds as date and time. */
export function formatDateTime(timestamp) {
  return dayAndTime.format(timestamp * 1000);
}

function formatWithUnit(value, units) {
  let index = 0;
  while (Math.abs(value) >= 999.5 && index < units.length - 1) {
    value /= 1000;
    index += 1;
  }
  return `${formatThreeDigits(value)} ${units[index]}`;
}

/** Format with about three significant digits: 4.21, 12.5, 128. */
function formatThreeDigits(value) {
  const size = Math.abs(value);
  return String(Number(value.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0)));
}
