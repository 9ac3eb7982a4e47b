"""The HTML of the product page: pure functions from data to bytes.

Everything that came from outside passes through esc(). The ids and data- attributes are a
contract with tests and scripts: see samples/README.md.
"""

from html import escape

CONTENT_TYPE = "text/html; charset=utf-8"
STARS = 5
COLORS = ("black", "red", "blue", "green")

ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32"
rx="7" fill="#12344d"/><path d="M7 8c4-1 7 0 9 2v15c-2-2-5-3-9-2zM25 8c-4-1-7 0-9 2v15c2-2 5-3 9-2z"
fill="#f4ead5"/></svg>"""

STYLE = """
:root { --ink:#1d2b36; --soft:#5b6b77; --line:#dfe5e9; --paper:#fff; --sea:#12344d; --foam:#f3f6f8;
  --good:#1d7a4f; --warn:#a05a00; --bad:#a3282b; color-scheme: light; }
* { box-sizing: border-box; }
body { margin:0; background:var(--foam); color:var(--ink);
  font:16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header { background:linear-gradient(120deg, #0d2738, #1c5372); color:#fff; }
.bar { max-width:68rem; margin:0 auto; padding:.9rem 1.5rem; display:flex; gap:1rem;
  align-items:center; justify-content:space-between; flex-wrap:wrap; }
.brand { display:flex; gap:.7rem; align-items:center; font-size:1.2rem; font-weight:650; }
.brand svg { width:2rem; height:2rem; }
form { display:flex; gap:.5rem; align-items:center; margin:0; }
input, button { font:inherit; font-size:.92rem; border-radius:.45rem; padding:.35rem .7rem; }
input { border:1px solid #ffffff55; background:#ffffff1c; color:#fff; width:13.5rem; }
input::placeholder { color:#d3e0e8; }
button { border:0; background:#f4ead5; color:#12344d; font-weight:600; cursor:pointer; }
main { max-width:68rem; margin:0 auto; padding:1.8rem 1.5rem 3rem; }
.book { display:grid; grid-template-columns:13rem 1fr; gap:2rem; background:var(--paper);
  border:1px solid var(--line); border-radius:.9rem; padding:1.6rem; }
.cover { width:100%; border-radius:.5rem; box-shadow:0 .5rem 1.4rem #12344d40; display:block; }
h1 { margin:0 0 .2rem; font:700 2rem/1.2 Georgia, "DejaVu Serif", serif; }
h2 { margin:0; font:650 1.25rem/1.3 Georgia, "DejaVu Serif", serif; }
.by { color:var(--soft); margin:0 0 .8rem; }
dl { display:grid; grid-template-columns:repeat(auto-fill, minmax(9.5rem, 1fr)); gap:.7rem 1.2rem;
  margin:1.1rem 0 0; border-top:1px solid var(--line); padding-top:1.1rem; }
dt { font-size:.74rem; letter-spacing:.05em; text-transform:uppercase; color:var(--soft); }
dd { margin:0; font-weight:600; overflow-wrap:anywhere; }
.heading { display:flex; justify-content:space-between; align-items:center; gap:1rem;
  flex-wrap:wrap; margin:2.2rem 0 .9rem; }
.badge { display:inline-block; padding:.25rem .8rem; border-radius:2rem; font-size:.88rem;
  font-weight:600; background:#e4ebf0; color:var(--sea); border:1px solid #c9d6de; }
.badge[data-color=black] { background:#1f2429; border-color:#1f2429; color:#fff; }
.badge[data-color=red] { background:#fbe6e6; border-color:#eeb9ba; color:#a3282b; }
.badge[data-color=blue] { background:#e3ecfb; border-color:#b5caef; color:#1c4b9b; }
.badge[data-color=green] { background:#e2f3ea; border-color:#b0dcc5; color:#1d7a4f; }
.reviews { display:grid; grid-template-columns:repeat(auto-fit, minmax(19rem, 1fr)); gap:1rem; }
.review { background:var(--paper); border:1px solid var(--line); border-radius:.9rem;
  padding:1.2rem 1.4rem; margin:0; display:flex; flex-direction:column; gap:.6rem; }
.review p { margin:0; flex:1; }
.review footer { color:var(--soft); font-size:.92rem; }
.stars { display:inline-flex; gap:.12rem; color:#c9d1d7; }
.stars svg { width:1.35rem; height:1.35rem; }
.stars[data-color=black] .on { color:#1f2429; }
.stars[data-color=red] .on { color:#d0302f; }
.stars[data-color=blue] .on { color:#2560c4; }
.stars[data-color=green] .on { color:#1d8a57; }
.summary { display:flex; align-items:center; gap:.7rem; color:var(--soft); font-size:.95rem; }
.error { background:#fdf1f0; border:1px solid #efc4c1; border-left:.35rem solid var(--bad);
  border-radius:.6rem; padding:.9rem 1.2rem; margin:0; }
.error strong { color:var(--bad); display:block; }
.error small, .note { color:var(--soft); }
.reviews .badge { align-self:flex-start; }
.note, .summary, #stars { margin:0 0 1rem; }
table { width:100%; border-collapse:separate; background:var(--paper); font-size:.92rem;
  border:1px solid var(--line); border-radius:.9rem; border-spacing:0; overflow:hidden; }
th, td { text-align:left; padding:.6rem 1.1rem; border-bottom:1px solid var(--line); }
th { font-size:.74rem; letter-spacing:.05em; text-transform:uppercase; color:var(--soft); }
td:nth-child(-n+3) { white-space:nowrap; }
tr:last-child td { border-bottom:0; }
code { font:.86rem ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap:anywhere; }
.tls { color:var(--good); font-weight:600; } .plain { color:var(--warn); font-weight:600; }
@media (max-width:40rem) { .book { grid-template-columns:1fr; } .cover { max-width:11rem; }
  th, td { padding:.5rem .6rem; } }
"""

# The star is drawn, so that it does not depend on the fonts of the machine.
STAR = ('<svg class="{state}" viewBox="0 0 24 24" aria-hidden="true"><path fill="currentColor" '
        'd="M12 1.8l3.1 6.6 7.2.9-5.3 5 1.4 7.1-6.4-3.5-6.4 3.5L7 14.3l-5.3-5 7.2-.9z"/></svg>')

COVER = """<svg class="cover" viewBox="0 0 260 360" role="img" aria-label="Cover: a whale under a
small ship"><defs><linearGradient id="sky" x1="0" y1="0" x2="0" y2="1"><stop offset="0"
stop-color="#f4d9a8"/><stop offset="1" stop-color="#e8a87c"/></linearGradient><linearGradient
id="sea" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="#1c6a86"/><stop offset="1"
stop-color="#0b2436"/></linearGradient></defs><rect width="260" height="360" fill="url(#sky)"/>
<circle cx="188" cy="120" r="30" fill="#fff3d6"/><path d="M0 190q32-14 65 0t65 0 65 0 65 0v170H0z"
fill="url(#sea)"/><g transform="translate(66 112)"><path d="M0 66h72l-12 19H14z" fill="#4a2c1a"/>
<path d="M34 0v66" stroke="#4a2c1a" stroke-width="3"/><path d="M31 6C18 20 12 40 12 58h19zM38
6c16 12 24 32 24 52H38z" fill="#fffaf0"/></g><path d="M36 276c26-42 98-50 142-22 12 8 22 9 30 2
-2-12-10-18-18-24 14-2 26 2 34 12 8-8 16-8 24-4-6 14-18 22-34 24-2 34-40 58-88 58-46 0-84-16-90-46z"
fill="#e9f1f4"/><circle cx="66" cy="274" r="4" fill="#12344d"/><path d="M44 292c22 10 48 12 72 8"
stroke="#9fb7c2" stroke-width="3" fill="none" stroke-linecap="round"/><text x="130" y="50"
text-anchor="middle" font-family="Georgia, DejaVu Serif, serif" font-size="30" font-weight="700"
fill="#12344d">MOBY-DICK</text><text x="130" y="74" text-anchor="middle" font-family="Georgia,
DejaVu Serif, serif" font-size="14" fill="#12344d">or, The Whale</text></svg>"""

FIELDS = (("Year", "year"), ("Type", "type"), ("Pages", "pages"), ("Publisher", "publisher"),
          ("Language", "language"), ("ISBN-13", "ISBN-13"))


def esc(value):
    return escape(str(value), quote=True)


def render(product, details, reviews, user, hops, errors):
    """The whole page. errors: service -> (text for the reader, cause)."""
    return document(product["title"], user, f"""
<section class="book" id="product">
<div>{COVER}</div>
<div>
<h1 id="title">{esc(product["title"])}</h1>
{details_block(details, product, errors["details"])}
</div>
</section>
{reviews_block(reviews, errors["reviews"])}
{hops_block(hops)}""")


def render_message(title, text):
    back = '<p><a href="/productpage">Back to the book</a></p>'
    body = error_block("message", title, text) + back
    return document(title, None, body)


def document(title, user, body):
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{esc(title)} - Bookinfo</title>
<link rel="icon" href="/static/favicon.svg" type="image/svg+xml">
<style>{STYLE}</style>
</head>
<body>
<header><div class="bar"><div class="brand">{ICON}<span>Bookinfo</span></div>
{login_block(user)}</div></header>
<main>{body}
</main>
</body>
</html>
""".encode()


def login_block(user):
    if user:
        return (f'<form id="logout-form" method="post" action="/logout"><span>Signed in as '
                f'<strong id="user">{esc(user)}</strong></span> <button>Sign out</button></form>')
    return ('<form id="login-form" method="post" action="/login">'
            '<input name="username" aria-label="User name" placeholder="User name, e.g. jason" '
            'maxlength="64" required> <button>Sign in</button></form>')


def error_block(name, text, cause):
    return (f'<p class="error" id="{esc(name)}"><strong>{esc(text)}</strong> '
            f'<small>{esc(cause)}</small></p>')


def details_block(details, product, error):
    about = f'<p id="description">{esc(product["description"])}</p>'
    if details is None:
        return about + error_block("details-error", *error)
    facts = "".join(f"<div><dt>{esc(label)}</dt><dd>{esc(details[key])}</dd></div>"
                    for label, key in FIELDS if key in details)
    return (f'<p class="by" id="author">by {esc(details.get("author", "unknown"))}</p>{about}'
            f'<dl id="details">{facts}</dl>')


def reviews_block(reviews, error):
    if reviews is None:
        return ('<div class="heading"><h2>What readers say</h2></div>'
                + error_block("reviews-error", *error))
    version, pod = reviews.get("version", "unknown"), reviews.get("podname", "unknown")
    color = reviews.get("color") if reviews.get("color") in COLORS else "none"
    items = reviews.get("reviews")
    items = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    cards = "".join(review_card(item, number) for number, item in enumerate(items, 1))
    return f"""
<div class="heading"><h2>What readers say</h2>
<span class="badge" id="reviews-version" data-version="{esc(version)}" data-pod="{esc(pod)}"
data-color="{color}">served by reviews {esc(version)} (pod {esc(pod)})</span></div>
{summary_block(items, color)}
<div class="reviews" id="reviews">{cards}</div>"""


def rating_of(item):
    """The stars of a review, or None where there are none to show."""
    rating = item.get("rating")
    stars = rating.get("stars") if isinstance(rating, dict) else None
    return stars if isinstance(stars, int) and 0 <= stars <= STARS else None


def summary_block(items, color):
    """Always has id="stars": tests read the colour from it, "none" when there are no stars."""
    given = [stars for stars in map(rating_of, items) if stars is not None]
    if color == "none":
        return ('<p class="note" id="stars" data-color="none">This version of reviews shows no '
                'ratings.</p>')
    if not given:
        return ('<div id="stars" data-color="none">'
                + error_block("ratings-error", "Sorry, ratings are currently unavailable.",
                              "The reviews themselves are not affected.") + "</div>")
    mean = sum(given) / len(given)
    return (f'<p class="summary" id="stars" data-color="{color}" data-mean="{mean:.1f}">'
            f'{star_row(int(mean + 0.5), color)}<span>{mean:.1f} of {STARS}, '
            f'{len(given)} ratings</span></p>')


def star_row(count, color):
    stars = "".join(STAR.format(state="on" if at < count else "off") for at in range(STARS))
    return (f'<span class="stars" data-color="{color}" data-stars="{count}" role="img" '
            f'aria-label="{count} of {STARS} stars">{stars}</span>')


def review_card(item, number):
    stars, rating = rating_of(item), item.get("rating")
    row = ""
    if stars is not None:
        row = star_row(stars, rating["color"] if rating.get("color") in COLORS else "black")
    elif isinstance(rating, dict) and "error" in rating:
        row = f'<span class="badge">{esc(rating["error"])}</span>'
    return (f'<blockquote class="review" id="review-{number}">{row}<p>{esc(item.get("text", ""))}'
            f'</p><footer>{esc(item.get("reviewer", ""))}</footer></blockquote>')


def hops_block(hops):
    rows = "".join(map(hop_row, hops))
    return f"""
<div class="heading"><h2>How this page came to you</h2></div>
<table id="hops">
<thead><tr><th>Service</th><th>Version</th><th>Pod</th><th>Asked by</th></tr></thead>
<tbody>{rows}</tbody></table>"""


def hop_row(step):
    caller = step.get("caller")
    who = (f'<span class="tls">mutual TLS</span> <code>{esc(caller)}</code>' if caller
           else '<span class="plain">plaintext, caller not proven</span>')
    service = esc(step.get("service", ""))
    return (f'<tr id="hop-{service}" data-caller="{esc(caller or "")}"><td>{service}</td>'
            f'<td>{esc(step.get("version", ""))}</td><td>{esc(step.get("podname", ""))}</td>'
            f"<td>{who}</td></tr>")
