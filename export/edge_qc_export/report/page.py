"""The shell of the HTML page: its head, its look, and nothing that is fetched from elsewhere."""

from __future__ import annotations

from html import escape

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--paper:#fff;--card:#f6f8fa;
--line:#d0d7de;--alarm:#b13c00;--alarm-paper:#fff1e8}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9ea7b3;--paper:#0d1117;
--card:#161b22;--line:#3d444d;--alarm:#ff9d5c;--alarm-paper:#33190a}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:1rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.2rem;margin:2rem 0 .6rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 .4rem}
p{max-width:70ch}small,figcaption,caption,.soft{color:var(--soft);font-size:.875rem}
td small{display:block;white-space:nowrap}
.banner{border:3px solid var(--alarm);background:var(--alarm-paper);padding:.8rem 1rem;
border-radius:8px;margin:1rem 0}.banner strong{color:var(--alarm);font-size:1.3rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.6rem .8rem}
.tile b{display:block;font-size:1.5rem;line-height:1.3}
.tile span{display:block}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}
.grid>figure{max-width:36rem}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:.7rem}
figure img{display:block;max-width:100%;height:auto;margin:0 auto;border-radius:4px}
.mistakes{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.7rem}
.mistakes img{max-height:260px;width:auto;min-height:96px;image-rendering:auto}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5rem 0}
caption{text-align:left;padding:.2rem 0}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:right;
vertical-align:top;overflow-wrap:normal}
thead th{vertical-align:bottom}
th:first-child{position:sticky;left:0;background:var(--paper)}
th:first-child{text-align:left}tbody th{font-weight:500}
thead th{border-bottom:2px solid var(--line)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem .8rem;margin:.5rem 0}
dt{color:var(--soft)}dd{margin:0}
footer{margin:2rem 0 1rem;border-top:1px solid var(--line)}
@media(max-width:32rem){body{padding:.6rem}th,td{padding:.25rem .4rem}figure{padding:.4rem}}
@media print{section,figure{break-inside:avoid}}
"""


def page(title: str, body: str) -> str:
    """A whole page. The policy in its head makes the browser refuse everything from elsewhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none';img-src data:;style-src 'unsafe-inline'\">"
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>{body}</body></html>\n"
    )
