// The dialog with one judgement: images, question, both responses, the critique in its parts, the proxy's answer.
function createDialog({ runs, byPair, position, neighbour, onClose, address }) {
  const box = $("judgement");
  const shots = JSON.parse($("images").textContent).images;
  let row;

  function open(next) {
    row = next;
    draw();
    if (!box.open) box.showModal();
    box.scrollTop = 0;
  }
  function draw() {
    const { pair, text } = row;
    const [at, of] = position(row);
    $("at").textContent = at < 0 ? "outside the filter" : `${(at + 1).toLocaleString("en")} of ${of.toLocaleString("en")}`;
    $("title").textContent = pair.id;
    const run = runs.length > 1 ? runs.find((other) => other.tag === row.tag).name : "";
    $("about").textContent = [run, pair.category, pair.source, row.order, row.sample ? `vote ${row.sample + 1}` : ""].filter(Boolean).join(" · ");
    chips();
    $("question").textContent = pair.question === null ? "Left out to keep the page small." : pair.question || "Not in the file of answers.";
    for (const n of [1, 2]) {
      const better = row.label === n;
      const response = better ? pair.better : pair.worse;
      $(`response${n}`).textContent = response === null ? "Left out to keep the page small." : response || "Not in the file of answers.";
      $(`card${n}`).className = better ? "better" : "";
      $(`mark${n}`).textContent = [better ? "better by label" : "", row.verdict === n ? "judge's choice" : "", row.proxy === n ? "proxy's choice" : ""].filter(Boolean).join(", ");
    }
    images();
    critique(text);
    elsewhere();
  }
  function chips() {
    const proxy = row.proxy < 0 ? [] : [row.proxy === 0 ? ["Proxy: no readable verdict", "warn"]
      : [`Proxy ${row.proxy}, ${row.proxy === row.label ? "right" : "wrong"}`, row.proxy === row.label ? "good" : "bad"]];
    const verdict = row.verdict ? `Verdict ${row.verdict}, ${row.result}` : row.result === "tie" ? "A tie" : "No readable verdict";
    $("chips").replaceChildren(...[[`Label ${row.label}`, ""], [verdict, RESULTS[row.result]], ...proxy,
      ...(row.proxy > 0 && row.verdict > 0 && row.proxy !== row.verdict ? [["Proxy and judge differ", "warn"]] : []),
      ...(row.cut ? [["cut at the token limit", "warn"]] : []), ...row.why.map((why) => [why, "warn"]),
    ].map(([words, kind]) => node("li", words, `chip ${kind}`)));
  }
  function images() {
    const figures = row.pair.shots.map((at, n) => {
      if (at < 0) return node("p", `Image ${n + 1} is not in this page.`, "gone");
      const [width, height, webp] = shots[at];
      const image = new Image();
      image.alt = `Image ${n + 1} of the pair`;
      image.src = `data:image/webp;base64,${webp}`;
      image.className = Math.max(width, height) <= 128 ? "tiny" : "";
      const figure = node("figure");
      figure.append(image, node("figcaption", `${width} × ${height} px`));
      return figure;
    });
    $("shots").replaceChildren(...(figures.length ? figures : [node("p", "A pair without images.", "gone")]));
  }
  function critique(text) {
    const [written, items, justification, rubric, evaluation, proxy, refused, scores] = text ?? [];
    const none = text ? (refused ? `The prompt was refused: ${refused}` : "None could be read.") : "Left out to keep the page small.";
    const listItems = (items ?? []).map(([words, weight]) => {
      const item = node("li");
      item.append(node("b", weight === null ? "–" : `${weight} %`), node("span", words));
      return item;
    });
    const list = node("ol", undefined, "items");
    list.append(...listItems);
    $("rubric").replaceChildren(listItems.length ? list : node("p", rubric || none, "text"), ...(justification ? [node("p", justification, "why")] : []));
    $("evaluation").textContent = evaluation ?? none;
    $("verdict").textContent = [row.verdict ? `Response ${row.verdict}: ${row.result}` : row.result === "tie" ? "A tie" : "None could be read",
      scores ? `scores ${scores.join(" and ")}` : ""].filter(Boolean).join("; ");
    $("proxy").textContent = proxy ?? (row.proxy < 0 ? "Not asked." : none);
    $("critique").textContent = written ?? none;
  }
  function elsewhere() {
    const others = runs.flatMap((run) => (byPair.get(`${run.tag} ${row.pair.at}`) ?? []).filter((other) => other !== row));
    $("elsewhere").replaceChildren(...others.slice(0, 24).map((other) => {
      const link = node("a", [runs.length > 1 ? runs.find((run) => run.tag === other.tag).name : "", other.order, other.sample ? `vote ${other.sample + 1}` : ""].filter(Boolean).join(", "));
      link.href = address(other);
      const item = node("li");
      item.append(link, node("span", other.result, `chip ${RESULTS[other.result]}`));
      return item;
    }));
    $("same").hidden = !others.length;
  }
  const go = (by) => { const next = neighbour(row, by); if (next) { row = next; draw(); box.scrollTop = 0; } };
  $("prev").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  $("shut").addEventListener("click", () => box.close());
  box.addEventListener("close", () => { const last = row; row = undefined; onClose(last); });
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  box.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1, k: -1, j: 1 }[event.key];
    if (by) { event.preventDefault(); go(by); }
  });
  return { open, close: () => { if (box.open) box.close(); } };
}
