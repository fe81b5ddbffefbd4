// Light or dark: what the system says, until the button says otherwise. Kept where the browser lets a file keep things.
const themeButton = document.getElementById("theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
const sayTheme = () => { themeButton.textContent = isDark() ? "Light" : "Dark"; };
function remembered(theme) {
  try {
    if (theme) localStorage.setItem("proxygrm-theme", theme);
    return localStorage.getItem("proxygrm-theme");
  } catch { return null; }
}
if (["light", "dark"].includes(remembered())) document.documentElement.dataset.theme = remembered();
themeButton.hidden = false;
sayTheme();
systemDark.addEventListener("change", sayTheme);
themeButton.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  remembered(document.documentElement.dataset.theme);
  sayTheme();
});
