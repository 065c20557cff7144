#include "report/html_parts.h"

namespace ptq {

std::string html_style() {
  // No < or &: the page is XML too, and these are not escaped inside <style> by browsers.
  return R"CSS(
:root { color-scheme: light dark; --page: #ffffff; --text: #1b2129; --muted: #59636f; --line: #d8dee5;
  --card: #f4f6f8; --accent: #1f63b8; --before: #8a5a00; --bad: #c2242c; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14181d; --text: #e3e8ee; --muted: #9aa6b3; --line: #313942; --card: #1d232a;
    --accent: #6aabf7; --before: #dfa23c; --bad: #ff7a76; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 48px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 6px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 14px; margin: 0; overflow-wrap: anywhere; }
section > h3 { margin-top: 24px; }
p { margin: 4px 0 12px; max-width: 78ch; }
.muted, .note { color: var(--muted); }
.note { font-size: 13px; margin: 0 0 4px; }
.cards { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0; }
.card { flex: 1 1 132px; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px; }
.card .what { color: var(--muted); font-size: 13px; }
.card .value { font-size: 17px; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.card .more { font-size: 13px; color: var(--muted); overflow-wrap: anywhere; }
.remarks { border-left: 4px solid var(--before); padding: 2px 0 2px 14px; margin: 14px 0; }
.remarks ul { margin: 4px 0 10px; padding-left: 18px; }
.remarks li { overflow-wrap: anywhere; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: 20px 18px; }
.wide { overflow-x: auto; margin: 10px 0 18px; }
svg.panel { display: block; width: 100%; height: auto; }
svg text { fill: var(--muted); font-size: 11px; font-variant-numeric: tabular-nums; }
svg text.name { fill: var(--text); font-size: 12px; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .trace { fill: none; stroke: var(--accent); stroke-width: 1.2; stroke-opacity: 0.45; }
svg .dot, svg .bar, svg .cell { fill: var(--accent); }
svg .cell { stroke: var(--line); stroke-width: 0.6; }
svg .dot.worst, svg .bar.worst { fill: var(--bad); }
svg .before { fill: var(--page); stroke: var(--before); stroke-width: 1.4; }
svg .join { stroke: var(--muted); stroke-width: 1; stroke-opacity: 0.7; }
svg .hit { fill: transparent; }
svg g:hover .hit { fill: var(--muted); fill-opacity: 0.14; }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 5px; background: var(--accent);
  margin: 0 5px 0 2px; }
.key.before { background: none; border: 2px solid var(--before); }
.key.worst { background: var(--bad); }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { text-align: right; padding: 4px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--muted); font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.text, th.text { text-align: left; }
td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 180px; }
td.meter { width: 26%; min-width: 110px; }
.track { display: block; height: 10px; border-radius: 3px; background: var(--line); }
.track span { display: block; height: 10px; border-radius: 3px; background: var(--accent); }
code { font: 12.5px/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
footer { margin-top: 36px; padding-top: 12px; border-top: 1px solid var(--line); color: var(--muted);
  font-size: 13px; overflow-wrap: anywhere; }
@media (max-width: 560px) { main { padding: 16px 14px 32px; } h1 { font-size: 21px; }
  th, td { padding: 4px 7px; } td.wrap { min-width: 124px; } td.meter { min-width: 84px; }
  .card { flex-basis: 40%; } .card .value { font-size: 16px; } }
@media print { main { max-width: none; } }
)CSS";
}

}  // namespace ptq
