// The keyboard: / search, j k move through the rows, c cancel, r retry, x select, o or Enter open, p pause.
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
    "/": () => document.querySelector("input[type=search]")?.focus(),
    j: () => go(1), k: () => go(-1), c: () => press("cancel"), r: () => press("retry"), p: pause,
    x: () => at()?.querySelector(".pick")?.click(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}
