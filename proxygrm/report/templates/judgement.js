// One judgement, opened: pictures, question, both responses, the critique in its parts, the proxy's answer.
function opener({ runs, byPair, place, walk, closed, address }) {
  const box = $("judgement");
  const shots = JSON.parse($("pictures").textContent).pictures;
  let row;

  function open(next) {
    row = next;
    draw();
    if (!box.open) box.showModal();
    box.scrollTop = 0;
  }
  function draw() {
    const { pair, text } = row;
    const [at, of] = place(row);
    $("at").textContent = at < 0 ? "outside the filter" : `${(at + 1).toLocaleString("en")} of ${of.toLocaleString("en")}`;
    $("title").textContent = pair.id;
    const run = runs.length > 1 ? runs.find((one) => one.tag === row.tag).name : "";
    $("about").textContent = [run, pair.category, pair.source, row.order, row.sample ? `vote ${row.sample + 1}` : ""].filter(Boolean).join(" · ");
    chips();
    $("question").textContent = pair.question === null ? "Left out to keep the page small." : pair.question || "Not in the file of answers.";
    for (const n of [1, 2]) {
      const better = row.label === n;
      const said = better ? pair.better : pair.worse;
      $(`response${n}`).textContent = said === null ? "Left out to keep the page small." : said || "Not in the file of answers.";
      $(`card${n}`).className = better ? "better" : "";
      $(`mark${n}`).textContent = [better ? "better by label" : "", row.said === n ? "judge's choice" : "", row.proxy === n ? "proxy's choice" : ""].filter(Boolean).join(", ");
    }
    pictures();
    critique(text);
    elsewhere();
  }
  function chips() {
    const proxy = row.proxy < 0 ? [] : [row.proxy === 0 ? ["Proxy: no readable verdict", "warn"]
      : [`Proxy ${row.proxy}, ${row.proxy === row.label ? "right" : "wrong"}`, row.proxy === row.label ? "good" : "bad"]];
    const verdict = row.said ? `Verdict ${row.said}, ${row.result}` : row.result === "tie" ? "A tie" : "No readable verdict";
    $("chips").replaceChildren(...[[`Label ${row.label}`, ""], [verdict, RESULTS[row.result]], ...proxy,
      ...(row.proxy > 0 && row.said > 0 && row.proxy !== row.said ? [["Proxy and judge differ", "warn"]] : []),
      ...(row.cut ? [["cut at the token limit", "warn"]] : []), ...row.why.map((why) => [why, "warn"]),
    ].map(([words, kind]) => node("li", words, `chip ${kind}`)));
  }
  function pictures() {
    const made = row.pair.shots.map((at, n) => {
      if (at < 0) return node("p", `Picture ${n + 1} is not in this page.`, "gone");
      const [width, height, webp] = shots[at];
      const image = new Image();
      image.alt = `Picture ${n + 1} of the pair`;
      image.src = `data:image/webp;base64,${webp}`;
      image.className = Math.max(width, height) <= 128 ? "tiny" : "";
      const figure = node("figure");
      figure.append(image, node("figcaption", `${width} × ${height} px`));
      return figure;
    });
    $("shots").replaceChildren(...(made.length ? made : [node("p", "A pair without pictures.", "gone")]));
  }
  function critique(text) {
    const [whole, items, justification, rubric, evaluation, proxy, refused, scores] = text ?? [];
    const none = text ? (refused ? `The prompt was refused: ${refused}` : "None could be read.") : "Left out to keep the page small.";
    const listed = (items ?? []).map(([words, weight]) => {
      const item = node("li");
      item.append(node("b", weight === null ? "–" : `${weight} %`), node("span", words));
      return item;
    });
    const list = node("ol", undefined, "items");
    list.append(...listed);
    $("rubric").replaceChildren(listed.length ? list : node("p", rubric || none, "text"), ...(justification ? [node("p", justification, "why")] : []));
    $("evaluation").textContent = evaluation ?? none;
    $("verdict").textContent = [row.said ? `Response ${row.said}: ${row.result}` : row.result === "tie" ? "A tie" : "None could be read",
      scores ? `scores ${scores.join(" and ")}` : ""].filter(Boolean).join("; ");
    $("proxy").textContent = proxy ?? (row.proxy < 0 ? "Not asked." : none);
    $("critique").textContent = whole ?? none;
  }
  function elsewhere() {
    const others = runs.flatMap((run) => (byPair.get(`${run.tag} ${row.pair.at}`) ?? []).filter((one) => one !== row));
    $("elsewhere").replaceChildren(...others.slice(0, 24).map((one) => {
      const link = node("a", [runs.length > 1 ? runs.find((run) => run.tag === one.tag).name : "", one.order, one.sample ? `vote ${one.sample + 1}` : ""].filter(Boolean).join(", "));
      link.href = address(one);
      const item = node("li");
      item.append(link, node("span", one.result, `chip ${RESULTS[one.result]}`));
      return item;
    }));
    $("same").hidden = !others.length;
  }
  const go = (by) => { const next = walk(row, by); if (next) { row = next; draw(); box.scrollTop = 0; } };
  $("prev").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  $("shut").addEventListener("click", () => box.close());
  box.addEventListener("close", () => { const last = row; row = undefined; closed(last); });
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  box.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1, k: -1, j: 1 }[event.key];
    if (by) { event.preventDefault(); go(by); }
  });
  return { open, close: () => { if (box.open) box.close(); } };
}
