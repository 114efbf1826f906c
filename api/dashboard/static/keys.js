// The keyboard: / search, j k move through the rows, Enter opens, c cancel, r retry, x select, p pause, n new job, v saved views,
// t light or dark, ? all keys.
export function moveByKeys(pause) {
  const rows = () => [...document.querySelectorAll("#rows tr")];
  const at = () => document.activeElement?.closest?.("#rows tr");
  const go = (step) => {
    const all = rows(), place = all.indexOf(at());
    all[Math.min(all.length - 1, Math.max(0, place < 0 ? 0 : place + step))]?.querySelector("a")?.focus();
  };
  const press = (act) => {
    const where = at() ?? (document.getElementById("body") ? document : null);
    where?.querySelector(`form[data-act="${act}"] button:not([disabled])`)?.click();
  };
  const keys = {
    "/": () => document.querySelector("input[type=search]")?.select(),
    j: () => go(1), k: () => go(-1), c: () => press("cancel"), r: () => press("retry"), p: pause,
    v: () => {
      const views = document.getElementById("views");
      if (!views) return;
      views.open = true;
      (views.querySelector("a[aria-current]") ?? views.querySelector("summary")).focus();
    },
    n: () => document.querySelector("a[data-key=n]")?.click(),
    t: () => {
      const themes = ["", "light", "dark"], root = document.documentElement;
      const next = themes[(themes.indexOf(root.dataset.theme ?? "") + 1) % themes.length];
      if (next) { root.dataset.theme = next; localStorage.setItem("theme", next); } else { delete root.dataset.theme; localStorage.removeItem("theme"); }
    },
    "?": () => document.getElementById("keys").showModal(),
    x: () => at()?.querySelector(".pick")?.click(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not(.pick, #pick-all), textarea, select")) return;
    if (document.querySelector("dialog[open]")) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}
