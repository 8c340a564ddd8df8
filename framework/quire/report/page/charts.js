// Line and scatter plots as SVG.

const SVG = "http://www.w3.org/2000/svg";

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** About `count` round numbers between two. */
function ticks(low, high, count = 5) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(Number(at.toPrecision(12)));
  return found;
}

function logTicks(low, high) {
  if (high / low < 5) return ticks(low, high, 4);
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const lead of [1, 2, 5]) {
      const at = lead * 10 ** power;
      if (at >= low && at <= high) found.push(at);
    }
  return found.length > 7 ? found.filter((at) => Number.isInteger(Math.round(Math.log10(at) * 1e6) / 1e6)) : found;
}

/**
 * A plot of `series`: [{name, colour, dash, points: [[x, y, hover, hollow]], line, marks}]. `x` and `y` say
 * {label, log, show, low, high, pad}.
 */
function plot(title, series, { x, y, width = 540, height = 280 }) {
  const margin = { left: 62, right: 14, top: 8, bottom: 38 };
  const all = series.flatMap((each) => each.points);
  const range = (index, axis) => {
    const values = all.map((point) => point[index]).filter((value) => !axis.log || value > 0);
    let low = axis.low ?? Math.min(...values), high = axis.high ?? Math.max(...values);
    if (axis.pad) [low, high] = axis.log ? [low / 1.5, high * 1.5] : [low - 0.1 * (high - low) - 0.05 * Math.abs(low), high + 0.1 * (high - low) + 0.05 * Math.abs(high)];
    if (low === high) [low, high] = axis.log ? [low / 2, high * 2] : [Math.min(0, low), high * 1.2 || 1];
    return [low, high];
  };
  const scale = ([low, high], axis, from, to) => {
    const put = axis.log ? Math.log10 : (value) => value;
    return (value) => from + ((put(axis.log ? Math.max(value, low) : value) - put(low)) / (put(high) - put(low))) * (to - from);
  };
  const xRange = range(0, x), yRange = range(1, y);
  const px = scale(xRange, x, margin.left, width - margin.right);
  const py = scale(yRange, y, height - margin.bottom, margin.top);
  const svg = drawn("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const bottom = height - margin.bottom, right = width - margin.right;
  for (const at of x.log ? logTicks(...xRange) : ticks(...xRange)) {
    svg.append(drawn("line", { class: "grid", x1: px(at), x2: px(at), y1: margin.top, y2: bottom }));
    svg.append(drawn("text", { x: px(at), y: bottom + 14, "text-anchor": "middle" }, (x.show ?? short)(at)));
  }
  for (const at of y.log ? logTicks(...yRange) : ticks(...yRange)) {
    svg.append(drawn("line", { class: "grid", x1: margin.left, x2: right, y1: py(at), y2: py(at) }));
    svg.append(drawn("text", { x: margin.left - 6, y: py(at) + 4, "text-anchor": "end" }, (y.show ?? short)(at)));
  }
  svg.append(drawn("path", { class: "axis", fill: "none", d: `M${margin.left},${margin.top}V${bottom}H${right}` }));
  svg.append(drawn("text", { x: (margin.left + right) / 2, y: height - 6, "text-anchor": "middle" }, x.label));
  svg.append(drawn("text", { x: 12, y: (margin.top + bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(margin.top + bottom) / 2})` }, y.label));
  const placed = [];
  for (const each of series) {
    const spots = each.points.map((point) => [px(point[0]), py(point[1]), point]);
    if (each.line !== false)
      svg.append(drawn("path", { fill: "none", stroke: each.colour, "stroke-width": 2, "stroke-dasharray": each.dash ?? "",
        d: spots.map(([a, b], place) => `${place ? "L" : "M"}${a.toFixed(1)},${b.toFixed(1)}`).join("") }));
    for (const [a, b, point] of spots) {
      if (each.marks)
        svg.append(drawn("circle", { cx: a, cy: b, r: 4.5, stroke: each.colour, "stroke-width": 2, fill: point[3] ? "#fff" : each.colour }));
      placed.push([a, b, `${each.name}\n${point[2] ?? `${(x.show ?? short)(point[0])}: ${(y.show ?? short)(point[1])}`}`]);
    }
  }
  svg.addEventListener("mousemove", (event) => {
    const box = svg.getBoundingClientRect();
    const [a, b] = [event.clientX - box.left, event.clientY - box.top];
    let near = null, least = 30 ** 2;
    for (const spot of placed) {
      const far = (spot[0] - a) ** 2 + (spot[1] - b) ** 2;
      if (far < least) [near, least] = [spot, far];
    }
    if (near) showTip(event, near[2]);
    else hideTip();
  });
  svg.addEventListener("mouseleave", hideTip);
  return element("figure", {}, element("figcaption", {}, title), svg);
}

function legend(entries) {
  const made = element("div", { class: "legend" });
  for (const [name, colour, dash] of entries) {
    const mark = element("i");
    mark.style.background = dash ? `repeating-linear-gradient(90deg, ${colour} 0 4px, transparent 4px 7px)` : colour;
    if (dash !== undefined && dash !== null) mark.style.height = "3px", mark.style.verticalAlign = "middle";
    made.append(element("span", {}, mark, name));
  }
  return made;
}
