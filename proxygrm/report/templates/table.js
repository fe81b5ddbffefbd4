// The table: filters, search, order, pages. Its state is in the address, after "#judgements?".
const PAGE = 100;
const DEFAULTS = { run: "", result: "", category: "", why: "", order: "", proxy: "", pair: "", other: "", q: "", sort: "", page: "1", row: "" };
const RESULTS = { right: "good", wrong: "bad", tie: "warn", unparsed: "warn" };

function judgements({ runs, reasons }) {
  const form = $("filters");
  const state = { ...DEFAULTS };
  const byTag = new Map(runs.map((run) => [run.tag, run]));
  const hasProxy = runs.some((run) => run.rows.some((row) => row.proxy >= 0));
  let matching = [];

  const byPair = new Map(); // run and pair -> its results
  const byShown = new Map(); // run and what the judge saw -> its result
  for (const run of runs) for (const row of run.rows) {
    const key = `${run.tag} ${row.pair.at}`;
    byPair.set(key, [...(byPair.get(key) ?? []), row]);
    byShown.set(`${run.tag} ${row.shown}`, row);
  }
  const clear = (row) => row.proxy > 0 && row.verdict > 0;
  const differs = (row) => clear(row) && row.proxy !== row.verdict;
  const proxyIs = {
    same: (row) => clear(row) && row.proxy === row.verdict, differs,
    misled: (row) => differs(row) && row.result === "wrong", alone: (row) => differs(row) && row.result === "right",
    unreadable: (row) => row.proxy === 0, unasked: (row) => row.proxy < 0,
  };
  const ofPair = (row) => byPair.get(`${row.tag} ${row.pair.at}`);
  const pairIs = {
    torn: (row) => new Set(ofPair(row).map((other) => other.result === "right")).size === 2,
    never: (row) => ofPair(row).every((other) => other.result !== "right"),
    always: (row) => ofPair(row).every((other) => other.result === "right"),
  };
  const tests = {
    result: (row, value) => row.result === value,
    category: (row, value) => row.pair.category === value,
    why: (row, value) => (value === "none" ? !row.why.length : row.why.includes(value)),
    order: (row, value) => row.order === value,
    proxy: (row, value) => proxyIs[value](row),
    pair: (row, value) => pairIs[value](row),
    other: (row, value) => {
      const counterpart = byShown.get(`${value.slice(2)} ${row.shown}`);
      return Boolean(counterpart) && (counterpart.result === "right") === (value[0] === "+");
    },
    q: (row, value) => haystack(row).includes(value.toLowerCase()),
  };
  function haystack(row) {
    row.hay ??= [row.name, row.pair.source, row.pair.question, row.pair.better, row.pair.worse, row.text?.[0], row.text?.[5]]
      .filter(Boolean).join("\n").toLowerCase();
    return row.hay;
  }

  const sorts = {
    pair: (row) => row.pair.id, question: (row) => row.pair.question ?? "", category: (row) => row.pair.category, order: (row) => row.order,
    better: (row) => row.label, verdict: (row) => row.verdict, result: (row) => row.result, proxy: (row) => row.proxy,
    why: (row) => row.why.join(), tokens: (row) => row.tokens ?? -1,
  };
  const current = () => byTag.get(state.run) ?? runs.at(-1);

  function options(name, choices) {
    const select = form[name];
    const any = select.options[0];
    select.replaceChildren(any, ...choices.map(([value, text]) => Object.assign(node("option", text), { value })));
    select.value = state[name];
    if (select.selectedIndex < 0) select.value = state[name] = DEFAULTS[name];
    // A filter with nothing to choose from is hidden, unless it is active.
    select.closest("label").hidden = !state[name] && choices.length < (name === "category" || name === "order" ? 2 : 1);
  }
  function offer() {
    const rows = current().rows;
    const count = (name, choices) => choices
      .map(([value, text]) => [value, text, rows.filter((row) => tests[name](row, value)).length])
      .filter(([value, , n]) => n || state[name] === value).map(([value, text, n]) => [value, `${text} (${n.toLocaleString("en")})`]);
    const same = (values) => values.map((value) => [value, value]);
    form.run.replaceChildren(...runs.map((run) => Object.assign(node("option", run.name), { value: run.tag })));
    form.run.value = current().tag;
    form.run.closest("label").hidden = runs.length < 2;
    options("result", count("result", same(Object.keys(RESULTS))));
    options("category", count("category", same([...new Set(rows.map((row) => row.pair.category))].filter(Boolean).sort())));
    options("why", count("why", same([...reasons, "none"])));
    options("order", count("order", same(["as is", "swapped"])));
    options("proxy", !hasProxy ? [] : count("proxy", [["same", "agrees with the judge"], ["differs", "disagrees"],
      ["misled", "disagrees, judge wrong"], ["alone", "disagrees, judge right"], ["unreadable", "unreadable"], ["unasked", "not asked"]]));
    options("pair", count("pair", [["torn", "right in some only"], ["never", "right in none"], ["always", "right in all"]]));
    options("other", runs.filter((run) => run !== current()).flatMap((run) =>
      count("other", [[`+ ${run.tag}`, `${run.name}: right`], [`- ${run.tag}`, `${run.name}: not right`]])));
    form.q.value = state.q;
  }

  function select() {
    const active = Object.keys(tests).filter((name) => state[name]);
    matching = current().rows.filter((row) => active.every((name) => tests[name](row, state[name])));
    const column = state.sort.replace("-", "");
    const key = Object.hasOwn(sorts, column) ? sorts[column] : undefined;
    const sign = state.sort.startsWith("-") ? -1 : 1;
    const order = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
    if (key) matching.sort((a, b) => sign * order(key(a), key(b)) || a.at - b.at);
    state.page = String(Math.min(Math.max(1, Number.parseInt(state.page, 10) || 1), Math.max(1, Math.ceil(matching.length / PAGE))));
  }

  function address(row) {
    const target = { ...state, row: row ? row.name : "" };
    if (row && row.tag !== current().tag) Object.assign(target, DEFAULTS, { run: row.tag, row: row.name });
    const kept = Object.entries(target).filter(([name, value]) => value !== DEFAULTS[name]);
    return kept.length ? `#judgements?${new URLSearchParams(kept)}` : "#judgements";
  }
  function remember(row) {
    const hash = address(row);
    if (hash === location.hash || (hash === "#judgements" && !location.hash.startsWith("#judgements"))) return;
    try { history.replaceState(null, "", hash); } catch { location.replace(hash); }
  }

  function draw() {
    const start = (Number(state.page) - 1) * PAGE;
    const page = matching.slice(start, start + PAGE);
    const total = current().rows.length.toLocaleString("en");
    $("found").textContent = `${matching.length.toLocaleString("en")} of ${total} judgements`;
    $("rows").tBodies[0].replaceChildren(...page.map((row, n) => line(row, n === 0)));
    $("rows").hidden = !page.length;
    $("none").hidden = Boolean(page.length);
    $("pages").hidden = matching.length <= PAGE;
    $("range").textContent = `${start + 1} – ${start + page.length} of ${matching.length.toLocaleString("en")}`;
    $("back").disabled = start === 0;
    $("forth").disabled = start + PAGE >= matching.length;
    for (const head of $("rows").tHead.rows[0].cells) {
      const name = head.dataset.sort;
      head.setAttribute("aria-sort", state.sort === name ? "ascending" : state.sort === `-${name}` ? "descending" : "none");
      if (name === "proxy") head.hidden = !hasProxy;
    }
  }
  function line(row, first) {
    const link = node("a", row.pair.id);
    link.href = address(row);
    link.tabIndex = first ? 0 : -1; // one tab stop; the arrow keys do the rest
    link.dataset.name = row.name;
    const head = node("th");
    head.scope = "row";
    head.append(link);
    const result = node("td");
    result.append(node("span", row.result, `chip ${RESULTS[row.result]}`));
    const element = node("tr");
    element.append(head, node("td", row.pair.question === null ? "(left out)" : (row.pair.question || "–").slice(0, 160), "words"),
      node("td", row.pair.category || "–"), node("td", row.order + (row.sample ? `, vote ${row.sample + 1}` : "")),
      node("td", row.label, "num"), node("td", row.verdict || "–", "num"), result);
    if (hasProxy) element.append(proxyCell(row));
    element.append(node("td", row.why.join(", ") + (row.cut ? (row.why.length ? ", cut" : "cut") : "") || "–", "reasons"),
      node("td", row.tokens === null ? "–" : row.tokens.toLocaleString("en"), "num"));
    return element;
  }

  // Right or wrong by the label, as for the judge; a different verdict of the two is marked separately.
  function proxyCell(row) {
    const element = node("td", undefined, "proxy");
    if (row.proxy <= 0) { element.textContent = row.proxy === 0 ? "? unreadable" : "–"; return element; }
    const right = row.proxy === row.label;
    element.append(node("span", row.proxy), " ", node("span", right ? "right" : "wrong", `chip ${right ? "good" : "bad"}`));
    if (differs(row)) element.append(" ", Object.assign(node("span", "≠ judge", "differs"), { title: "the proxy and the judge chose different responses" }));
    return element;
  }

  function apply(change) {
    Object.assign(state, change);
    offer();
    select();
    draw();
    remember(opened());
  }
  const opened = () => (state.row ? current().rows.find((row) => row.name === state.row) : undefined);
  function readAddress() {
    const [place, query] = [location.hash.slice(0, 12), location.hash.slice(12)];
    if (place !== "#judgements?") { dialog.close(); return; }
    const parameters = new URLSearchParams(query);
    apply(Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, parameters.get(name) ?? DEFAULTS[name]])));
    const row = opened();
    if (row) dialog.open(row);
    else dialog.close();
    if (state.row && !row) $("found").textContent += `; ${state.row} is not among them`;
    if (!row) $("judgements").scrollIntoView();
  }

  function focusRow(row) {
    const at = matching.indexOf(row);
    if (at >= 0) state.page = String(Math.floor(at / PAGE) + 1);
    draw();
    const link = [...$("rows").tBodies[0].querySelectorAll("a")].find((other) => other.dataset.name === row.name);
    if (link) step(link);
  }
  function step(link) {
    for (const other of $("rows").tBodies[0].querySelectorAll('a[tabindex="0"]')) other.tabIndex = -1;
    link.tabIndex = 0;
    link.focus();
  }

  const dialog = createDialog({
    runs, byPair,
    position: (row) => [matching.indexOf(row), matching.length],
    neighbour: (row, by) => {
      const at = matching.indexOf(row);
      const next = at < 0 ? matching[0] : matching[(at + by + matching.length) % matching.length];
      if (next) { state.row = next.name; remember(next); }
      return next;
    },
    onClose: (row) => { state.row = ""; remember(); if (row) focusRow(row); },
    address,
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => apply({ [event.target.name]: event.target.value, page: "1", row: "" }));
  $("clear").addEventListener("click", () => apply({ ...DEFAULTS, run: state.run, sort: state.sort }));
  $("back").addEventListener("click", () => apply({ page: String(Number(state.page) - 1) }));
  $("forth").addEventListener("click", () => apply({ page: String(Number(state.page) + 1) }));
  for (const head of $("rows").tHead.rows[0].cells) {
    const name = head.dataset.sort;
    head.firstElementChild.addEventListener("click", () =>
      apply({ sort: state.sort === name ? `-${name}` : state.sort === `-${name}` ? "" : name, page: "1" }));
  }
  $("rows").addEventListener("keydown", (event) => {
    const links = [...$("rows").tBodies[0].querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, j: at + 1, k: at - 1, Home: 0, End: links.length - 1, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    step(links[Math.min(Math.max(to, 0), links.length - 1)]);
  });
  $("rows").tBodies[0].addEventListener("click", (event) => {
    const link = event.target.closest("tr")?.querySelector("a");
    if (link && event.target.closest("a") !== link && !String(getSelection())) { step(link); link.click(); }
  });
  addEventListener("hashchange", readAddress);
  if (location.hash.startsWith("#judgements?")) readAddress();
  else apply({});
}
