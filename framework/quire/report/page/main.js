// The page, put together.

const CDF_LABELS = { ttft_s: "TTFT", itl_s: "ITL", tpot_s: "TPOT", e2e_s: "E2E" };

function part(id, fill, present = true) {
  const section = document.getElementById(id);
  if (present) fill(section.querySelector(".body"));
  else section.hidden = true;
}

const conditions = [...new Set(study.points.map((point) => point.condition))];
const dashOf = (condition) => DASHES[conditions.indexOf(condition) % DASHES.length];
const named = (each) => [each.arm, each.condition].filter(Boolean).join(" · ");

part("verdicts", verdicts);
part("runs", runs);
part("capacity", capacities, study.capacities.length > 0);

const rated = study.points.filter((point) => point.rate !== null);
part("rates", (body) => {
  body.append(legend(study.arms.map((arm) => [arm, armColour(arm)])));
  for (const [name, title] of [["ttft_s.p99", "p99 TTFT"], ["itl_s.p99", "p99 ITL"], ["e2e_s.mean", "mean E2E"]]) {
    const series = study.arms.map((arm) => ({
      name: arm, colour: armColour(arm), marks: true,
      points: rated.filter((point) => point.arm === arm && point.latencies[name] !== undefined).sort((a, b) => a.rate - b.rate)
        .map((point) => [point.rate, point.latencies[name], `${point.rate}/s: ${seconds(point.latencies[name])}${point.unstable ? " (unstable)" : ""}`, point.unstable]),
    })).filter((each) => each.points.length);
    if (series.length) body.append(plot(title, series, { x: { label: "requests/s" }, y: { label: title, log: true, pad: true, show: seconds }, width: 355, height: 250 }));
  }
  body.append(element("p", { class: "hint" }, "Hollow: unstable, the queue was growing."));
}, new Set(rated.map((point) => point.rate)).size > 1);

part("cdfs", (body) => {
  body.append(legend(study.points.map((point) => [named(point), armColour(point.arm), dashOf(point.condition)])));
  for (const [metric, title] of Object.entries(CDF_LABELS)) {
    const series = study.cdfs.filter((each) => each.metric === metric).map((each) => {
      const values = column(each.values), levels = column(each.levels);
      return { name: named(each), colour: armColour(each.arm), dash: dashOf(each.condition),
        points: Array.from(values, (value, i) => [value, levels[i], `${(100 * levels[i]).toFixed(1)}% at most ${seconds(value)}`]) };
    });
    if (series.length) body.append(plot(title, series, { x: { label: title, log: series.every((each) => each.points[0][0] > 0), show: seconds }, y: { label: "fraction", low: 0, high: 1 } }));
  }
}, study.cdfs.length > 0);

part("pareto", (body) => {
  body.append(legend(study.arms.map((arm) => [arm, armColour(arm)])));
  for (const [name, title] of [["ttft_s.p99", "p99 TTFT"], ["e2e_s.mean", "mean E2E"]]) {
    const shown = study.points.filter((point) => point.latencies[name] !== undefined);
    const series = shown.map((point) => ({
      name: named(point), colour: armColour(point.arm), marks: true, line: false,
      points: [[point.throughput, point.latencies[name], `${short(point.throughput)} tokens/s, ${title} ${seconds(point.latencies[name])}${point.unstable ? " (unstable)" : ""}`, point.unstable]],
    }));
    const front = name === "ttft_s.p99" ? shown.filter((point) => point.on_front).sort((a, b) => a.throughput - b.throughput) : [];
    if (front.length > 1) series.unshift({ name: "Pareto front", colour: "#999", dash: "4 3", points: front.map((point) => [point.throughput, point.latencies[name], named(point)]) });
    body.append(plot(title, series, { x: { label: "output tokens/s", pad: true }, y: { label: title, log: true, pad: true, show: seconds } }));
  }
}, study.points.length > 1);

part("details", origins);
document.getElementById("subtitle").textContent = `${study.runs.length} ${study.runs.length === 1 ? "run" : "runs"}, ` +
  `${study.arms.length} ${study.arms.length === 1 ? "arm" : "arms"}: ${study.arms.join(", ")}`;

const timelineSection = document.getElementById("timeline");
timelineSection.hidden = study.timelines.length === 0;
if (study.timelines.length) {
  const timeline = new Timeline(document.getElementById("tl-canvas"));
  const run = document.getElementById("tl-run"), tenant = document.getElementById("tl-tenant");
  study.timelines.forEach((each, place) => run.append(element("option", { value: place }, each.label)));
  const choose = () => {
    timeline.filter.tenant = "";
    const { tenants: names } = study.timelines[run.value];
    tenant.replaceChildren(element("option", { value: "" }, "all"), ...names.map((name) => element("option", { value: name }, name)));
    timeline.load(run.value);
  };
  run.addEventListener("change", choose);
  const filtered = (id, type, apply) => document.getElementById(id).addEventListener(type, (event) => { apply(event.target); timeline.select(); });
  filtered("tl-find", "input", (input) => { timeline.filter.text = input.value.trim(); });
  filtered("tl-tenant", "change", (select) => { timeline.filter.tenant = select.value; });
  filtered("tl-preempted", "change", (box) => { timeline.filter.preempted = box.checked; });
  document.getElementById("tl-in").addEventListener("click", () => timeline.zoom(0.5));
  document.getElementById("tl-out").addEventListener("click", () => timeline.zoom(2));
  document.getElementById("tl-all").addEventListener("click", () => timeline.whole());
  document.getElementById("tl-legend").replaceWith(legend([...Object.entries(STATE_COLOURS), ["KV used", STEP_COLOURS.used], ["KV cached", STEP_COLOURS.cached]]));
  choose();
}
document.body.dataset.ready = "true";
