// Drafts: a form with data-draft is kept in the browser at every key, and on the server two seconds
// after the last one. What the server has not confirmed stays in the browser and is sent again.

const DELAY = 2000;
const RETRIES = [3000, 6000, 12000, 30000, 60000];
const PREFIX = "concord-draft";
const MAX_AGE = 14 * 24 * 3600 * 1000;
const timers = new WeakMap();
const attempts = new WeakMap();

const formsWithDraft = (root = document) => root.querySelectorAll("form[data-draft]");
const user = () => document.getElementById("task")?.dataset.user ?? "";
const storeKey = (form) => `${PREFIX}:${user()}:${form.dataset.draftTarget}:${form.dataset.draftId}`;

function valuesOf(form) {
  const values = {};
  for (const [name, value] of new FormData(form)) {
    if (!["csrfmiddlewaretoken", "client_key", "active_seconds"].includes(name)) values[name] = value;
  }
  return values;
}

function say(form, state, text) {
  const line = form.querySelector("[data-saved]");
  if (!line) return;
  line.dataset.state = state;
  line.replaceChildren(...[text].flat());
}

function keepHere(form) {
  try {
    localStorage.setItem(storeKey(form), JSON.stringify({ at: Date.now(), values: valuesOf(form) }));
  } catch {
    say(form, "failed", "This browser keeps nothing; stay on the page until it is saved");
  }
}

function clock(date) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export async function save(form) {
  clearTimeout(timers.get(form));
  if (!form.isConnected) return;
  const values = valuesOf(form);
  const sent = JSON.stringify(values);
  const body = new FormData();
  for (const [name, value] of Object.entries(values)) body.set(name, value);
  body.set("csrfmiddlewaretoken", form.querySelector("[name=csrfmiddlewaretoken]").value);
  body.set(form.dataset.draftTarget, form.dataset.draftId);
  say(form, "saving", "Saving …");
  let response;
  try {
    response = await fetch(form.dataset.draft, { method: "POST", body, headers: { Accept: "application/json" } });
  } catch {
    return retry(form, "Not connected. Your text is kept in this browser and sent again");
  }
  if (response.ok) {
    attempts.delete(form);
    const { saved_at: savedAt } = await response.json();
    say(form, "saved", `Saved ${clock(new Date(savedAt))}`);
    if (JSON.stringify(valuesOf(form)) === sent) localStorage.removeItem(storeKey(form));
  } else if (response.status === 401) {
    const { sign_in: signIn } = await response.json();
    const link = document.createElement("a");
    link.href = signIn;
    link.textContent = "sign in";
    say(form, "failed", ["You are signed out. Your text is kept in this browser: ", link, " to go on"]);
  } else if (response.status === 400) {
    const { error } = await response.json();
    say(form, "failed", `Not saved: ${error}. Your text is kept in this browser`);
  } else if (response.status === 404) {
    say(form, "failed", "This form is no longer open. Your text is kept in this browser");
  } else {
    retry(form, `The server did not save it (${response.status}). Your text is kept in this browser and sent again`);
  }
}

function retry(form, text) {
  const count = attempts.get(form) ?? 0;
  attempts.set(form, count + 1);
  say(form, "failed", text);
  timers.set(form, setTimeout(() => save(form), RETRIES[Math.min(count, RETRIES.length - 1)]));
}

function later(form) {
  keepHere(form);
  clearTimeout(timers.get(form));
  timers.set(form, setTimeout(() => save(form), DELAY));
}

// Text the server never confirmed goes back into the form, and is sent again.
function restore(form) {
  if (form.dataset.draftRestored !== undefined) return;
  form.dataset.draftRestored = "";
  const stored = localStorage.getItem(storeKey(form));
  if (!stored) return;
  let changed = false;
  for (const [name, value] of Object.entries(JSON.parse(stored).values)) {
    const field = form.elements.namedItem(name);
    if (!field) continue;
    const isBox = field.type === "checkbox";
    if (isBox ? field.checked : field.value === value) continue;
    if (isBox) field.checked = true;
    else field.value = value;
    changed = true;
  }
  if (changed) {
    form.dispatchEvent(new CustomEvent("draft-restored", { bubbles: true }));
    save(form);
  } else {
    localStorage.removeItem(storeKey(form));
  }
}

function dropOld() {
  for (const key of Object.keys(localStorage).filter((name) => name.startsWith(PREFIX))) {
    if (Date.now() - JSON.parse(localStorage.getItem(key)).at > MAX_AGE) localStorage.removeItem(key);
  }
}

document.addEventListener("input", (event) => {
  const form = event.target.form;
  if (form?.dataset.draft) later(form);
});
window.addEventListener("online", () => formsWithDraft().forEach((form) => attempts.get(form) && save(form)));
document.addEventListener("htmx:beforeRequest", (event) => clearTimeout(timers.get(event.detail.elt)));
// After a swap the form has left the page, and htmx names what took its place: ask for who began.
document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.detail.requestConfig.elt.closest("form[data-draft]");
  if (!form) return;
  if (event.detail.successful) localStorage.removeItem(storeKey(form));
  else if (form.isConnected) later(form);
});
document.addEventListener("htmx:load", (event) => formsWithDraft(event.target).forEach(restore));
dropOld();
formsWithDraft().forEach(restore);
