// SPDX-License-Identifier: Apache-2.0
// Draws /api/v2/state once a second, histories and events. Reads only. All that comes from the
// node becomes text nodes and attributes' values, never markup: names are chosen by whoever runs
// the programs.
"use strict";
(() => {
  const kRefreshMs = 1000, kEventsShown = 200, kSparkPoints = 120;
  const kSvg = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);
  const sparks = new Map();  // tenant|gpu -> what it got, a value a second
  let chosen = null;         // {title, url(s)} of what the charts show
  let filter = "";

  function element(name, classes, text) {
    const made = document.createElement(name);
    if (classes) made.className = classes;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function drawn(name, attributes) {
    const made = document.createElementNS(kSvg, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }
  const percent = (value) => value === null || value === undefined ? "-" : `${value.toFixed(1)} %`;
  const whole = (value) => value === null || value === undefined ? "-" : `${value} %`;
  function size(bytes) {
    if (bytes === null || bytes === undefined) return "-";
    if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
    if (bytes >= 2 ** 20) return `${Math.round(bytes / 2 ** 20)} MiB`;
    return `${Math.round(bytes / 1024)} KiB`;
  }

  // Keeps the children of `parent` as one for each item, made once and filled again: focus and
  // scrolling stay where they are.
  function keep(parent, items, key, make, fill) {
    const known = parent.kept || (parent.kept = new Map());
    const seen = new Set();
    let before = parent.firstChild;
    for (const item of items) {
      const id = key(item);
      seen.add(id);
      let child = known.get(id);
      if (!child) known.set(id, child = make(item));
      fill(child, item);
      if (child === before) before = before.nextSibling;
      else parent.insertBefore(child, before);
    }
    for (const [id, child] of known) {
      if (!seen.has(id)) { child.remove(); known.delete(id); }
    }
  }
  function setText(node, text) { if (node.textContent !== text) node.textContent = text; }

  function makeBar(label) {
    const bar = drawn("svg", {class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img"});
    bar.append(drawn("rect", {x: 0, y: 0, height: 8, width: 0}));
    bar.dataset.label = label;
    return bar;
  }
  function fillBar(bar, part, text) {
    const width = part === null || !isFinite(part) ? 0 : Math.max(0, Math.min(100, part));
    bar.firstChild.setAttribute("width", width.toFixed(1));
    bar.setAttribute("aria-label", `${bar.dataset.label} ${text}`);
  }

  function polyline(values, classes, most) {
    let path = "", pen = "M";
    values.forEach((value, i) => {
      if (value === null || value === undefined) { pen = "M"; return; }
      const x = values.length < 2 ? 0 : i * 100 / (values.length - 1);
      path += `${pen}${x.toFixed(2)} ${(100 - Math.min(100, value * 100 / most)).toFixed(2)}`;
      pen = "L";
    });
    return drawn("path", {class: `line ${classes}`, d: path || "M0 100"});
  }

  function makeGpu() {
    const card = element("article", "card");
    card.append(element("h3"), element("p"), element("p"));
    card.append(element("p", "", ""), makeBar("Busy"), element("p", "", ""), makeBar("Memory"), element("p", "warn"));
    const more = element("button", "", "History");
    more.type = "button";
    card.append(more);
    return card;
  }
  function fillGpu(card, gpu) {
    const [title, ids, health, busy, busyBar, memory, memoryBar, notes, more] = card.children;
    const sample = gpu.sample;
    setText(title, `GPU ${gpu.index} ${gpu.name || ""}`);
    setText(ids, gpu.uuid);
    setText(health, gpu.health === "ok" ? [
      sample.temperature_celsius === null ? "" : `${sample.temperature_celsius} °C`,
      sample.power_milliwatts === null ? "" : `${Math.round(sample.power_milliwatts / 1000)} W`,
      sample.sm_clock_mhz === null ? "" : `${sample.sm_clock_mhz} MHz`,
      `${gpu.promised_percent} % promised`].filter(Boolean).join(" · ") : `${gpu.health}: ${gpu.health_text || ""}`);
    health.className = gpu.health === "ok" ? "" : "bad";
    const busyText = `busy ${whole(sample.busy_percent)}, tenants got ${percent(gpu.got_percent_1s)}`;
    setText(busy, busyText);
    fillBar(busyBar, gpu.got_percent_1s, busyText);
    const memoryText = `${size(sample.used_bytes)} of ${size(gpu.total_bytes)}`;
    setText(memory, memoryText);
    fillBar(memoryBar, gpu.total_bytes ? sample.used_bytes * 100 / gpu.total_bytes : null, memoryText);
    const xids = Object.entries(gpu.xid_counts).map(([xid, count]) => `XID ${xid} × ${count}`);
    const parts = gpu.mig_devices.length;
    const mig = gpu.mig_enabled
      ? [`MIG mode, ${parts} MIG device${parts === 1 ? "" : "s"}${parts ? `: ${gpu.mig_devices[0].enforced.why}` : ""}`] : [];
    const closed = gpu.closed ? [`nothing new is admitted while ${gpu.closed}`] : [];
    setText(notes, [...mig, ...gpu.share_notes, ...closed, ...(sample.throttle_reasons || []), ...xids].join("; "));
    more.setAttribute("aria-label", `History of GPU ${gpu.index}`);
    more.onclick = () => choose(`GPU ${gpu.index}`, `/api/v2/gpus/${encodeURIComponent(gpu.uuid)}/history`, more);
  }

  function placesOf(state) {
    const places = [];
    for (const tenant of state.tenants) for (const gpu of tenant.gpus) places.push({tenant, gpu});
    return places;
  }
  const placeKey = ({tenant, gpu}) => `${tenant.id}|${gpu.uuid}`;

  function makePlace() {
    const row = element("tr");
    const name = element("td"), button = element("button");
    button.type = "button";
    name.append(button);
    const got = element("td"), gotText = element("span"), memory = element("td"), memoryText = element("span");
    got.append(gotText, makeBar("Got"));
    memory.append(memoryText, makeBar("Memory"));
    const spark = element("td");
    spark.append(drawn("svg", {class: "spark", viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true"}));
    row.append(name, element("td"), element("td", "n"), element("td", "n"), got, element("td", "n"), memory,
               element("td", "n"), element("td", "n"), spark);
    return row;
  }
  function fillPlace(row, {tenant, gpu}) {
    const [name, index, share, owed, got, waited, memory, refused, processes, spark] = row.children;
    const quota = gpu.quota, button = name.firstChild;
    setText(button, tenant.name);
    button.title = tenant.id;
    button.onclick = () => choose(`${tenant.name} on GPU ${gpu.index}`,
      `/api/v2/tenants/${encodeURIComponent(tenant.id)}/history?gpu=${encodeURIComponent(gpu.uuid)}`, button);
    setText(index, String(gpu.index));
    setText(share, `${whole(quota.share_percent)}${quota.limit_percent === null ? "" : ` ≤ ${quota.limit_percent} %`}`);
    setText(owed, percent(gpu.owed_percent));
    setText(got.firstChild, percent(gpu.got_percent_1s));
    fillBar(got.lastChild, gpu.got_percent_1s, percent(gpu.got_percent_1s));
    setText(waited, percent(gpu.waited_turn_percent_1s + gpu.waited_limit_percent_1s));
    const limit = quota.memory_limit_bytes;
    const text = `${size(gpu.charged_bytes)} of ${limit === null ? "no limit" : size(limit)}`;
    setText(memory.firstChild, text);
    fillBar(memory.lastChild, limit ? gpu.charged_bytes * 100 / limit : null, text);
    setText(refused, String(gpu.counters.denied_allocations));
    refused.className = gpu.counters.denied_allocations > 0 ? "n bad" : "n";
    setText(processes, String(tenant.process_count));
    const values = sparks.get(placeKey({tenant, gpu})) || [];
    spark.firstChild.replaceChildren(polyline(values, "got", 100));
  }

  function makeProcess() {
    const row = element("tr");
    for (const classes of ["n", "", "", "", "", "n", "n", "wide"]) row.append(element("td", classes));
    return row;
  }
  function fillProcess(row, process) {
    const [pid, user, program, tenant, limiter, got, memory, command] = row.children;
    const sum = (field) => process.gpus.reduce(
      (total, gpu) => gpu[field] === null ? total : (total || 0) + gpu[field], null);
    setText(pid, String(process.host_pid ?? process.own_pid ?? "-"));
    setText(user, process.user || "-");
    setText(program, process.program || "-");
    setText(tenant, process.tenant || "-");
    setText(limiter, process.unlimited ? "UNLIMITED" : process.exempt ? "exempt" : process.limiter);
    limiter.className = process.unlimited ? "bad" : "";
    setText(got, percent(sum("got_percent_1s")));
    setText(memory, size(sum("charged_bytes") ?? sum("driver_bytes")));
    setText(command, process.command_line || "");
  }

  function draw(state) {
    setText(byId("node"), `· ${state.node.name}`);
    const node = state.node;
    setText(byId("summary"), node.driver.available
      ? `${node.gpu_count} GPU${node.gpu_count === 1 ? "" : "s"}, ${node.tenant_count} tenants, ${node.process_count} processes` +
        `${node.unlimited_process_count ? `, ${node.unlimited_process_count} UNLIMITED` : ""} · driver ` +
        `${node.driver.version || "-"}${node.driver.simulated ? " (simulated)" : ""} · vgpu ${node.version}`
      : `no driver: ${node.driver.why || ""}`);
    const notes = byId("notes");
    notes.hidden = node.notes.length === 0;
    notes.replaceChildren(...node.notes.map((note) => element("li", "", note)));
    keep(byId("gpus"), state.gpus, (gpu) => gpu.uuid, makeGpu, fillGpu);
    const all = placesOf(state), alive = new Set();
    for (const place of all) {
      const key = placeKey(place);
      alive.add(key);
      const values = sparks.get(key) || [];
      values.push(place.gpu.got_percent_1s);
      if (values.length > kSparkPoints) values.shift();
      sparks.set(key, values);
    }
    for (const key of sparks.keys()) if (!alive.has(key)) sparks.delete(key);
    const wanted = filter.toLowerCase();
    const shown = all.filter(({tenant}) => `${tenant.name} ${tenant.id}`.toLowerCase().includes(wanted));
    setText(byId("shown"), wanted ? `${shown.length} of ${all.length}` : "");
    keep(document.querySelector("#tenants tbody"), shown, placeKey, makePlace, fillPlace);
    const processes = state.processes.slice().sort((a, b) => Number(b.unlimited) - Number(a.unlimited));
    keep(document.querySelector("#processes tbody"), processes,
         (process) => `${process.host_pid}|${process.own_pid}|${process.tenant}|${process.program}`, makeProcess, fillProcess);
  }

  function trouble(text) {
    byId("trouble").hidden = text === "";
    setText(byId("trouble"), text);
  }
  async function ask(url) {
    const answer = await fetch(url, {credentials: "omit", cache: "no-store"});
    if (!answer.ok) {
      const body = await answer.json().catch(() => null);
      throw new Error(body && body.error ? body.error.message : `${answer.status}`);
    }
    return answer.json();
  }

  function choose(title, url, from) {
    chosen = {title, url, from};
    byId("detail").hidden = false;
    setText(byId("detail-title"), title);
    drawHistory().then(() => byId("detail").scrollIntoView({block: "nearest"}));
    byId("close").focus();
  }
  function chart(points, lines) {
    const picture = drawn("svg", {class: "chart", viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img"});
    const last = points.length ? points[points.length - 1] : {};
    picture.setAttribute("aria-label", lines.map(([field, , name]) => `${name} ${percent(last[field])}`).join(", "));
    for (const height of [25, 50, 75]) picture.append(drawn("line", {class: "grid", x1: 0, x2: 100, y1: height, y2: height}));
    for (const [field, classes] of lines) picture.append(polyline(points.map((point) => point[field]), classes, 100));
    return picture;
  }
  function legend(points, lines) {
    const list = element("p", "legend");
    const at = (point) => new Date(point.time).toLocaleTimeString();
    list.append(element("span", "", points.length
      ? `0 to 100 % of the GPU, from ${at(points[0])} to ${at(points[points.length - 1])}` : "nothing yet"));
    for (const [, classes, name] of lines) {
      const entry = element("span"), sample = drawn("svg", {viewBox: "0 0 22 8", "aria-hidden": "true"});
      sample.append(drawn("path", {class: `line ${classes}`, d: "M0 4L22 4"}));
      entry.append(sample, name);
      list.append(entry);
    }
    return list;
  }
  async function drawHistory() {
    if (!chosen) return;
    const {url} = chosen, join = url.includes("?") ? "&" : "?";
    const charts = [];
    for (const [resolution, title] of [["seconds", "Last ten minutes"], ["ten_seconds", "Last day"]]) {
      const points = await ask(`${url}${join}resolution=${resolution}`);
      const lines = [["got_percent", "got", "got"], ["owed_percent", "owed", "owed"],
                     ["waited_percent", "waited", "waited"], ["busy_percent", "busy", "busy"]]
        .filter(([field]) => points.some((point) => point[field] !== null));
      charts.push(element("h3", "", title), chart(points, lines), legend(points, lines));
    }
    if (chosen && chosen.url === url) byId("charts").replaceChildren(...charts);
  }

  function addEvent(event) {
    const list = byId("events"), row = element("li"), time = element("time", "", event.time.slice(11, 19));
    time.dateTime = event.time;
    row.append(time, element("span", "kind", event.kind), document.createTextNode(event.text));
    list.prepend(row);
    while (list.children.length > kEventsShown) list.lastChild.remove();
  }
  function follow(after) {
    const stream = new EventSource(`/api/v2/events/stream?after=${after}`);
    for (const kind of kKinds) stream.addEventListener(kind, (message) => addEvent(JSON.parse(message.data)));
  }
  const kKinds = "@EVENT_KINDS@".split(" ");  // the daemon puts them in

  let rounds = 0, failed = false;
  async function refresh() {
    try {
      draw(await ask("/api/v2/state"));
      if (++rounds % 5 === 0) await drawHistory();
      trouble("");
      if (failed) failed = false;
    } catch (reason) {
      failed = true;
      trouble(`The daemon doesn't answer: ${reason.message}`);
    }
    setTimeout(refresh, document.hidden ? 5 * kRefreshMs : kRefreshMs);
  }

  byId("filter").addEventListener("input", (event) => { filter = event.target.value; });
  byId("close").addEventListener("click", () => {
    const from = chosen && chosen.from;
    chosen = null;
    byId("detail").hidden = true;
    if (from && from.isConnected) from.focus();
  });
  refresh();
  ask("/api/v2/events?limit=500").then((answer) => {
    answer.events.slice(-kEventsShown).forEach(addEvent);
    follow(answer.next);
  }).catch(() => {});
})();
