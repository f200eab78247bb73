'use strict';
// Shows the same loop, and the loops in it, in all columns, and what comes from the same operator of WebAssembly.
const loops = [...document.querySelectorAll('.loop')];
const byOffset = new Map();
for (const line of document.querySelectorAll('.line[data-at]')) {
  const lines = byOffset.get(line.dataset.at);
  if (lines) lines.push(line); else byOffset.set(line.dataset.at, [line]);
}
const isWithin = (loop, outer) => loop.dataset.around.split(' ').includes(outer);
let same = [];
function show(target) {
  const here = target instanceof Element ? target.closest('.loop') : null;
  for (const loop of loops) {
    loop.classList.toggle('is-here', loop === here && here.dataset.loop !== '');
    loop.classList.toggle('is-within', here !== null && loop !== here && here.dataset.loop !== '' && isWithin(loop, here.dataset.loop));
  }
  for (const line of same) line.classList.remove('is-same');
  const line = target instanceof Element ? target.closest('.line[data-at]') : null;
  same = line ? byOffset.get(line.dataset.at) : [];
  for (const other of same) other.classList.add('is-same');
}
document.addEventListener('pointerover', event => show(event.target));
document.addEventListener('focusin', event => show(event.target));
document.addEventListener('focusout', () => show(null));
