// Light or dark: as in the system, until the button is used. Stored where the browser allows a file to store things.
const themeButton = document.getElementById("theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
const updateButton = () => { themeButton.textContent = isDark() ? "Light" : "Dark"; };
function remembered(theme) {
  try {
    if (theme) localStorage.setItem("proxygrm-theme", theme);
    return localStorage.getItem("proxygrm-theme");
  } catch { return null; }
}
if (["light", "dark"].includes(remembered())) document.documentElement.dataset.theme = remembered();
themeButton.hidden = false;
updateButton();
systemDark.addEventListener("change", updateButton);
themeButton.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  remembered(document.documentElement.dataset.theme);
  updateButton();
});
