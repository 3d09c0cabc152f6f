"use strict";
(() => {
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const paint = (theme) => { root.dataset.theme = theme; };
  paint(prefersDark.matches ? "dark" : "light");
  prefersDark.addEventListener("change", (event) => paint(event.matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () => paint(root.dataset.theme === "dark" ? "light" : "dark"));

  const data = JSON.parse(document.getElementById("data").textContent);
  // Text only ever enters the page as text nodes: what a trajectory says is never markup.
  const make = (tag, kind, ...children) => {
    const node = document.createElement(tag);
    if (kind) node.className = kind;
    node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return node;
  };
  const outcome = (t) => (t.ok === null ? "none" : t.ok ? "pass" : "fail");
  const sign = { pass: ["yes", "✓"], fail: ["no", "✗"], none: ["muted", "?"] };
  const labelsOf = (t) => data.labels[t.id] || {};
  const titleOf = (name) => data.capabilities[name] || name;
  const taskOf = (t) => (/^\d+$/.test(t.task) ? `task ${t.task}` : t.task || t.id);
  const trialOf = (t) => (t.trial === null ? "" : `trial ${t.trial}`);
  // Whatever fits on a line stays on it; the rest is broken open one level.
  const laid = (value, indent = "") => {
    const line = JSON.stringify(value);
    if (typeof value !== "object" || value === null || line.length + indent.length <= 76) return line;
    const inner = `${indent}  `;
    const parts = Array.isArray(value)
      ? value.map((item) => inner + laid(item, inner))
      : Object.entries(value).map(([key, item]) => `${inner}${JSON.stringify(key)}: ${laid(item, inner)}`);
    const [begin, end] = Array.isArray(value) ? "[]" : "{}";
    return `${begin}\n${parts.join(",\n")}\n${indent}${end}`;
  };
  const pretty = (value) => {
    if (typeof value !== "string") return laid(value);
    try {
      const parsed = JSON.parse(value);
      return typeof parsed === "object" && parsed !== null ? laid(parsed) : value;
    } catch { return value; }
  };
  const folded = (text, lines) => {
    const all = text.split("\n");
    if (all.length <= lines + 3) return make("pre", "", text);
    const rest = make("details", "", make("summary", "", `${all.length - lines} more lines`), make("pre", "", all.slice(lines).join("\n")));
    return make("div", "", make("pre", "", all.slice(0, lines).join("\n")), rest);
  };
  const speaker = (turn) => (turn.role === "tool" ? `${turn.name || "tool"} returned${turn.error ? " an error" : ""}` : turn.role === "assistant" ? "agent" : turn.role);
  const bubble = (turn, decisions) => {
    const node = make("div", `turn ${turn.role}${turn.error ? " failed" : ""}`, make("span", "who", speaker(turn)));
    node.dataset.at = turn.at;
    if (turn.thought) node.append(make("div", "thought", turn.thought));
    if (turn.text) node.append(turn.role === "tool" ? folded(pretty(turn.text), 14) : turn.text);
    for (const call of turn.calls || []) {
      const text = typeof call.arguments === "string" ? call.arguments : laid(call.arguments);
      node.append(make("div", "call", make("b", "", call.name), make("pre", text.includes("\n") ? "block" : "", text)));
    }
    for (const [name, found] of decisions) {
      node.classList.add("decided", found.label);
      node.append(make("div", "why", `${found.label}: ${titleOf(name)}${found.why ? ` (${found.why})` : ""}`));
    }
    return node;
  };
  // Evidence: both sides are drawn when they are first opened, each scrolled to the step that decides.
  const byId = new Map(data.trajectories.map((t) => [t.id, t]));
  const fillPane = (side, capability) => {
    const t = byId.get(side.dataset.trajectory);
    if (!t) return;
    const pane = side.querySelector(".pane");
    const step = side.dataset.step === "" ? null : Number(side.dataset.step);
    const decision = [[capability, { label: side.dataset.label }]];
    pane.replaceChildren(...t.turns.map((turn) => bubble(turn, turn.at === step ? decision : [])));
    const decided = pane.querySelector(".decided");
    if (decided) pane.scrollTop = decided.offsetTop - pane.offsetTop - Math.max(24, (pane.clientHeight - decided.offsetHeight) / 2);
  };
  for (const proof of document.querySelectorAll(".proof")) {
    const draw = () => { for (const side of proof.querySelectorAll(".side")) fillPane(side, proof.dataset.capability); };
    proof.addEventListener("toggle", draw, { once: true });
  }
  const first = document.querySelector("#evidence .proof");
  if (first) first.open = true;
  const reveal = () => {
    const target = location.hash.startsWith("#capability-") && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const closed = target && target.closest("details:not([open])");
    if (!closed) return;
    closed.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  const list = document.getElementById("list");
  if (!list) return;
  // The trials of a task stand together, stages in their own order.
  const stages = [...new Set(data.trajectories.map((t) => t.stage))];
  const rank = new Map(data.trajectories.map((t, place) => [t, place]));
  data.trajectories.sort((a, b) => stages.indexOf(a.stage) - stages.indexOf(b.stage)
    || a.task.localeCompare(b.task, "en", { numeric: true }) || (a.trial ?? -1) - (b.trial ?? -1) || rank.get(a) - rank.get(b));
  const chat = document.getElementById("chat");
  const count = document.getElementById("f-count");
  const field = (name) => document.getElementById(`f-${name}`);
  const PAGE = 150;
  const SELECTS = ["outcome", "capability", "label", "env", "agent", "stage"];

  const words = new Map();
  const textOf = (t) => {
    if (!words.has(t.id)) {
      const said = t.turns.map((turn) => `${turn.text || ""} ${(turn.calls || []).map((call) => `${call.name} ${JSON.stringify(call.arguments)}`).join(" ")}`);
      words.set(t.id, `${t.id} ${t.task} ${t.agent} ${said.join(" ")}`.toLowerCase());
    }
    return words.get(t.id);
  };

  const fill = (name, values, title) => {
    for (const value of [...new Set(values)].filter(Boolean).sort()) {
      const option = make("option", "", title ? title(value) : value);
      option.value = value;
      field(name).append(option);
    }
    if (field(name).options.length <= (title ? 1 : 2)) field(name).hidden = true;
  };
  fill("capability", [...Object.keys(data.capabilities), ...Object.values(data.labels).flatMap(Object.keys)], titleOf);
  fill("env", data.trajectories.map((t) => t.env));
  fill("agent", data.trajectories.map((t) => t.agent));
  fill("stage", data.trajectories.map((t) => t.stage));
  if (!Object.keys(data.labels).length) field("label").hidden = true;

  const labelled = (t, capability, label) => {
    const found = labelsOf(t);
    const rows = capability ? [found[capability]].filter(Boolean) : Object.values(found);
    if (!label) return !capability || rows.some((row) => row.label !== "NA") || t.needs.includes(capability);
    return rows.some((row) => row.label === label);
  };
  const matching = () => {
    const [wanted, capability, label, env, agent, stage] = SELECTS.map((name) => field(name).value);
    const needles = field("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    return data.trajectories.filter((t) =>
      (!wanted || outcome(t) === wanted) && (!env || t.env === env) && (!agent || t.agent === agent) && (!stage || t.stage === stage) &&
      ((!capability && !label) || labelled(t, capability, label)) &&
      needles.every((needle) => textOf(t).includes(needle)));
  };

  let shown = [];
  let selected = null;
  const row = (t) => {
    const [kind, mark] = sign[outcome(t)];
    const item = make("button", "item",
      make("b", "", make("i", kind, `${mark} `), taskOf(t)),
      make("span", "", [trialOf(t), t.agent, t.env, t.reward === null ? "" : `reward ${t.reward}`, t.error].filter(Boolean).join(" · ")));
    item.type = "button";
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", String(t === selected));
    item.addEventListener("click", () => { history.replaceState(null, "", `#t=${encodeURIComponent(t.id)}`); open(t); });
    return item;
  };
  const extend = () => {
    const begun = list.querySelectorAll(".item[role]").length;
    list.querySelector(".further")?.remove();
    list.append(...shown.slice(begun, begun + PAGE).map(row));
    if (begun + PAGE < shown.length) {
      const further = make("button", "item further", `show ${Math.min(PAGE, shown.length - begun - PAGE)} more`);
      further.type = "button";
      further.addEventListener("click", extend);
      list.append(further);
    }
  };
  const refresh = () => {
    shown = matching();
    const passed = shown.filter((t) => t.ok).length;
    const judged = shown.filter((t) => t.ok !== null).length;
    count.textContent = `${shown.length} shown${judged ? `, ${passed} of ${judged} passed` : ""}`;
    list.replaceChildren();
    extend();
  };

  const chips = (t) => Object.entries(labelsOf(t)).filter(([, found]) => found.label !== "NA").map(([name, found]) => {
    const chip = make("button", `chip ${found.label}`, `${titleOf(name)}: ${found.label.toLowerCase()}`);
    chip.type = "button";
    chip.title = `${Math.round(100 * found.share)} % of the labelling runs`;
    chip.addEventListener("click", () => {
      const turn = [...chat.querySelectorAll(".turn")].find((node) => Number(node.dataset.at) === found.step);
      turn?.scrollIntoView({ block: "center", behavior: "smooth" });
    });
    return chip;
  });
  const open = (t) => {
    selected = t;
    const [kind, mark] = sign[outcome(t)];
    const facts = [trialOf(t), t.env, t.agent, t.stage, t.reward === null ? "" : `reward ${t.reward}`, t.stop && `ended by ${t.stop}`, t.needs.length ? `needs ${t.needs.join(", ")}` : "", t.id];
    const meta = make("div", "meta", make("h3", "", make("span", kind, `${mark} `), taskOf(t)), ...facts.filter(Boolean).map((fact) => make("span", "", fact)));
    const decisions = Object.entries(labelsOf(t)).filter(([, found]) => found.label !== "NA" && found.step !== null);
    const parts = [meta, make("div", "labels", ...chips(t))];
    if (t.error) parts.push(make("p", "note", `no verdict: ${t.error}`));
    if (t.system !== null) parts.push(make("details", "more", make("summary", "", "instructions"), make("pre", "config", data.systems[t.system])));
    parts.push(...t.turns.map((turn) => bubble(turn, decisions.filter(([, found]) => found.step === turn.at))));
    chat.replaceChildren(...parts);
    chat.scrollTop = 0;
    for (const item of list.querySelectorAll("[aria-selected]")) item.setAttribute("aria-selected", "false");
    list.querySelectorAll(".item[role]")[shown.indexOf(t)]?.setAttribute("aria-selected", "true");
  };
  const follow = () => {
    const match = /^#t=(.+)$/.exec(location.hash);
    const found = match && data.trajectories.find((t) => t.id === decodeURIComponent(match[1]));
    if (!found) return false;
    document.getElementById("trajectories").scrollIntoView({ behavior: "instant" });
    open(found);
    chat.querySelector(".decided")?.scrollIntoView({ block: "center", behavior: "instant" });
    return true;
  };
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !shown.length) return;
    event.preventDefault();
    const next = Math.min(shown.length - 1, Math.max(0, shown.indexOf(selected) + step));
    while (list.querySelectorAll(".item[role]").length <= next) extend();
    open(shown[next]);
    list.querySelectorAll(".item[role]")[next].scrollIntoView({ block: "nearest" });
  });
  for (const name of SELECTS) field(name).addEventListener("change", refresh);
  field("text").addEventListener("input", refresh);
  addEventListener("hashchange", follow);
  refresh();
  if (!follow() && shown.length) open(shown[0]);
})();
