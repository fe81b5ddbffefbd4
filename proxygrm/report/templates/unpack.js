// The data: JSON in the page, plain or compressed. Images are separate, because they do not compress.
const $ = (id) => document.getElementById(id);
// Texts come from models and data sets: they only ever become text nodes.
function node(name, text, kind) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}
async function unpack() {
  const element = $("data");
  if (element.dataset.packed === undefined) return JSON.parse(element.textContent);
  const bytes = Uint8Array.from(atob(element.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}
// {runs: [{tag, name, rows}], every row an object with its pair and texts, and a name that a link can carry.
function arrange(data, shots) {
  const pairs = data.pairs.map(([id, source, category, question, better, worse], at) =>
    ({ at, id, source, category, question, better, worse, shots: shots.of[at] }));
  const runs = data.runs.map(({ tag, rows, texts }) => {
    const seen = new Map();
    const objects = rows.map(([pair, order, sample, copy, label, verdict, outcome, proxy, why, tokens, cut], at) => {
      const row = { at, tag, pair: pairs[pair], order: order ? "swapped" : "as is", sample, label, verdict, proxy, tokens,
        result: data.outcomes[outcome], why: why.map((n) => data.reasons[n].replaceAll("_", " ")), cut: Boolean(cut),
        text: texts[at] };
      const plain = [row.pair.id, order ? "swapped" : "as_is", ...(copy || sample ? [copy, sample] : [])].join("~");
      const repeats = seen.get(plain) ?? 0;
      seen.set(plain, repeats + 1);
      row.name = repeats ? `${plain}~${repeats}` : plain;
      row.shown = [pair, order, sample].join();
      return row;
    });
    return { tag, name: data.names[tag], rows: objects };
  });
  return { runs, reasons: data.reasons.map((reason) => reason.replaceAll("_", " ")) };
}
