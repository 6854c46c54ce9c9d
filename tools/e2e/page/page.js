"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  // The table: search, filters, order.
  const form = $("#specs form"), body = $("#specs tbody"), shown = $("#shown");
  const rows = $$("tr", body).map((tr, rank) => ({
    tr, rank,
    name: $(".name", tr).textContent,
    text: $(".name", tr).textContent.toLowerCase(),
    state: tr.className,
    sig: tr.dataset.sig,
    seconds: +tr.dataset.s, offset: +tr.dataset.o, process: +tr.dataset.p,
  }));
  form.hidden = false;
  form.addEventListener("submit", e => e.preventDefault());

  function filter() {
    const words = form.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = form.state.value, sig = form.sig.value;
    let n = 0;
    for (const r of rows) {
      const fits = (!state || r.state === state) && (!form.sig.selectedIndex || r.sig === sig) &&
        words.every(w => r.text.includes(w));
      r.tr.hidden = !fits;
      if (fits) n++;
    }
    shown.textContent = n === rows.length ? n : `${n} of ${rows.length}`;
  }
  let pending = 0;
  form.addEventListener("input", () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(filter);
  });

  const heads = $$("#specs th");
  function sort(head) {
    const key = head.dataset.sort, old = head.getAttribute("aria-sort");
    // Times are of interest from their long end.
    const up = old ? old === "descending" : key !== "seconds";
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const order = (a, b) => key === "name" ? a.name.localeCompare(b.name) : a[key] - b[key];
    rows.sort((a, b) => (up ? order(a, b) : order(b, a)) || a.rank - b.rank);
    body.append(...rows.map(r => r.tr));
  }
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head));
    head.replaceChildren(button);
  }

  // A link into the table leads to its row, even if a filter hides that.
  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (!target) return;
    if (target.hidden) { form.reset(); filter(); }
    for (let d = target.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
    target.scrollIntoView({block: target.tagName === "TR" ? "center" : "start"});
  }
  addEventListener("hashchange", reveal);
  // The browser kept what was typed before the page was loaded again.
  filter();
  reveal();

  // The timeline: what is under the pointer, and zoom.
  const time = $(".time"), scroll = $(".scroll"), tip = $("#tip");
  if (!time) return;
  const bars = $$(".lane a", time);
  for (const bar of bars) {
    bar.dataset.tip = bar.title;
    bar.setAttribute("aria-label", bar.title);
    bar.removeAttribute("title");
    // Hundreds of stops would keep the keyboard out of the table.
    bar.tabIndex = -1;
  }
  function show(bar) {
    tip.textContent = bar.dataset.tip;
    tip.hidden = false;
    const at = bar.getBoundingClientRect(), size = tip.getBoundingClientRect();
    const view = scroll.getBoundingClientRect();
    const middle = (Math.max(at.left, view.left) + Math.min(at.right, view.right)) / 2;
    tip.style.left = Math.max(8, Math.min(innerWidth - size.width - 8, middle - size.width / 2)) + "px";
    tip.style.top = (at.top - size.height - 6 > 0 ? at.top - size.height - 6 : at.bottom + 6) + "px";
  }
  const hide = () => { tip.hidden = true; };
  time.addEventListener("pointerover", e => e.target.dataset.tip ? show(e.target) : hide());
  time.addEventListener("pointerleave", hide);
  addEventListener("scroll", hide, {passive: true});
  // A finger's first tap shows, its second one follows the link.
  let tapped = null;
  time.addEventListener("click", e => {
    if (e.target.dataset.tip && e.pointerType === "touch" && tapped !== e.target) {
      e.preventDefault();
      tapped = e.target;
      show(e.target);
    } else hide();
  });

  // About eight marks are in sight, at round times.
  const wall = +time.dataset.wall;
  const clock = s => {
    const two = n => String(n).padStart(2, "0"), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
    return h ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
  };
  function marks() {
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].find(s => wall / s <= 8 * factor) || 3600;
    $$(".tick", time).forEach(t => t.remove());
    for (let s = 0; s <= wall; s += step) {
      const tick = document.createElement("div"), label = document.createElement("span");
      tick.className = "tick";
      tick.style.left = 100 * s / wall + "%";
      label.textContent = clock(s);
      tick.append(label);
      time.prepend(tick);
    }
  }

  const zoom = $(".zoom");
  zoom.hidden = false;
  let factor = 1;
  function setZoom(to, x) {
    to = Math.min(64, Math.max(1, to));
    if (to === factor) return;
    // What is at x stays there.
    const at = (scroll.scrollLeft + x) / time.offsetWidth;
    factor = to;
    time.style.width = factor * 100 + "%";
    marks();
    scroll.scrollLeft = at * time.offsetWidth - x;
    $("output", zoom).textContent = (factor < 10 ? Math.round(factor * 10) / 10 : Math.round(factor)) + "×";
    hide();
  }
  zoom.addEventListener("click", e => {
    const way = e.target.dataset.zoom;
    if (way) setZoom(way === "in" ? factor * 2 : factor / 2, scroll.clientWidth / 2);
  });
  scroll.addEventListener("wheel", e => {
    if (!e.ctrlKey && !e.metaKey) return;
    e.preventDefault();
    setZoom(factor * Math.exp(-e.deltaY / 200), e.clientX - scroll.getBoundingClientRect().left);
  }, {passive: false});
})();
