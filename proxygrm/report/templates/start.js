if (document.getElementById("filters")) {
  unpack().then((data) => {
    $("browser").hidden = false;
    $("wait").hidden = true;
    judgements(arrange(data, JSON.parse($("images").textContent)));
    if (location.hash === "#judgements") $("judgements").scrollIntoView();
  }).catch((error) => {
    $("wait").textContent = typeof DecompressionStream === "undefined"
      ? "This browser cannot unpack the judgements (it lacks DecompressionStream); any browser of 2023 or later can. Everything above is complete."
      : `The judgements could not be unpacked: ${error}`;
  });
}
