// Responses that may disturb: blurred until their reader asks, by pointer, Enter, or the key v.
// Without this the same text is a closed <details>, which this turns into a blurred page with a
// button on it. Until it is pressed the text is out of reach for everybody alike: a screen reader
// hears the button and not the words, and hears the words once it is pressed.

// What was uncovered stays so when the same pair is shown again, such as after a refused form.
const seen = new Set();
const nameOf = (element) => `${element.closest("form").dataset.draftId} ${element.closest(".response").id}`;

function cover(details) {
  const text = details.querySelector(".prose");
  if (seen.has(nameOf(details))) return void details.replaceWith(text);
  const summary = details.querySelector("summary");
  const box = document.createElement("div");
  const button = document.createElement("button");
  box.className = "is-blurred";
  button.type = "button";
  button.className = "uncover";
  button.append(...summary.querySelector(".when-covered").cloneNode(true).childNodes);
  text.inert = true;
  text.setAttribute("aria-hidden", "true");
  text.id ||= `${details.closest(".response").id}-text`;
  button.setAttribute("aria-controls", text.id);
  button.setAttribute("aria-expanded", "false");
  box.append(button, text);
  details.replaceWith(box);
  button.addEventListener("click", () => uncover(box));
}

function uncover(box) {
  const text = box.querySelector(".prose");
  const button = box.querySelector(".uncover");
  const hadFocus = document.activeElement === button;
  seen.add(nameOf(box));
  button.remove();
  box.classList.remove("is-blurred");
  text.inert = false;
  text.removeAttribute("aria-hidden");
  if (hadFocus) {
    text.tabIndex = -1;
    text.focus({ preventScroll: true });
  }
  document.getElementById("announcement").textContent = covered().length ? "Shown" : "Both responses are shown";
  document.dispatchEvent(new CustomEvent("uncovered"));
}

const covered = () => document.querySelectorAll(".is-blurred");
const isTyping = (element) => element.closest?.("textarea, select, input:not([type=radio]):not([type=checkbox])");

document.addEventListener("keydown", (event) => {
  if (event.key !== "v" || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (!covered().length || document.querySelector("[popover]:popover-open")) return;
  event.preventDefault();
  covered().forEach(uncover);
});

// Nobody judges what they have not seen. This listens before the page's own checks do.
window.addEventListener("submit", (event) => {
  if (event.target.id !== "judge" || !covered().length) return;
  event.preventDefault();
  event.stopPropagation();
  const line = event.target.querySelector("[data-message]");
  line.textContent = "Both responses are covered until you ask to see them: press v, or the button on each.";
  line.hidden = false;
  covered()[0].querySelector(".uncover").focus();
}, true);

const coverAll = () => document.querySelectorAll("details.cover").forEach(cover);
document.addEventListener("htmx:load", coverAll);
coverAll();
