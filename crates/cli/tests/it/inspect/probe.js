// What must be true of an inspected function's page beyond what every page must be: the result is a list of problems.
(() => {
  const wrong = [];
  const loops = [...document.querySelectorAll('.loop')].filter(loop => loop.dataset.loop !== '');
  if (loops.length < 3) wrong.push(`only ${loops.length} loops`);
  const back = loop => getComputedStyle(loop.querySelector('.column')).backgroundColor;
  for (const loop of loops) {
    const columns = [...loop.querySelectorAll('.column')].filter(column => column.querySelector('.line'));
    if (columns.length < 3) wrong.push(`loop ${loop.dataset.loop} has code in ${columns.length} columns`);
    const before = back(loop);
    loop.focus();
    if (document.activeElement !== loop) wrong.push(`loop ${loop.dataset.loop} cannot be focused`);
    const here = [...document.querySelectorAll('.is-here')];
    if (here.length !== 1 || here[0] !== loop) wrong.push(`${here.length} loops are highlighted instead of one`);
    if (back(loop) === before) wrong.push(`loop ${loop.dataset.loop} looks the same when it has the focus`);
    const inner = loops.filter(other => other !== loop && other.dataset.around.split(' ').includes(loop.dataset.loop));
    for (const other of inner)
      if (!other.classList.contains('is-within')) wrong.push(`loop ${other.dataset.loop} is not shown as a part`);
    loop.blur();
    if (document.querySelector('.is-here, .is-within')) wrong.push('a highlight stays');
  }
  const line = document.querySelector('.wasm .line[data-at]');
  line.dispatchEvent(new PointerEvent('pointerover', {bubbles: true}));
  const same = document.querySelectorAll('.is-same');
  if (same.length < 1 || [...same].some(other => other.dataset.at !== line.dataset.at)) wrong.push('other lines are highlighted');
  document.body.dispatchEvent(new PointerEvent('pointerover', {bubbles: true}));
  if (document.querySelector('.is-same')) wrong.push('a line stays highlighted');
  return wrong;
})()
