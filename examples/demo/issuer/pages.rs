//! The issuer's pages: plain HTML in one piece, without scripts.

use super::book::User;

/// Asks who is there. `query` is the encoded authorization request, which the form repeats; `hint` the `sub` or e-mail
/// address that the client expects.
pub(super) fn sign_in(query: &str, hint: &str) -> String {
    let people: String = User::ALL.into_iter().map(|user| person(user, hint)).collect();
    let form = format!(
        r#"<form method="post" action="/authorize?{query}">
<ul class="people">
{people}</ul>
<button class="quiet" name="user" value="nobody">Cancel and go back</button>
</form>"#,
        query = escape(query),
    );
    page("Sign in", "Who are you today? No password here: this identity provider is a stage prop.", &form)
}

/// Hands the answer over to the application, by a form (OAuth 2.0 Form Post Response Mode). Without a script it needs a
/// click.
pub(super) fn handing_over(target: &str, fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| {
        format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">\n", escape(name), escape(value))
    };
    let fields: String = fields.iter().map(field).collect();
    let form = format!(
        r#"<form method="post" action="{target}">
{fields}<button class="loud">Go on</button>
</form>"#,
        target = escape(target),
    );
    page("You are signed in", "One click takes you back to the application.", &form)
}

/// Asks whether to sign out, where the client could not show that it may do so by itself.
pub(super) fn confirm_sign_out(query: &str) -> String {
    let form = format!(
        r#"<form method="post" action="/end-session?{query}">
<button class="loud" name="confirm" value="yes">Sign out</button>
</form>"#,
        query = escape(query),
    );
    page("Sign out?", "An application asks to end your session with this identity provider.", &form)
}

/// Says that the session has ended.
pub(super) fn signed_out() -> String {
    page("You are signed out", "This window can be closed.", "")
}

/// Says that the session has ended, while the application hears of it in a frame; then `onward`.
pub(super) fn signing_out(frame: &str, onward: &str) -> String {
    let content = format!(
        r#"<iframe src="{}" hidden></iframe><p><a class="loud" href="{}">Go on</a></p>"#,
        escape(frame),
        escape(onward)
    );
    page("You are signed out", "The application is being told.", &content)
}

/// Says what is wrong, to a person.
pub(super) fn problem(title: &str, why: &str) -> String {
    page(title, why, "")
}

fn person(user: User, hint: &str) -> String {
    let initial: String = user.name().chars().take(1).collect();
    let focus = if hint == user.sub() || hint == user.email() { " autofocus" } else { "" };
    format!(
        r#"<li><button name="user" value="{sub}"{focus}>
<span class="face {sub}" aria-hidden="true">{initial}</span>
<span class="who"><span class="name">{name}</span><span class="mail">{mail}</span></span>
<span class="go" aria-hidden="true">→</span>
</button></li>
"#,
        sub = user.sub(),
        name = user.name(),
        mail = user.email(),
    )
}

fn page(title: &str, lead: &str, content: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Demo identity provider</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<p class="brand"><span class="mark" aria-hidden="true"></span>Demo identity provider</p>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{content}
</main>
<footer>It lives inside the demo, forgets everything when that stops, and speaks OpenID Connect.</footer>
</body>
</html>
"#,
        title = escape(title),
        lead = escape(lead),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

const STYLE: &str = r#"
:root {
  --paper: #eef1f4; --card: #fff; --ink: #17202a; --soft: #5a6775; --line: #d8dee5; --accent: #2d5f8b; --wash: #f2f6fa;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0f151b; --card: #171f27; --ink: #e8edf2; --soft: #9aa8b6; --line: #2b3743; --accent: #8fbce6; --wash: #1e2933;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; min-height: 100vh; display: flex; flex-direction: column; align-items: center; justify-content: center;
  gap: 1.5rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main {
  width: 100%; max-width: 26rem; padding: 2.25rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 14px; box-shadow: 0 1px 2px rgb(0 0 0 / 4%), 0 12px 32px rgb(0 0 0 / 6%);
}
.brand { display: flex; align-items: center; gap: .6rem; margin: 0 0 1.75rem; color: var(--soft); font-size: .875rem; }
.mark { width: 1.1rem; height: 1.1rem; border: .3rem solid var(--accent); border-radius: 50%; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.2; font-weight: 650; letter-spacing: -.015em; text-wrap: balance; }
.lead { margin: .6rem 0 0; color: var(--soft); text-wrap: pretty; }
form { margin-top: 1.75rem; }
.people { list-style: none; margin: 0; padding: 0; display: grid; gap: .75rem; }
button { font: inherit; color: inherit; cursor: pointer; border-radius: 10px; }
button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.people button {
  width: 100%; display: flex; align-items: center; gap: .9rem; padding: .8rem .9rem; text-align: left;
  background: none; border: 1px solid var(--line);
}
.people button:hover { background: var(--wash); border-color: var(--accent); }
.face {
  flex: none; width: 2.5rem; height: 2.5rem; display: grid; place-items: center; border-radius: 50%;
  color: #fff; font-weight: 600;
}
.ada { background: #7a4f8f; }
.grace { background: #2f7666; }
.who { flex: 1; min-width: 0; }
.name, .mail { display: block; overflow-wrap: anywhere; }
.name { font-weight: 600; line-height: 1.3; }
.mail { color: var(--soft); font-size: .875rem; }
.go { color: var(--soft); }
.quiet { display: block; margin: 1.5rem auto 0; padding: .35rem .75rem; background: none; border: 0; color: var(--soft); }
.quiet:hover { color: var(--ink); text-decoration: underline; }
.loud { width: 100%; padding: .8rem; background: var(--accent); border: 0; color: var(--card); font-weight: 600; }
footer { max-width: 26rem; color: var(--soft); font-size: .8125rem; text-align: center; text-wrap: balance; }
"#;
