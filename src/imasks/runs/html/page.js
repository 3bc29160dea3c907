"use strict";
const pictures = JSON.parse(document.getElementById("pictures").textContent);

// Theme: the system's until somebody chooses; some viewers of files have no storage.
const theme = document.getElementById("theme");
const remember = (value) => { try { localStorage.setItem("imasks-theme", value); } catch { /* none */ } };
const remembered = () => { try { return localStorage.getItem("imasks-theme"); } catch { return null; } };
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
if (["dark", "light"].includes(remembered())) document.documentElement.dataset.theme = remembered();
theme.hidden = false;
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  remember(document.documentElement.dataset.theme);
  nameTheme();
});
systemDark.addEventListener("change", nameTheme);
nameTheme();

// Pictures that do not change can be enlarged.
const large = document.getElementById("large");
for (const button of document.querySelectorAll(".still")) {
  button.addEventListener("click", () => {
    const from = button.querySelector("img");
    const to = large.querySelector("img");
    to.src = from.src;
    to.alt = from.alt;
    large.querySelector("p").textContent = from.alt;
    large.showModal();
  });
}
document.getElementById("close").addEventListener("click", () => large.close());
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });

// The viewer: what is shown is a function of the five controls.
function startViewer(root, data) {
  const control = (name) => root.querySelector(`[data-control="${name}"]`);
  const say = (name, text) => {
    const output = root.querySelector(`[data-output="${name}"]`);
    if (output.textContent !== text) output.textContent = text; // or it would be read out again
  };
  const percent = (name) => {
    const value = `${control(name).value} %`;
    control(name).setAttribute("aria-valuetext", value);
    say(name, value);
    root.style.setProperty(`--${name}`, control(name).value / 100);
  };
  const panes = [...root.querySelectorAll(".pane")];
  const layer = (panel, name, number, alt) => {
    const img = root.querySelector(`[data-panel="${panel}"] [data-layer="${name}"]`);
    img.hidden = number === null;
    img.alt = alt;
    if (number === null) img.removeAttribute("src");
    else if (img.src !== pictures[number]) img.src = pictures[number];
  };
  const hatch = (number) => {
    const span = root.querySelector(".stack .hatch");
    span.hidden = number === null;
    span.style.maskImage = number === null ? "none" : `url("${pictures[number]}")`;
  };
  function show() {
    const image = data.images[Number(control("image").value)];
    const strand = data.strands[Number(control("strand").value)];
    const slider = control("step");
    slider.max = strand.generations.length - 1;
    slider.disabled = strand.generations.length < 2;
    const step = Number(slider.value);
    const frame = strand.frames[step][Number(control("image").value)];
    const generation = `${strand.generations[step]} of ${strand.generations.at(-1)}`;
    slider.setAttribute("aria-valuetext", `generation ${generation}`);
    say("generation", generation);
    say("said", `Generation ${generation}: ${frame.text}.`);
    say("input", strand.input);
    const words = `${image.name}, generation ${strand.generations[step]}`;
    layer("input", "image", image.picture, `${words}: input`);
    layer("input", "over", null, "");
    layer("input", "doubt", strand.blacked ? frame.mask : null, "");
    layer("label", "image", image.picture, `${words}: pseudo-label over the image; ${frame.text}`);
    layer("label", "over", frame.label, "");
    hatch(frame.mask);
    layer("mask", "image", null, "");
    layer("mask", "over", null, "");
    layer("mask", "doubt", frame.mask, frame.mask === null ? "" : `${words}: inconsistency mask, white where networks differ`);
    root.querySelector('[data-panel="truth"]').hidden = image.truth === null;
    layer("truth", "image", image.truth === null ? null : image.picture, `${image.name}: true mask over the image`);
    layer("truth", "over", image.truth, "");
    layer("truth", "doubt", null, "");
    percent("opacity");
    percent("zoom");
  }
  for (const element of root.querySelectorAll("[data-control]")) element.addEventListener("input", show);
  // enlarged panels show the same place
  let led = null;
  for (const pane of panes) {
    pane.addEventListener("scroll", () => {
      if (led && led !== pane) return;
      led = pane;
      for (const other of panes) {
        if (other !== pane) other.scrollTo(pane.scrollLeft, pane.scrollTop);
      }
      requestAnimationFrame(() => requestAnimationFrame(() => { led = null; }));
    });
  }
  root.hidden = false;
  show();
}
for (const root of document.querySelectorAll(".viewer")) {
  startViewer(root, JSON.parse(document.getElementById(root.id.replace("viewer", "data")).textContent));
}
