// The stream of live events, while the page is seen: a browser has six connections to a server of HTTP/1.1, and pages in
// other tabs would hold them all. The browser comes back by itself when it is lost, with the last id; when the server
// has refused it, it is opened anew after a while. Windows that are seen at the same time have places: so many streams leave
// connections for pages. HTTP/2 has as many connections as are wanted.
const NAMES = ["created", "started", "progress", "completed", "failed", "cancelled", "retried", "held"];
const AGAIN = 5000; // milliseconds
const PLACES = 4; // of six connections
const unbounded = () => !navigator.locks || /^h[23]/.test(performance.getEntriesByType("navigation")[0]?.nextHopProtocol);

// What gives a place back; null: other windows have all of them.
async function place() {
  if (unbounded()) return () => {};
  for (let number = 0; number < PLACES; number++) {
    const release = await new Promise((taken) => navigator.locks.request(`live ${number}`, { ifAvailable: true },
      (lock) => (lock ? new Promise(taken) : taken(null))));
    if (release) return release;
  }
  return null;
}

// `asked`: the query; lastEventId in it is of the page, and counts for the first stream. `state` hears "open", "lost",
// "refused", "waiting" again and again without a place, and "again" when it is open after one of these, or after the page was
// not seen: then much may be missed.
export function follow(asked, heard, state) {
  let stream = null, gap = document.hidden, leave = null, turn = 0;
  const close = () => { turn += 1; stream?.close(); stream = null; leave?.(); leave = null; };
  const open = async () => {
    close();
    if (document.hidden) return;
    const mine = turn, found = await place();
    if (mine !== turn) { found?.(); return; }
    leave = found;
    if (!leave) {
      gap = true;
      state("waiting");
      setTimeout(() => mine === turn && open(), AGAIN);
      return;
    }
    if (gap) asked.delete("lastEventId");
    stream = new EventSource(`/v1/events?${asked}`);
    for (const name of NAMES) {
      stream.addEventListener(`job:${name}`, (event) => heard(`job:${name}`, JSON.parse(event.data)));
    }
    stream.addEventListener("resync", () => heard("resync", {}));
    stream.onopen = () => { state(gap ? "again" : "open"); gap = false; };
    stream.onerror = () => {
      const refused = stream.readyState === EventSource.CLOSED;
      gap = true;
      state(refused ? "refused" : "lost");
      if (refused) setTimeout(() => stream?.readyState === EventSource.CLOSED && open(), AGAIN);
    };
  };
  open();
  document.addEventListener("visibilitychange", () => { gap = true; if (document.hidden) close(); else open(); });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) { gap = true; open(); } }); // by Back, as it was left
}
