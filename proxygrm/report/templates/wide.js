// A table wider than its card gets a hint that it scrolls, and the arrow keys, unless its content uses them.
for (const box of document.querySelectorAll(".scroll")) {
  const hint = node("p", "↔ This table scrolls to the side.", "hint sideways");
  box.before(hint);
  const update = () => {
    const wide = box.scrollWidth > box.clientWidth + 1;
    hint.hidden = !wide;
    if (wide && !box.querySelector("a, button")) box.tabIndex = 0; else box.removeAttribute("tabindex");
  };
  const watch = new ResizeObserver(update);
  watch.observe(box);
  for (const table of box.children) watch.observe(table);
  update();
}
