// The stream of live events. The browser comes back by itself when it is lost, with the last id; when the server has
// refused it, it is opened anew after a while.
const NAMES = ["created", "started", "progress", "completed", "failed", "cancelled", "retried", "held"];
const AGAIN = 5000; // milliseconds

export function follow(address, heard, state) {
  let lost = false;
  const stream = new EventSource(address);
  for (const name of NAMES) {
    stream.addEventListener(`job:${name}`, (event) => heard(`job:${name}`, JSON.parse(event.data)));
  }
  stream.addEventListener("resync", () => heard("resync", {}));
  stream.onopen = () => { state(lost ? "again" : "open"); lost = false; };
  stream.onerror = () => {
    state("lost");
    lost = true;
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => follow(address, heard, again), AGAIN);
  };
  const again = (now) => state(now === "open" ? "again" : now);
  addEventListener("pagehide", () => stream.close());
}
