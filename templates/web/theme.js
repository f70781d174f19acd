// The theme: light, dark, or like the system. A plain script, so that it runs before the first picture.
"use strict";
(() => {
  const root = document.documentElement;

  function stored() {
    try {
      const value = localStorage.getItem("theme");
      return value === "light" || value === "dark" ? value : "system";
    } catch {
      return "system"; // the browser stores nothing
    }
  }

  function show(value) {
    if (value === "system") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", value);
    root.dispatchEvent(new Event("themechange"));
  }

  show(stored());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    root.dispatchEvent(new Event("themechange")),
  );
  addEventListener("DOMContentLoaded", () => {
    const choice = document.getElementById("theme");
    choice.value = stored();
    choice.addEventListener("change", () => {
      try {
        localStorage.setItem("theme", choice.value);
      } catch {
        // The theme then lasts until the page is closed.
      }
      show(choice.value);
    });
  });
})();
