"use strict";
// Buttons that copy an address. Without JavaScript they are not shown. The answer stands outside of what renews itself:
// a renewal would wipe it off the button.
document.documentElement.classList.add("js");
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    return; // the browser does not allow it: the address is beside the button
  }
  const answer = document.createElement("span"); // a new one fades anew
  answer.textContent = button.dataset.copied;
  document.getElementById("copied").replaceChildren(answer);
});
// A renewal that failed is tried again soon: the next one by the clock may be minutes away, and a change is told only
// once. A stream that could not be opened is tried again, too. (The extension itself opens one again that breaks off.)
// The pauses differ by chance, so that the pages of a fleet do not all come back in the same second.
const PAUSES = { live: 3000, stream: 10000 };
const lookAgain = (event) => {
  const { id } = event.target;
  const refused = event.detail.ctx?.response?.status;
  if (!(id in PAUSES) || (refused && refused < 500)) return;
  setTimeout(() => htmx.trigger(`#${id}`, "look-again"), PAUSES[id] + 4000 * Math.random());
};
document.addEventListener("htmx:response:error", lookAgain);
document.addEventListener("htmx:error", lookAgain);
