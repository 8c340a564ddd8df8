// The timeline: a row a request above, the steps' batches and KV memory below, on one time axis.

const STATE_COLOURS = { queued: "#c3c7cf", prefill: "#e69f00", decode: "#0072b2", preempted: "#d40055" };
const STEP_COLOURS = { prefill: "#e69f00", decode: "#0072b2", used: "#009e73", cached: "#a9dcc9" };
const LEFT = 64, RIGHT = 12, AXIS = 22, BATCH = 96, MEMORY = 70, GAP = 18;

/** The first index at which a rising column exceeds `value`. */
function above(values, value) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.loaded = new Map();
    this.filter = { text: "", tenant: "", preempted: false };
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(1.2 ** (event.deltaY / 100), this.timeAt(event.offsetX));
    }, { passive: false });
    canvas.addEventListener("dblclick", () => this.whole());
    canvas.addEventListener("pointerdown", (event) => {
      this.drag = { x: event.offsetX, from: this.from, to: this.to };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointerup", () => { this.drag = null; });
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    canvas.addEventListener("pointerleave", hideTip);
    canvas.addEventListener("keydown", (event) => {
      const span = this.to - this.from;
      const moves = { "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), "0": () => this.whole(),
        ArrowLeft: () => this.show(this.from - span / 4, this.to - span / 4), ArrowRight: () => this.show(this.from + span / 4, this.to + span / 4) };
      if (moves[event.key]) event.preventDefault(), moves[event.key]();
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  load(place) {
    if (!this.loaded.has(place)) {
      const decode = (part) => Object.fromEntries(Object.entries(part).map(([key, value]) => [key, typeof value === "string" && !["run", "label"].includes(key) ? column(value) : value]));
      const raw = study.timelines[place];
      this.loaded.set(place, { ...decode(raw), steps: decode(raw.steps) });
    }
    this.data = this.loaded.get(place);
    const { data } = this;
    this.last = Math.max(data.end.reduce((a, b) => Math.max(a, b), 0), data.steps.count ? data.steps.end[data.steps.count - 1] : 0) || 1;
    this.select();
    this.whole();
  }

  /** Apply the filter: which requests may be drawn. */
  select() {
    const { data, filter } = this;
    const text = filter.text.toLowerCase();
    this.chosen = [];
    for (let i = 0; i < data.ids.length; i++)
      if ((!text || data.ids[i].toLowerCase().includes(text)) && (filter.tenant === "" || data.tenants[data.tenant[i]] === filter.tenant) && (!filter.preempted || data.preemptions[i] > 0))
        this.chosen.push(i);
    this.draw();
  }

  whole() { this.show(0, this.last); }

  show(from, to) {
    const least = this.last * 1e-6;
    const span = Math.min(Math.max(to - from, least), this.last);
    this.from = Math.min(Math.max(from, 0), this.last - span);
    this.to = this.from + span;
    this.draw();
  }

  zoom(factor, around = (this.from + this.to) / 2) {
    const span = Math.min((this.to - this.from) * factor, this.last);
    const share = (around - this.from) / (this.to - this.from);
    this.show(around - share * span, around + (1 - share) * span);
  }

  timeAt(x) { return this.from + ((x - LEFT) / (this.width - LEFT - RIGHT)) * (this.to - this.from); }

  draw() {
    if (!this.data || this.due) return;
    this.due = requestAnimationFrame(() => {
      this.due = null;
      this.paint();
    });
  }

  paint() {
    const { canvas, context: c, data } = this;
    const ratio = devicePixelRatio || 1;
    this.width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(this.width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(this.width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, this.width, height);
    c.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    this.rows = this.chosen.filter((i) => data.end[i] >= this.from && data.arrival[i] <= this.to);
    const bottom = height - AXIS - MEMORY - BATCH - 2 * GAP;
    this.rowHeight = Math.min(18, (bottom - 4) / Math.max(this.rows.length, 1));
    const scale = (this.width - LEFT - RIGHT) / (this.to - this.from);
    const px = (time) => LEFT + (Math.min(Math.max(time, this.from), this.to) - this.from) * scale;
    this.axis(c, px, height, bottom);
    this.paintRequests(c, px);
    this.paintBatch(c, px, bottom + GAP);
    this.paintMemory(c, px, bottom + 2 * GAP + BATCH);
    document.getElementById("tl-count").textContent = `${this.rows.length.toLocaleString("en")} of ${data.ids.length.toLocaleString("en")} requests`;
    canvas.dataset.drawn = JSON.stringify({ from: this.from, to: this.to, rows: this.rows.length });
  }

  axis(c, px, height, bottom) {
    c.fillStyle = "#667";
    c.strokeStyle = "#e8eaee";
    c.textAlign = "center";
    const step = ticks(this.from, this.to, 9);
    const digits = Math.max(0, -Math.floor(Math.log10((step[1] ?? this.to) - (step[0] ?? this.from)) + 1e-9));
    for (const at of step) {
      c.beginPath();
      c.moveTo(px(at), 0);
      c.lineTo(px(at), height - AXIS);
      c.stroke();
      c.fillText(`${at.toFixed(Math.min(digits, 6))} s`, Math.min(Math.max(px(at), 24), this.width - 24), height - 7);
    }
    c.textAlign = "right";
    const words = [["requests", 14], ["tokens", bottom + GAP + 10], ["a step", bottom + GAP + 22], ["KV", bottom + 2 * GAP + BATCH + 10]];
    for (const [word, y] of words) c.fillText(word, LEFT - 6, y);
    const warm = px(this.data.measured[0]);
    if (this.data.measured[0] > this.from) {
      c.fillStyle = "#f1f1f4";
      c.fillRect(LEFT, 0, warm - LEFT, bottom);
      c.fillStyle = "#889";
      c.textAlign = "left";
      if (warm - LEFT > 56) c.fillText("warm-up", LEFT + 4, bottom - 5);
    }
  }

  paintRequests(c, px) {
    const { data, rowHeight } = this;
    const tall = Math.max(rowHeight > 3 ? rowHeight - 1 : rowHeight, 0.6);
    const names = data.states;
    for (let state = 0; state < names.length; state++) {
      c.fillStyle = STATE_COLOURS[names[state]];
      for (let row = 0; row < this.rows.length; row++) {
        const i = this.rows[row];
        for (let s = data.span_first[i]; s < data.span_first[i + 1]; s++) {
          if (data.span_state[s] !== state || data.span_end[s] < this.from || data.span_start[s] > this.to) continue;
          const left = px(data.span_start[s]);
          c.fillRect(left, 2 + row * rowHeight, Math.max(px(data.span_end[s]) - left, 0.7), tall);
        }
      }
    }
    if (rowHeight >= 11) {
      c.fillStyle = "#667";
      c.textAlign = "right";
      this.rows.forEach((i, row) => {
        if (row) c.fillText(data.ids[i].length > 9 ? `…${data.ids[i].slice(-8)}` : data.ids[i], LEFT - 6, 2 + row * rowHeight + rowHeight * 0.75);
      });
    }
  }

  /** Bars of the steps in view; where several share a pixel, the tallest of them. */
  bars(c, px, top, tall, layers, most) {
    const { steps } = this.data;
    if (!steps.count) return;
    const first = Math.max(0, above(steps.start, this.from) - 2), last = above(steps.start, this.to);
    const pixels = Math.ceil(this.width);
    const highest = layers.map(() => new Float64Array(pixels));
    for (let s = first; s < last; s++) {
      const begin = s > 0 ? Math.max(steps.start[s], steps.end[s - 1]) : steps.start[s];
      const left = Math.floor(px(begin)), right = Math.max(left + 1, Math.ceil(px(steps.end[s])));
      let sum = 0;
      layers.forEach(([values], layer) => {
        sum += values[s];
        for (let x = left; x < right && x < pixels; x++) highest[layer][x] = Math.max(highest[layer][x], sum);
      });
    }
    for (let layer = layers.length - 1; layer >= 0; layer--) {
      c.fillStyle = layers[layer][1];
      for (let x = LEFT; x < pixels - RIGHT; x++) {
        const high = (highest[layer][x] / most) * tall;
        if (high > 0) c.fillRect(x, top + tall - high, 1, high);
      }
    }
    c.strokeStyle = "#9aa";
    c.strokeRect(LEFT - 0.5, top - 0.5, this.width - LEFT - RIGHT + 1, tall + 1);
  }

  paintBatch(c, px, top) {
    const { steps } = this.data;
    if (!steps.count) return;
    if (!steps.most) steps.most = steps.prefill.reduce((a, b, s) => Math.max(a, b + steps.decode[s]), 1);
    this.bars(c, px, top, BATCH, [[steps.decode, STEP_COLOURS.decode], [steps.prefill, STEP_COLOURS.prefill]], steps.most);
    c.fillStyle = "#667";
    c.textAlign = "right";
    c.fillText(short(steps.most), LEFT - 6, top + 40);
  }

  paintMemory(c, px, top) {
    const { steps } = this.data;
    if (!steps.count) return;
    this.bars(c, px, top, MEMORY, [[steps.kv_used, STEP_COLOURS.used], [steps.kv_cached, STEP_COLOURS.cached]], 1);
    c.fillStyle = "#667";
    c.textAlign = "right";
    c.fillText("100%", LEFT - 6, top + 26);
  }

  moved(event) {
    if (this.drag) {
      const shift = ((event.offsetX - this.drag.x) / (this.width - LEFT - RIGHT)) * (this.drag.to - this.drag.from);
      this.show(this.drag.from - shift, this.drag.to - shift);
      return;
    }
    const text = this.describe(event.offsetX, event.offsetY);
    if (text) showTip(event, text);
    else hideTip();
  }

  /** What is under the pointer: a request, or a step. */
  describe(x, y) {
    const { data } = this;
    if (!data || x < LEFT) return null;
    const time = this.timeAt(x);
    const bottom = this.canvas.clientHeight - AXIS - MEMORY - BATCH - 2 * GAP;
    if (y < bottom) {
      const i = this.rows[Math.floor((y - 2) / this.rowHeight)];
      if (i === undefined) return null;
      let state = "";
      for (let s = data.span_first[i]; s < data.span_first[i + 1]; s++)
        if (data.span_start[s] <= time && time <= data.span_end[s]) state = `${data.states[data.span_state[s]]} for ${seconds(data.span_end[s] - data.span_start[s])}`;
      return [`${data.ids[i]}  (${data.tenants[data.tenant[i]]})`, `at ${time.toFixed(3)} s: ${state || (time < data.arrival[i] ? "not there yet" : "ended")}`,
        `${short(data.prompt[i])} prompt tokens (${short(data.cached[i])} cached), ${short(data.output[i])} output`,
        `TTFT ${seconds(data.ttft[i])}, E2E ${seconds(data.end[i] - data.arrival[i])}, worst ITL ${seconds(data.worst_itl[i])}`,
        `${short(data.preemptions[i])} preemptions, ended by ${data.reasons[i] ?? "nothing yet"}`].join("\n");
    }
    const { steps } = data;
    if (!steps.count) return null;
    const s = above(steps.end, time);
    if (s >= steps.count || steps.start[s] > time) return `at ${time.toFixed(3)} s: no step`;
    return [`step ${short(steps.index[s])}${steps.together > 1 ? ` and ${steps.together - 1} more` : ""}, ${seconds(steps.end[s] - steps.start[s])}`,
      `${short(steps.prefill[s])} prefill and ${short(steps.decode[s])} decode tokens, ${short(steps.sequences[s])} sequences`,
      `${short(steps.waiting[s])} waiting, KV ${(100 * steps.kv_used[s]).toFixed(1)}% used, ${(100 * steps.kv_cached[s]).toFixed(1)}% cached`,
      `scheduler ${short(steps.schedule_us[s])} µs`].join("\n");
  }
}
