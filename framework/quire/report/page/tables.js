// Verdicts, runs, capacities, and where it all came from.

function table(headings, rows) {
  const head = element("tr");
  for (const [text, left, title] of headings) head.append(element("th", { ...(left ? { class: "text" } : {}), ...(title ? { title } : {}) }, text));
  const body = element("tbody");
  for (const cells of rows) {
    const row = element("tr");
    for (const cell of cells) {
      const [content, look] = Array.isArray(cell) ? cell : [cell, null];
      row.append(element("td", look ? { class: look } : {}, content));
    }
    body.append(row);
  }
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), body));
}

const percent = (value) => `${value < -0.0005 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}%`;

function verdicts(body) {
  if (!study.comparisons.length) {
    body.append(element("p", { class: "dim" }, "One arm: nothing to compare."));
    return;
  }
  for (const found of study.comparisons) {
    body.append(element("p", { class: "sentence" }, found.sentence));
    const rows = found.rows.map((row) => {
      const good = row.interval && (row.interval.change < 0) === row.lower_is_better;
      const look = row.shown ? (good ? "good" : "bad") : null;
      return [
        [row.label, "text"],
        measured(row.baseline, row.unit),
        measured(row.arm, row.unit),
        [row.interval ? percent(row.interval.change) : "–", look],
        row.interval ? `${percent(row.interval.low)} to ${percent(row.interval.high)}` : "one seed",
        row.better === null ? "–" : `${(100 * row.better).toFixed(0)}%`,
        [!row.interval ? "not tested" : !row.shown ? "no difference shown" : row.holds ? "shown, also for all metrics together" : "shown for this metric alone", "text"],
      ];
    });
    body.append(table([["metric", true], [found.baseline], [found.arm], ["change"], [`${(100 * study.confidence).toFixed(0)}% interval`],
      ["requests better", false, "fraction of the paired requests in which the arm's value is the smaller; 50% is no effect"], ["", true]], rows));
    body.append(element("p", { class: "dim" }, `${found.pairs.toLocaleString("en")} paired requests of ${found.seeds} ` +
      `${found.seeds === 1 ? "seed" : "seeds"}; ${found.left_out} left out that one of the two did not complete. ` +
      `Of ${found.rows.length} metrics, at ${(100 * study.confidence).toFixed(0)}% each, some may differ by chance: ` +
      "the last column says which stand when all are taken together (Bonferroni)."));
  }
}

const RUN_LABELS = { "requests": "requests", "duration_s": "duration", "output_tokens_per_s": "output tok/s", "ttft_s.mean": "TTFT mean",
  "ttft_s.p99": "TTFT p99", "tpot_s.mean": "TPOT mean", "itl_s.p99": "ITL p99", "itl_max_s.mean": "worst ITL", "e2e_s.mean": "E2E mean",
  "e2e_s.p99": "E2E p99", "queue_s.mean": "queue mean", "schedule_us.mean": "sched. µs", "prefix_hit_rate": "prefix hits",
  "recomputed_tokens": "recomputed", "kv_use.mean": "KV use", "kv_wasted.mean": "KV wasted", "goodput_per_s": "goodput/s",
  "slo_attainment": "in SLO", "service_difference": "service diff.", "jain_service": "Jain service", "jain_latency": "Jain latency" };

function runs(body) {
  const present = Object.keys(study.runs[0].values).filter((name) => study.runs.some((run) => run.values[name]));
  const conditions = study.runs.some((run) => run.condition);
  const headings = [["run", true], ["arm", true], ...(conditions ? [["condition", true]] : []), ["seed"],
    ...present.map((name) => [RUN_LABELS[name] ?? name, false, study.metrics[name.split(".")[0]].formula]), ["drain", false, "from the last arrival to the last end"]];
  const rows = study.runs.map((run) => {
    const name = element("span", {}, run.name);
    if (run.cut) name.append(element("span", { class: "badge", title: run.cut }, "cut"));
    if (run.unstable) name.append(element("span", { class: "badge", title: "its queue was growing" }, "unstable"));
    return [[name, "text"], [run.arm, "text"], ...(conditions ? [[run.condition, "text"]] : []), String(run.seed),
      ...present.map((each) => measured(run.values[each], each.endsWith("_us.mean") ? "" : study.metrics[each.split(".")[0]].unit)), seconds(run.drain_s)];
  });
  body.append(table(headings, rows));
  body.append(element("p", { class: "dim" }, `A run's metrics are of all its requests. Comparisons and plots leave out those that arrive in the first ${(100 * study.warmup).toFixed(0)}% of the time of arrivals (warm-up).`));
  tenants(body);
}

function tenants(body) {
  const rows = study.runs.flatMap((run) => Object.keys(run.tenants).length < 2 ? [] : Object.entries(run.tenants).map(([name, values]) => [
    [run.name, "text"], [run.arm, "text"], [name, "text"], short(values.e2e_s?.count), seconds(values.ttft_s?.mean), seconds(values.ttft_s?.p99),
    seconds(values.e2e_s?.mean), `${seconds(values.normalized_latency_s?.mean)}/token`]));
  if (rows.length) body.append(element("details", {}, element("summary", {}, "each tenant"),
    table([["run", true], ["arm", true], ["tenant", true], ["requests"], ["TTFT mean"], ["TTFT p99"], ["E2E mean"], ["normalised"]], rows)));
}

function capacities(body) {
  const rows = study.capacities.map((each) => [[each.arm, "text"], [each.directory, "text"], `${short(each.capacity)}/s`,
    each.low === null ? "–" : `${short(each.low)} to ${short(each.high)}/s`, String(each.seeds.length), [Object.entries(each.objectives).map(([key, bound]) => `${key}=${bound}`).join(" "), "text"]]);
  body.append(table([["arm", true], ["directory", true], ["capacity"], ["interval"], ["seeds"], ["objectives", true]], rows));
}

function origins(body) {
  for (const note of study.notes) body.append(element("p", { class: "dim" }, note));
  for (const run of study.runs) {
    const commits = Object.entries(run.commit).map(([name, commit]) => `${name} ${commit ?? "not from a checkout"}`).join(", ");
    const machine = run.machine ? `${run.machine.cpu}, ${run.machine.cores} cores` : "";
    body.append(element("details", {}, element("summary", {}, run.name),
      element("p", {}, element("code", {}, (run.command ?? []).join(" "))),
      element("p", { class: "dim" }, `${Object.entries(run.choices).map(([kind, name]) => `${kind}=${name}`).join(" ")} · model ${run.model} · ${commits} · ${machine}`),
      ...phases(run)));
  }
}

function phases(run) {
  const rows = Object.entries(run.phases).map(([name, values]) => [[name, "text"], seconds(values.mean), seconds(values.p99)]);
  return rows.length ? [table([["phase of a step", true], ["mean"], ["p99"]], rows)] : [];
}
