// The annotator's page by keyboard. Everything here only helps: the forms work without it.

import { save } from "./drafts.js";

const IDLE = 60_000;
const task = () => document.getElementById("task");
const judgeForm = () => document.getElementById("judge");
const isTextBox = (element) => element.closest?.("textarea, select, input:not([type=radio]):not([type=checkbox])");
const isNarrow = () => window.matchMedia("(max-width: 56.25rem)").matches;

// Judging

const chosen = () => judgeForm()?.querySelector("input[name=choice]:checked");
const safe = () => judgeForm()?.querySelector("input[name=safe]:checked");

function tell(message) {
  const line = judgeForm()?.querySelector("[data-message]");
  if (!line) return;
  line.textContent = message;
  line.hidden = !message;
}

function contradiction() {
  const side = chosen()?.classList.contains("step-left") ? "left" : "right";
  const only = safe()?.value;
  if (!chosen() || !["left", "right"].includes(only) || only === side) return "";
  const letters = { left: "A", right: "B" };
  return `You prefer ${letters[side]} but say that only ${letters[only]} is safe. In a safety round a safe response is better than an unsafe one: prefer ${letters[only]}, or look again at which is safe.`;
}

function unread() {
  if (!isNarrow()) return null;
  return document.querySelector(".response-tabs a:not([data-seen])");
}

function complaint() {
  const missed = unread();
  if (missed) return `Read ${missed.textContent.trim().slice(1).trim()} to its end first.`;
  if (!chosen()) return "Choose one of the eight steps: which response is better?";
  if (judgeForm().querySelector("input[name=safe]") && !safe()) return "Say which of the two responses is safe.";
  return contradiction();
}

function describe() {
  const verdict = judgeForm()?.querySelector("p[data-verdict]");
  if (!verdict) return;
  const strong = document.createElement("strong");
  strong.textContent = chosen()?.dataset.verdict ?? "";
  verdict.replaceChildren(strong);
}

function check(selector) {
  const input = judgeForm()?.querySelector(selector);
  if (!input) return false;
  input.checked = true;
  input.focus({ preventScroll: true });
  input.dispatchEvent(new Event("input", { bubbles: true }));
  return true;
}

function react() {
  describe();
  tell(contradiction());
}

document.addEventListener("input", (event) => {
  if (judgeForm() && event.target.form === judgeForm()) react();
});
document.addEventListener("draft-restored", react);

// Stopped here with an explanation, before anything is sent; the server checks again.
function stopIncomplete(event) {
  if (event.target !== judgeForm()) return;
  dropUnchangedEdit();
  const message = complaint();
  if (!message) return;
  event.preventDefault();
  event.stopPropagation();
  tell(message);
  const missed = unread();
  if (missed) document.querySelector(missed.hash).scrollIntoView({ block: "end", behavior: "smooth" });
}
document.addEventListener("submit", stopIncomplete, true);

// Keys

function toggle(id) {
  document.getElementById(id)?.togglePopover();
}

function showGuidelines(isShown) {
  const drawer = document.getElementById("guidelines");
  if (!drawer) return;
  drawer.hidden = isShown === undefined ? !drawer.hidden : !isShown;
}

function openSheet(name) {
  const sheet = judgeForm()?.querySelector(`details[data-sheet="${name}"]`);
  if (!sheet) return;
  sheet.open = !sheet.open;
  if (sheet.open) sheet.querySelector("input, textarea").focus();
}

// The edit begins with the response that was chosen; left as it was, it is none.

const sourceOf = (side) => judgeForm().querySelector(`template[data-source="${side}"]`).content.textContent;

document.addEventListener("toggle", (event) => {
  const box = event.target.matches?.('details[data-sheet="edit"][open]') && judgeForm().elements.edited_text;
  if (!box || box.value || !chosen()) return;
  box.value = sourceOf(chosen().classList.contains("step-left") ? "left" : "right");
}, true);

function dropUnchangedEdit() {
  const box = judgeForm().elements.edited_text;
  if (["left", "right"].some((side) => sourceOf(side).trim() === box.value.trim())) box.value = "";
}

const single = {
  f: () => toggle("flag-sheet"),
  h: () => showGuidelines(),
  z: () => document.getElementById("take-back")?.requestSubmit(),
  x: () => openSheet("neither"),
  e: () => openSheet("edit"),
  "?": () => toggle("key-sheet"),
  " ": () => judgeForm() && toggle("skip-sheet"),
  Enter: () => judgeForm()?.requestSubmit(),
};

document.addEventListener("keydown", (event) => {
  const withControl = event.ctrlKey || event.metaKey;
  const form = isTextBox(event.target)?.form ?? judgeForm();
  if (withControl && event.key === "Enter" && form) {
    event.preventDefault();
    return form.requestSubmit();
  }
  if (withControl && event.key.toLowerCase() === "s") {
    const draft = task()?.querySelector("form[data-draft]");
    if (!draft) return;
    event.preventDefault();
    return void save(draft);
  }
  if (event.key === "Escape" && isTextBox(event.target) && !document.querySelector("[popover]:popover-open")) return event.target.blur();
  if (withControl || event.altKey || isTextBox(event.target) || event.isComposing) return;
  const isControl = event.target.closest("button, a, summary, dialog, [popover], input[type=checkbox], input[type=radio]:not(:checked)");
  if (["Enter", " "].includes(event.key) && isControl) return;
  if (document.querySelector("[popover]:popover-open") && event.key !== "?") return;
  if (/^[1-8]$/.test(event.key)) check(`input[data-number="${event.key}"]`);
  else if (/^[absn]$/.test(event.key) && check(`input[data-key="${event.key}"]`)) { /* done */ }
  else if (single[event.key]) single[event.key]();
  else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-guidelines]");
  if (!link) return;
  event.preventDefault();
  showGuidelines(!link.closest("#guidelines") && document.getElementById("guidelines").hidden);
});

// Time the page was in front and used

let lastSign = Date.now();
let activeMilliseconds = 0;
for (const name of ["pointermove", "keydown", "scroll", "pointerdown"]) {
  document.addEventListener(name, () => { lastSign = Date.now(); }, { passive: true, capture: true });
}
setInterval(() => {
  const field = document.querySelector("[data-active-seconds]");
  const isAway = document.hidden || Date.now() - lastSign > IDLE;
  if (field && !isAway) {
    activeMilliseconds += 250;
    field.value = (activeMilliseconds / 1000).toFixed(1);
  }
  showTime(isAway);
}, 250);

// In the header of a pair: the same time. It is hidden from screen readers, which it would drown.
function showTime(isAway) {
  const clock = document.getElementById("active-time");
  if (!clock) return;
  clock.hidden = !judgeForm();
  clock.toggleAttribute("data-away", isAway);
  const seconds = Math.floor(activeMilliseconds / 1000);
  const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  if (clock.textContent !== text) clock.textContent = text;
}

// Narrow screens: which responses were read to their end

let watcher;
function watchReading() {
  watcher?.disconnect();
  watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      const id = entry.target.closest(".response").id;
      document.querySelector(`.response-tabs a[href="#${id}"]`)?.setAttribute("data-seen", "");
    }
  });
  for (const end of document.querySelectorAll(".judge .response .prose:not([inert]) > :last-child")) watcher.observe(end);
}

document.addEventListener("uncovered", watchReading);

// A new task: where reading begins, and what a screen reader says

let shownComparison;
function begin() {
  const current = task();
  if (!current) return;
  const form = judgeForm();
  const comparison = form && `${form.dataset.draftTarget} ${form.dataset.draftId}`;
  if (comparison !== shownComparison) activeMilliseconds = 0;
  shownComparison = comparison;
  showTime(false);
  watchReading();
  describe();
  document.getElementById("announcement").textContent = current.querySelector("h1").textContent;
  const refused = current.querySelector("[aria-invalid=true]");
  const box = refused ?? current.querySelector("textarea[autofocus], button[autofocus]");
  if (box) {
    box.focus();
    box.setSelectionRange?.(box.value.length, box.value.length);
  }
  if (form) form.scrollIntoView({ block: "nearest" });
}
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "task" || event.detail.target?.id === "task") begin();
});
begin();
