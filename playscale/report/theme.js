"use strict";

// The page follows the system's theme until the reader chooses one.
function startTheme() {
  const button = document.querySelector(".theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remember = (theme) => { try { localStorage.setItem("playscale-theme", theme); } catch { /* a sandboxed frame */ } };
  const recall = () => { try { return localStorage.getItem("playscale-theme"); } catch { return null; } };
  const show = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    const now = theme || (system.matches ? "dark" : "light");
    button.textContent = now === "dark" ? "Light theme" : "Dark theme";
    button.dataset.next = now === "dark" ? "light" : "dark";
  };
  button.hidden = false;
  button.addEventListener("click", () => { const next = button.dataset.next; remember(next); show(next); });
  system.addEventListener("change", () => show(recall()));
  show(recall());
}

startTheme();
