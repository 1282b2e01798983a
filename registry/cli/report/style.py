"""How the page of `registry report` looks: light or dark as its reader is, at any width."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """\
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1d2129; --faint: #5f6773;
  --rule: #dfe2e6; --held: #2b6cb0; --warm: #b4540a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171c; --card: #1c2027; --ink: #e6e8eb; --faint: #9aa3b0; --rule: #323842;
    --held: #6aa9f0; --warm: #f0a35c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 1.25rem; overflow-wrap: anywhere; }
h2 { margin: 0; font-size: 1.05rem; }
p { margin: .2rem 0; color: var(--faint); }
dl { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0; }
dt { color: var(--faint); font-size: .85rem; }
dd { margin: 0; font-size: 1.3rem; font-weight: 600; }
.warning { color: var(--warm); font-weight: 600; }
main { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); }
section { min-width: 0; padding: 1rem; background: var(--card); border: 1px solid var(--rule);
  border-radius: .5rem; }
.plot { position: relative; height: 15rem; margin: 1.2rem .8rem 1.8rem 4.6rem;
  border-bottom: 1px solid var(--faint); }
.plot svg { position: absolute; width: 100%; height: 100%; overflow: visible; }
.plot span { position: absolute; color: var(--faint); font-size: .8rem; white-space: nowrap; }
.plot .up { right: calc(100% + .5rem); transform: translateY(50%); }
.plot .across { top: calc(100% + .3rem); transform: translateX(-50%); }
path { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
path.grid { stroke: var(--rule); stroke-width: 1; }
path.held { stroke: var(--held); fill: var(--held); fill-opacity: .25; }
path.freed { stroke: var(--warm); fill: var(--warm); fill-opacity: .25; }
path.limit { stroke: var(--ink); stroke-dasharray: 5 4; }
.bars { margin: .8rem 0 0; padding: 0; list-style: none; }
.bars li { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 1rem;
  margin: 0 0 .55rem; }
.bars .name { overflow-wrap: anywhere; }
.bars .value { font-weight: 600; }
.bars .track, .bars .more { grid-column: 1 / -1; }
.bars .track { height: .5rem; background: var(--rule); border-radius: .25rem; overflow: hidden; }
.bars i { display: block; height: 100%; background: var(--held); }
.bars .more { color: var(--faint); font-size: .85rem; overflow-wrap: anywhere; }
.nothing { margin: 1rem 0; font-style: italic; }
@media print { section { break-inside: avoid; } }
"""
