// Waiting for an event, never by the clock: what does not come in time fails with its name.
const MS_MAX = 20_000;
const POLL_MS = 5;

/** The value of the promise, or a failure that says what did not come. */
export async function within(promise, what, ms = MS_MAX) {
  let late;
  const deadline = new Promise((_, reject) => {
    late = setTimeout(() => reject(new Error(`${what} did not come within ${ms} ms`)), ms);
  });
  return Promise.race([promise, deadline]).finally(() => clearTimeout(late));
}

/** Looks again and again until there is something other than a falsy value, and gives it back. */
export async function until(look, what, ms = MS_MAX) {
  for (const end = Date.now() + ms; Date.now() < end; ) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  throw new Error(`${what} did not come within ${ms} ms`);
}
