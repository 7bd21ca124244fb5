// Every page: the theme switch, toasts, menus that close, disclosures that stay open over a refresh.

const root = document.documentElement;

document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-theme-switch]");
  if (!form || !event.submitter) return;
  event.preventDefault();
  const theme = event.submitter.value;
  root.dataset.theme = theme;
  for (const button of form.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.value === theme));
  }
  const body = new FormData(form, event.submitter);
  fetch(form.action, { method: "POST", body, redirect: "manual" });
});

document.addEventListener("click", (event) => {
  event.target.closest("[data-dismiss]")?.closest(".toast").remove();
  for (const menu of document.querySelectorAll("details.menu[open], details.tip[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open], details.tip[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// A form that asks before it does something that cannot be undone.
document.addEventListener("submit", (event) => {
  const question = event.target.dataset?.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
}, true);

function expireToasts() {
  for (const toast of document.querySelectorAll(".toast:not([data-timed])")) {
    toast.dataset.timed = "";
    if (!toast.classList.contains("toast-error")) setTimeout(() => toast.remove(), 7000);
  }
}
expireToasts();
document.addEventListener("htmx:afterSettle", expireToasts);

// What the reader opened stays open when a live part of the page is refreshed.
let open = new Set();
document.addEventListener("htmx:beforeSwap", (event) => {
  open = new Set([...event.detail.target.querySelectorAll("details[data-keep-open][open]")].map((d) => d.id));
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of open) {
    const details = document.getElementById(id);
    if (details) details.open = true;
  }
});

// Where the tabs are wider than the screen, the one that is open is in sight.
document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

export function toast(text, level = "info") {
  const box = document.createElement("div");
  box.className = `toast toast-${level}`;
  const words = document.createElement("p");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.dataset.dismiss = "";
  close.setAttribute("aria-label", "Dismiss");
  close.textContent = "×";
  box.append(words, close);
  document.getElementById("toasts").append(box);
  expireToasts();
}

document.addEventListener("htmx:responseError", (event) => {
  const status = event.detail.xhr.status;
  if (status === 403) toast("You may not do this, or the page is too old. Reload it and try again.", "error");
  else toast(`The server could not do this (${status}). What you typed is still here; try again.`, "error");
});
document.addEventListener("htmx:sendError", () => {
  toast("The server cannot be reached. What you typed is still here; it is tried again when you are online.", "error");
});
