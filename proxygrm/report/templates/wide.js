// A table that is wider than its card says that it scrolls. It takes the keyboard's arrows, unless what is in it does.
for (const box of document.querySelectorAll(".scroll")) {
  const hint = node("p", "↔ This table scrolls to the side.", "hint sideways");
  box.before(hint);
  const look = () => {
    const wide = box.scrollWidth > box.clientWidth + 1;
    hint.hidden = !wide;
    if (wide && !box.querySelector("a, button")) box.tabIndex = 0; else box.removeAttribute("tabindex");
  };
  const watch = new ResizeObserver(look);
  watch.observe(box);
  for (const table of box.children) watch.observe(table);
  look();
}
