// The time left for a part of a test. The server keeps the time; this only shows it, and hands in
// what stands in the form when it is up.

const box = document.querySelector("[data-timer]");

if (box) {
  const end = performance.now() + 1000 * Number(box.dataset.secondsLeft);
  const left = box.querySelector("[data-left]");
  const announce = box.querySelector("[data-announce]");
  const form = box.closest("form");
  const said = new Set();
  const marks = [[600, "Ten minutes left"], [300, "Five minutes left"], [60, "One minute left"]];

  const show = () => {
    const seconds = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    const two = (number) => String(number).padStart(2, "0");
    left.textContent = `: ${Math.floor(seconds / 60)}:${two(seconds % 60)} left`;
    box.toggleAttribute("data-last", seconds <= 60);
    // Read out once each; a ticking live region would drown everything else.
    const mark = marks.filter(([at]) => seconds <= at).at(-1);
    if (mark && !said.has(mark[0]) && seconds > mark[0] - 5) {
      said.add(mark[0]);
      announce.textContent = mark[1];
    }
    if (seconds === 0) {
      clearInterval(timer);
      form.requestSubmit();
    }
  };
  const timer = setInterval(show, 1000);
  show();
}
