"use strict";
// Less than a second, so that what happens is seen within one, though a health
// check and this page take their time, too.
const every = 700, patience = 4000;
const lost = document.getElementById("lost");
let since = null;

// become makes one tree like another and touches only what differs: nothing
// flickers, no selection is lost, and a screen reader tells only what is new.
function become(now, next) {
  if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName) {
    now.replaceWith(document.importNode(next, true));
    return;
  }
  if (now.nodeType !== Node.ELEMENT_NODE) {
    if (now.data !== next.data) now.data = next.data;
    return;
  }
  for (const {name, value} of [...next.attributes]) if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  for (const {name} of [...now.attributes]) if (!next.hasAttribute(name)) now.removeAttribute(name);
  const have = [...now.childNodes], want = [...next.childNodes];
  want.forEach((node, i) => i < have.length ? become(have[i], node) : now.append(document.importNode(node, true)));
  have.slice(want.length).forEach(node => node.remove());
}

function say(trouble) {
  since ??= new Date();
  lost.textContent = "Connection lost at " + since.toLocaleTimeString() + ": " + trouble + ". This is how it was then.";
  lost.hidden = false;
  document.body.className = "lost";
  document.title = "Connection lost";
}

async function refresh() {
  const answer = await fetch(location.href, {cache: "no-store", signal: AbortSignal.timeout(patience)});
  if (!answer.ok) throw new Error("it answers " + answer.status);
  const next = new DOMParser().parseFromString(await answer.text(), "text/html"), main = next.querySelector("main");
  if (!main) throw new Error("it answers with another page");
  const shown = document.querySelector("main");
  if (shown.dataset.build !== main.dataset.build) return location.reload(); // an upgrade
  become(shown, main);
  document.title = next.title;
  become(document.querySelector("link[rel=icon]"), next.querySelector("link[rel=icon]"));
  since = null;
  lost.hidden = true;
  document.body.className = "";
}

let timer = 0;
async function turn() {
  clearTimeout(timer);
  if (document.hidden) return; // nobody looks
  try {
    await refresh();
  } catch (error) {
    say(error instanceof TypeError || error.name === "TimeoutError" ? "smtpseal does not answer" : error.message);
  }
  clearTimeout(timer);
  timer = setTimeout(turn, every);
}
document.addEventListener("visibilitychange", turn);
timer = setTimeout(turn, every);
