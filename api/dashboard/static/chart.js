// A range of time that is dragged on the chart: the list is narrowed to what ended in it. A click is one bar. With the
// keyboard it is chosen in the form and the table beneath.
const chart = () => document.getElementById("chart");
let from = null, to = 0;

const part = (event) => {
  const { left, width } = chart().getBoundingClientRect(), parts = Number(chart().dataset.parts);
  return Math.max(0, Math.min(parts - 1, Math.floor((event.clientX - left) / width * parts)));
};

function draw() {
  const range = document.getElementById("range"), place = 1200 / Number(chart().dataset.parts);
  range.setAttribute("x", Math.min(from, to) * place);
  range.setAttribute("width", (Math.abs(to - from) + 1) * place);
}

export function dragRanges() {
  document.addEventListener("pointerdown", (event) => {
    if (event.button || !chart()?.contains(event.target)) return;
    event.preventDefault();
    from = to = part(event);
    draw();
  });
  document.addEventListener("pointermove", (event) => {
    if (from === null || !chart()) return;
    to = part(event);
    draw();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && from !== null) { from = null; document.getElementById("range")?.setAttribute("width", 0); } });
  document.addEventListener("pointercancel", () => { from = null; });
  document.addEventListener("pointerup", () => {
    if (from === null || !chart()) return;
    const { start, width } = chart().dataset, asked = new URL(location.href);
    const at = (number) => new Date(Date.parse(start) + number * width * 1000).toISOString();
    for (const name of ["page", "cursor"]) asked.searchParams.delete(name);
    asked.searchParams.set("since", at(Math.min(from, to)));
    asked.searchParams.set("until", at(Math.max(from, to) + 1));
    from = null;
    location.assign(asked);
  });
}
