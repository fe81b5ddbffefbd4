(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("judged").textContent);
  const form = document.getElementById("filters");
  if (!form) return;
  const $ = (id) => document.getElementById(id);
  // Texts come from models and data sets: they only ever become text nodes.
  const node = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  for (const tag of Object.keys(data.models)) {
    const option = node("option", data.names[tag]);
    option.value = tag;
    form.tag.append(option);
  }
  form.tag.value = Object.keys(data.models).at(-1);

  const verdictOf = (row) => (row.verdict === null ? "unparsed" : row.verdict === row.label ? "right" : "wrong");
  const proxyOf = (row) => (row.proxy_verdict === null ? "none" : row.proxy_verdict === row.label ? "agrees" : "disagrees");
  let rows = [];
  let at = 0;

  function filter() {
    const before = rows[at];
    rows = data.models[form.tag.value].filter((row) =>
      (!form.verdict.value || verdictOf(row) === form.verdict.value) &&
      (!form.proxy.value || proxyOf(row) === form.proxy.value) &&
      (!form.order.value || row.order === form.order.value));
    const same = before ? rows.findIndex((row) => row.n === before.n && row.order === before.order) : -1;
    at = Math.max(0, same);
    show();
  }

  function go(step) {
    if (!rows.length) return;
    at = (at + step + rows.length) % rows.length;
    show();
  }

  function show() {
    const row = rows[at];
    $("pair").hidden = !row;
    $("none").hidden = Boolean(row);
    $("at").textContent = row ? `${at + 1} of ${rows.length}` : "0 of 0";
    if (!row) return;
    $("id").textContent = [row.id, row.category, row.order === "swapped" ? "swapped" : "as is"].filter(Boolean).join(" · ");
    $("question").textContent = row.question;
    for (const n of [1, 2]) {
      $(`r${n}`).textContent = row[`response_${n}`];
      $(`card${n}`).className = row.label === n ? "better" : "";
    }
    const kinds = { right: "good", wrong: "bad", unparsed: "warn", agrees: "good", disagrees: "bad", none: "warn" };
    const verdict = verdictOf(row);
    const proxy = proxyOf(row);
    $("chips").replaceChildren(
      node("span", `Label ${row.label ?? "–"}`, "chip"),
      node("span", row.verdict === null ? "No readable verdict" : `Verdict ${row.verdict}, ${verdict}`, `chip ${kinds[verdict]}`),
      node("span", row.proxy_verdict === null ? "No proxy verdict" : `Proxy ${row.proxy_verdict}, ${proxy}`, `chip ${kinds[proxy]}`),
      ...(row.truncated ? [node("span", "cut at the token limit", "chip warn")] : []),
      ...row.problems.map((problem) => node("span", problem.replaceAll("_", " "), "chip warn")));
    pictures(row);
    rubric(row);
    $("evaluation").textContent = row.evaluation ?? row.refused ?? "–";
    $("critique").textContent = row.critique || "–";
  }

  function pictures(row) {
    const made = row.images.map((path) => {
      if (!data.pictures[path]) return node("div", `No picture here: ${path.split("/").at(-1)}`, "gone");
      const image = new Image();
      image.alt = "picture of the pair";
      image.onload = () => image.classList.toggle("tiny", image.naturalWidth <= 128);
      image.src = data.pictures[path];
      return image;
    });
    $("pictures").replaceChildren(...(made.length ? made : [node("div", "No picture: a text-only pair", "gone")]));
  }

  function rubric(row) {
    const made = row.items.map(([text, weight]) => {
      const item = node("div", undefined, "item");
      item.append(node("b", weight === null ? "–" : `${weight} %`), node("span", text));
      return item;
    });
    if (!made.length) made.push(node("p", row.rubric ?? "–", "text"));
    if (row.justification) made.push(node("p", row.justification, "why"));
    $("rubric").replaceChildren(...made);
  }

  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  $("prev").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target instanceof HTMLSelectElement) return;
    const step = { ArrowLeft: -1, ArrowRight: 1, k: -1, j: 1 }[event.key];
    if (step) { event.preventDefault(); go(step); }
  });
  filter();
})();
