// Review by keyboard: what carries data-key is pressed, opened or focused by that key.

const isTextBox = (element) => element.closest?.("textarea, select, input:not([type=radio]):not([type=checkbox])");

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    const form = event.target.form;
    const button = form?.querySelector("button[data-default], button.button-primary");
    if (!button) return;
    event.preventDefault();
    return form.requestSubmit(button);
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isTextBox(event.target)) return;
  if (!/^[a-z0-9]$/.test(event.key)) return;
  const target = [...document.querySelectorAll(`[data-key="${event.key}"]`)].find((element) => element.checkVisibility() && !element.disabled);
  if (!target) return;
  event.preventDefault();
  if (isTextBox(target)) {
    target.focus();
    return target.scrollIntoView({ block: "center" });
  }
  target.click();
  if (target.matches("summary")) target.parentElement.querySelector("textarea, input, select")?.focus();
});

// What was refused: the field that is wrong, else the notice.
(document.querySelector(".field-error") ?? document.querySelector("[role=alert]"))?.scrollIntoView({ block: "center" });
