"use strict";
// Shows debates that lie packed in this page (viewer_data.py). Text of models enters the page as text nodes only.
(() => {
  const PAGE_ROWS = 50;
  const SAYS = { c: ["✓", "right"], i: ["✗", "wrong"], u: ["?", "undecided"], "": ["·", "not verified"] };
  const find = (id) => document.getElementById(id);
  const [search, sets, outcome, flips, agreement] = ["search", "set", "outcome", "flips", "agreement"].map(find);
  const list = find("list"), article = find("debate"), count = find("count");
  const opened = new Map(); // pack number -> promise of its debates; the last few
  let index = [], starts = [], shown = [], from = 0, current = -1, searching = 0;

  function make(tag, { text, label, ...properties } = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    if (text !== undefined) element.textContent = text;
    if (label) element.setAttribute("aria-label", label);
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  async function unpack(id) {
    const packed = atob(find(id).textContent.trim());
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function pack(number) {
    const found = opened.get(number) ?? unpack(`pack-${number}`);
    opened.delete(number);
    opened.set(number, found);
    if (opened.size > 4) opened.delete(opened.keys().next().value);
    return found;
  }

  const packOf = (place) => starts.findLastIndex((start) => start <= place);
  const debateAt = async (place) => (await pack(packOf(place)))[place - starts[packOf(place)]];

  // ---- filters and search

  function passes([set, , , , vote, right, wrong, first, last]) {
    const flip = { right: right > 0, wrong: wrong > 0, both: right > 0 && wrong > 0, none: !right && !wrong };
    const agree = { all: first === 1, split: first < 1, joined: first < 1 && last === 1, apart: last < 1 };
    return (
      (!sets.value || Number(sets.value) === set) &&
      (!outcome.value || outcome.value === vote) &&
      (!flips.value || flip[flips.value]) &&
      (!agreement.value || agree[agreement.value])
    );
  }

  function says(debate, wanted) {
    const texts = debate.t.flatMap((turn) => [
      turn[4] ?? "", turn[7], Array.isArray(turn[8]) ? turn[8].map(([piece]) => piece).join("") : turn[8],
    ]);
    return [debate.i, debate.q, debate.g, ...texts].some((text) => text.toLowerCase().includes(wanted));
  }

  async function select() {
    const mine = ++searching, wanted = search.value.trim().toLowerCase();
    let places = [...index.keys()].filter((place) => passes(index[place]));
    if (wanted) {
      const found = [];
      const candidates = Map.groupBy ? Map.groupBy(places, packOf) : grouped(places);
      for (const [number, inPack] of candidates) {
        count.textContent = `Searching, ${found.length.toLocaleString("en")} found so far.`;
        const debates = await (opened.get(number) ?? unpack(`pack-${number}`));
        if (mine !== searching) return;
        found.push(...inPack.filter((place) => index[place][1] === search.value.trim() || says(debates[place - starts[number]], wanted)));
      }
      places = found;
    }
    shown = places;
    from = 0;
    drawList();
  }

  function grouped(places) {
    const groups = new Map();
    for (const place of places) groups.set(packOf(place), [...(groups.get(packOf(place)) ?? []), place]);
    return groups;
  }

  function drawList() {
    const rows = shown.slice(from, from + PAGE_ROWS).map((place, number) => {
      const [, , question, gold, vote, right, wrong, , , rounds] = index[place];
      const [mark, word] = SAYS[vote];
      const changes = [right ? `${right} ↗ turned right` : "", wrong ? `${wrong} ↘ turned wrong` : ""];
      const about = [`vote ${word}`, `gold ${gold}`, `${rounds} ${rounds === 1 ? "round" : "rounds"}`, ...changes];
      const button = make("button", { type: "button", className: `row ${vote}`, tabIndex: number ? -1 : 0 },
        make("span", { className: "mark", text: mark, ariaHidden: "true" }),
        make("span", { className: "question", dir: "auto", text: question }),
        make("span", { className: "about", text: about.filter(Boolean).join(" · ") }));
      button.dataset.place = place;
      if (place === current) button.setAttribute("aria-current", "true");
      return make("li", {}, button);
    });
    list.replaceChildren(...rows);
    list.start = from + 1;
    const last = Math.min(from + PAGE_ROWS, shown.length);
    const of = `${shown.length.toLocaleString("en")} of ${index.length.toLocaleString("en")} debates`;
    count.textContent = shown.length ? `${of}; showing ${from + 1} to ${last}.` : `${of}. Change the search or the filters.`;
    find("earlier").disabled = from === 0;
    find("later").disabled = last >= shown.length;
  }

  // ---- one debate

  async function open(place, { focus = true } = {}) {
    current = place;
    const debate = await debateAt(place);
    if (current !== place) return;
    const [, id, , , vote] = index[place];
    const rank = shown.indexOf(place);
    const step = (text, to) => make("button", { type: "button", text, disabled: shown[to] === undefined, onclick: () => open(shown[to]) });
    const traces = make("div", { id: "traces" });
    traces.setAttribute("aria-live", "polite");
    article.replaceChildren(
      make("div", { className: "steps-between" }, step("← Previous", rank - 1), step("Next →", rank + 1),
        make("button", { type: "button", className: "back", text: "Back to the list", onclick: back })),
      make("h3", { id: "debate-title", text: `Question ${debate.i}` }),
      make("p", { className: "asked", dir: "auto", text: debate.q }),
      make("p", {}, "Gold answer: ", make("strong", { dir: "auto", text: debate.g }),
        `. The vote is ${SAYS[vote][1]}. Ended by: ${debate.e}.`,
        debate.a === null ? " It came to no decision." : ` Decision: ${debate.a}.`),
      answers(debate, traces), flipList(debate, traces), traces,
    );
    showFirst(debate, traces);
    list.querySelector("[aria-current]")?.removeAttribute("aria-current");
    list.querySelector(`[data-place="${place}"]`)?.setAttribute("aria-current", "true");
    if (focus) {
      history.replaceState(null, "", `#debate-${encodeURIComponent(id)}`);
      article.focus();
    }
  }

  function back() {
    const row = list.querySelector("[aria-current]") ?? list.querySelector("button");
    row?.focus();
    row?.scrollIntoView({ block: "center" });
  }

  const who = (turn) => (turn[2] === "agent" ? `agent ${turn[1]}` : turn[2] === "summariser" ? "summary" : `${turn[2]} ${turn[1]}`);
  const turnAt = (debate, round, agent) => debate.t.find((turn) => turn[0] === round && turn[1] === agent);

  function answers(debate, traces) {
    const rounds = [...new Set(debate.t.map((turn) => turn[0]))].sort((a, b) => a - b);
    const names = [...new Set(debate.t.map(who))];
    const head = make("tr", {}, make("th", { scope: "col", className: "text", text: "who" }),
      ...rounds.map((round) => make("th", { scope: "col", className: "text", text: `round ${round}` })));
    const rows = names.map((name) => make("tr", {}, make("th", { scope: "row", className: "text", text: name }),
      ...rounds.map((round) => {
        const turn = debate.t.find((one) => one[0] === round && who(one) === name);
        return make("td", { className: "text" }, turn ? answer(debate, turn, traces) : null);
      })));
    const table = make("table", {}, make("caption", { text: "Answers by agent and round; choose one to read its trace" }),
      make("thead", {}, head), make("tbody", {}, ...rows));
    const region = make("div", { className: "wide", role: "region", tabIndex: 0, label: "Answers by agent and round" }, table);
    return region;
  }

  function answer(debate, turn, traces) {
    const [round, agent, role, status, given, verdict] = turn;
    const flip = role === "agent" && debate.f.find((one) => one[0] === agent && one[2] === round);
    const [mark, word] = SAYS[verdict];
    const told = flip ? `, turned ${flip[3] ? "right" : "wrong"}${flip[4] ? ` following agent ${flip[4]}` : ""}` : "";
    const failed = status === "ok" ? "" : ` (${status})`;
    return make("button", {
      type: "button", className: `answer ${verdict}${flip ? " flip" : ""}`, dir: "auto",
      text: `${mark} ${given ?? "no answer"}${failed}${flip ? (flip[3] ? " ↗" : " ↘") : ""}`,
      label: `${who(turn)}, round ${round}: ${given ?? "no answer"}${failed}, ${word}${told}`,
      onclick: () => traces.replaceChildren(...(flip ? story(debate, flip) : [trace(turn)])),
    });
  }

  function flipList(debate, traces) {
    const all = make("button", {
      type: "button", text: "All traces",
      onclick: () => traces.replaceChildren(...debate.t.map((turn) => trace(turn))),
    });
    const items = debate.f.map((flip) => make("li", {}, make("button", {
      type: "button", text: told(flip), onclick: () => traces.replaceChildren(...story(debate, flip)),
    })));
    return make("div", { className: "flips" }, items.length ? make("ul", {}, ...items) : null, all);
  }

  function told([agent, , after, right, followed, shared, peers, peersRight]) {
    const cause = followed ? `likely following agent ${followed} (${shared} new ${shared === 1 ? "operation" : "operations"} in common)` : "following nobody's answer";
    return `${right ? "↗" : "↘"} Agent ${agent} turned ${right ? "right" : "wrong"} in round ${after}, ${cause}; ${peersRight} of ${peers} peers were right`;
  }

  function story(debate, flip) {
    const [agent, before, after, , followed] = flip;
    const traces = [
      trace(turnAt(debate, before, agent), "Before the flip"),
      followed ? trace(turnAt(debate, after - 1, followed), "The trace that likely caused it") : null,
      trace(turnAt(debate, after, agent), "After the flip"),
    ];
    return [make("h4", { text: told(flip) }), make("div", { className: "story" }, ...traces.filter(Boolean))];
  }

  function showFirst(debate, traces) {
    if (debate.f.length) traces.replaceChildren(...story(debate, debate.f[0]));
    else if (debate.t.length) traces.replaceChildren(trace(debate.t[debate.t.length - 1]));
  }

  function trace(turn, title) {
    const [round, , , status, given, verdict, tokens, thinking, text] = turn;
    const [mark, word] = SAYS[verdict];
    return make("section", { className: `trace ${verdict}` },
      make("h5", { text: `${title ? `${title}: ` : ""}${who(turn)}, round ${round}` }),
      make("p", { className: "about", dir: "auto", text: `${mark} ${word} · answer ${given ?? "none"} · ${tokens} tokens · ${status}` }),
      thinking ? make("details", {}, make("summary", { text: "Thinking" }), make("pre", { dir: "auto", text: thinking })) : null,
      Array.isArray(text) ? make("ol", { className: "steps" }, ...text.map(stepOf)) : make("pre", { dir: "auto", text }));
  }

  function stepOf([piece, mark, score]) {
    const label = { "+": "✓ right", "-": "✗ wrong", "": "" }[mark];
    const notes = [label, score === undefined || score === null ? "" : `score ${score.toFixed(2)}`].filter(Boolean);
    const item = make("li", { className: { "+": "c", "-": "i", "": "" }[mark] }, make("pre", { dir: "auto", text: piece.trimEnd() }));
    if (notes.length) item.append(make("span", { className: "note", text: notes.join(" · ") }));
    if (score !== undefined && score !== null) {
      const meter = make("meter", { min: 0, max: 1, value: score, label: `score ${score.toFixed(2)}` });
      item.append(meter);
    }
    return item;
  }

  // ---- events

  list.addEventListener("click", (event) => {
    const row = event.target.closest("button");
    if (row) open(Number(row.dataset.place));
  });
  list.addEventListener("keydown", (event) => {
    const rows = [...list.querySelectorAll("button")], at = rows.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    if (!rows[to]) return;
    rows[at].tabIndex = -1;
    rows[to].tabIndex = 0;
    rows[to].focus();
  });
  const turnPage = (by) => () => {
    from += by;
    drawList();
    list.querySelector("button")?.focus();
  };
  find("earlier").addEventListener("click", turnPage(-PAGE_ROWS));
  find("later").addEventListener("click", turnPage(PAGE_ROWS));
  for (const filter of [sets, outcome, flips, agreement]) filter.addEventListener("change", select);
  let typed = 0;
  search.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(select, 250);
  });
  find("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    select();
  });
  find("filters").addEventListener("reset", () => setTimeout(select));

  unpack("index").then(async (data) => {
    ({ index, starts } = data);
    find("viewer").hidden = false;
    await select();
    const linked = decodeURIComponent(location.hash.replace(/^#debate-/, ""));
    const place = index.findIndex((row) => row[1] === linked);
    if (place >= 0) await open(place);
    else if (shown.length) await open(shown.find((one) => index[one][5] && index[one][4] === "c") ?? shown[0], { focus: false });
    document.documentElement.dataset.ready = "true";
  });
})();
