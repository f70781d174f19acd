// Requests to gpufan web, and its stream of snapshots.

const SILENT_MS = 3500;
const BROKEN_MS = 1500;

let aheadS = 0; // how much the clock of the server is ahead of that of this browser

/** Return the time on the clock of the server, in seconds since the epoch: the history has its times. */
export function nowS() {
  return Date.now() / 1000 + aheadS;
}

/** A request that failed. `status` is that of HTTP; 0 if there was no answer. */
export class Failure extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

/** Return the answer to GET `path`. Raises Failure. */
export function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(parameters).toString();
  return request(`/api/${path}${query ? `?${query}` : ""}`, { signal });
}

/** Return the answer to POST `path` with `body`. Raises Failure. */
export function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return request(`/api/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
}

async function request(url, options) {
  let answer;
  try {
    answer = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("gpufan web does not answer", 0);
  }
  let body = null;
  try {
    body = await answer.json();
  } catch {
    // The status says enough.
  }
  if (!answer.ok) throw new Failure(body?.error || `gpufan web answered with status ${answer.status}`, answer.status);
  return body;
}

/**
 * Call `heard` with each snapshot, and `lost` with a Failure when the server is silent or refuses.
 *
 * The browser itself reopens a broken stream. A stream that is silent or refused is opened anew here.
 */
export function listen(heard, lost) {
  let stream = null;
  let latest = 0;
  let brokenAt = null;

  function open() {
    stream?.close();
    latest = performance.now();
    brokenAt = null;
    stream = new EventSource("/api/events");
    stream.addEventListener("error", () => (brokenAt ??= performance.now()));
    stream.addEventListener("now", (event) => {
      latest = performance.now();
      brokenAt = null;
      const snapshot = JSON.parse(event.data);
      aheadS = snapshot.time_s - Date.now() / 1000;
      heard(snapshot);
    });
  }

  async function check() {
    const now = performance.now();
    if (now - latest <= SILENT_MS && !(brokenAt !== null && now - brokenAt > BROKEN_MS)) return;
    lost(new Failure("gpufan web does not answer", 0));
    try {
      await get("box", {}, AbortSignal.timeout(2000));
    } catch (error) {
      if (error instanceof Failure) lost(error);
    }
    open();
  }

  open();
  const again = () => setTimeout(() => check().finally(again), 500);
  again();
}
