// The embedded study, and how its numbers are written.

const study = JSON.parse(document.getElementById("data").textContent);

function column(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Float64Array(bytes.buffer);
}

const ARM_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#7a5195"];
const DASHES = ["", "6 3", "2 2", "8 2 2 2"];

const armColour = (arm) => ARM_COLOURS[study.arms.indexOf(arm) % ARM_COLOURS.length];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A number with three digits or so. */
function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  if (size >= 1000 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

/** Seconds in the unit that suits them. */
function seconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Math.abs(value) >= 1 || value === 0) return `${short(value)} s`;
  return Math.abs(value) >= 1e-3 ? `${short(value * 1e3)} ms` : `${short(value * 1e6)} µs`;
}

function measured(value, unit) {
  if (unit === "s") return seconds(value);
  if (unit === "s/token") return `${seconds(value)}${value === null ? "" : "/token"}`;
  if (unit === "fraction") return value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)}%`;
  return short(value);
}

const tip = document.getElementById("tip");

function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.height - 8))}px`;
}

function hideTip() {
  tip.hidden = true;
}
