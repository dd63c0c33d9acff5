//! Who is signed in, and the ways to end it.

use std::sync::Arc;

use http::Method;
use http::request::Parts;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::answer::{Answer, Refusal, ok};
use super::guard::Who;
use crate::clock::Timestamp;
use crate::gateway::roster::{Listed, One, OutOfReach, Page, Roster, STALE};
use crate::ledger::StoreError;

/// How many sessions a page holds unless it is said, and at most.
const USUAL_LIMIT: usize = 100;
const MOST: usize = 1000;

impl From<OutOfReach> for Refusal {
    fn from(error: OutOfReach) -> Self {
        tracing::error!(%error, "sessions cannot be ended: the ledger did not take it");
        Self::Ledger(error.to_string())
    }
}

/// Serves a request that was let in on behalf of `who`.
pub(super) async fn serve(roster: &Arc<Roster>, request: &Parts, who: Who) -> Result<Answer, Refusal> {
    let (path, method) = (request.uri.path(), &request.method);
    match path {
        "/sessions" if matches!(*method, Method::GET | Method::HEAD) => list(roster, request, who).await,
        "/sessions" => Err(Refusal::Method("GET, HEAD")),
        "/sessions/end" if method == Method::POST => end_all(roster, request, who).await,
        "/subjects/end" if method == Method::POST => end_subject(roster, request, who).await,
        "/sessions/end" | "/subjects/end" => Err(Refusal::Method("POST")),
        _ => {
            let one = path.strip_prefix("/sessions/").ok_or(Refusal::NotFound)?;
            let (id, allowed) = match one.strip_suffix("/end") {
                Some(id) => (id, Method::POST),
                None => (one, Method::DELETE),
            };
            if id.is_empty() || id.contains('/') {
                return Err(Refusal::NotFound);
            }
            if *method != allowed {
                return Err(Refusal::Method(if allowed == Method::POST { "POST" } else { "DELETE" }));
            }
            end_one(roster, id, request, who).await
        }
    }
}

async fn list(roster: &Arc<Roster>, request: &Parts, who: Who) -> Result<Answer, Refusal> {
    if !roster.is_kept() {
        return Err(Refusal::NotKept);
    }
    let [subject, limit, after] = parameters(request, ["subject", "limit", "after"])?;
    let limit = limit.map(|text| text.parse().ok().filter(|limit| (1..=MOST).contains(limit)).ok_or(()));
    let limit = limit.unwrap_or(Ok(USUAL_LIMIT));
    let limit = limit.map_err(|()| Refusal::Parameter(format!("limit: write a number from 1 to {MOST}.")))?;
    let after = after.map(|text| text.parse()).transpose();
    let after = after.map_err(|_| Refusal::Parameter("after: write what next said on the page before.".to_owned()))?;
    let listed = roster.list(subject.as_deref(), limit, after).await;
    let Page { sessions, next } = listed.map_err(|error: StoreError| {
        tracing::error!(%error, "sessions cannot be listed");
        Refusal::Ledger(error.to_string())
    })?;
    let subject = subject.map(|subject| roster.fingerprint(&subject));
    tracing::info!(target: "audit", event = "admin.listed", who = who.name(), subject, count = sessions.len());
    Ok(ok(&json!({
        "sessions": sessions.iter().map(told).collect::<Vec<_>>(),
        "next": next.map(|next| next.to_string()),
        "last_seen_may_be_older_by": STALE.as_secs(),
    })))
}

async fn end_one(roster: &Arc<Roster>, id: &str, request: &Parts, who: Who) -> Result<Answer, Refusal> {
    let [] = parameters(request, [])?;
    let handle = id.parse().map_err(|_| Refusal::NoSession)?;
    let (subject, reason, count) = match roster.end(handle).await? {
        One::Now { subject } => (subject, "administrator", 1),
        One::Before { subject, reason } => (subject, reason.name(), 0),
        One::Unknown => return Err(Refusal::NoSession),
    };
    let name = roster.fingerprint(&subject);
    tracing::info!(target: "audit", event = "admin.session_ended", who = who.name(), subject = name, count);
    Ok(ok(&json!({ "subject": subject, "ended": count, "reason": reason, "noted": true })))
}

async fn end_subject(roster: &Arc<Roster>, request: &Parts, who: Who) -> Result<Answer, Refusal> {
    let [subject] = parameters(request, ["subject"])?;
    let subject = subject.filter(|subject| !subject.is_empty());
    let remedy = "subject: write whose sessions shall end, as in POST /subjects/end?subject=ada.";
    let subject = subject.ok_or_else(|| Refusal::Parameter(remedy.to_owned()))?;
    let count = roster.end_subject(subject.clone()).await?;
    let name = roster.fingerprint(&subject);
    tracing::info!(target: "audit", event = "admin.subject_ended", who = who.name(), subject = name, count);
    Ok(ok(&json!({ "subject": subject, "ended": count, "noted": true })))
}

async fn end_all(roster: &Arc<Roster>, request: &Parts, who: Who) -> Result<Answer, Refusal> {
    let [confirm] = parameters(request, ["confirm"])?;
    if confirm.as_deref() != Some("all") {
        let remedy = "confirm: this ends the sessions of everybody; write POST /sessions/end?confirm=all to do it.";
        return Err(Refusal::Parameter(remedy.to_owned()));
    }
    let count = roster.end_all().await?;
    tracing::info!(target: "audit", event = "admin.all_ended", who = who.name(), count);
    Ok(ok(&json!({ "ended": count, "noted": true })))
}

/// The parameters of these names, each at most once, and no other: one that is misspelt must not make a request mean more.
fn parameters<const N: usize>(request: &Parts, names: [&str; N]) -> Result<[Option<String>; N], Refusal> {
    let query = request.uri.query().unwrap_or_default();
    let mut found = [const { None }; N];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let slot = names.iter().position(|known| *known == name).and_then(|place| found.get_mut(place));
        match slot {
            Some(slot @ None) => *slot = Some(value.into_owned()),
            Some(Some(_)) => return Err(Refusal::Parameter(format!("{name}: it is there twice; write it once."))),
            None if names.is_empty() => return Err(Refusal::Parameter("There are no parameters here.".to_owned())),
            None => {
                return Err(Refusal::Parameter(format!(
                    "There is an unknown parameter; known here: {}.",
                    names.join(", ")
                )));
            }
        }
    }
    Ok(found)
}

/// A session as it is told.
fn told(listed: &Listed) -> Value {
    let seconds = |moment: Timestamp| moment.as_secs();
    json!({
        "id": listed.handle.to_string(),
        "subject": listed.subject,
        "issuer_session": listed.issuer_session,
        "browser": listed.device.browser.name(),
        "system": listed.device.system.name(),
        "since": seconds(listed.since),
        "last_seen": seconds(listed.last_seen),
        "ends": seconds(listed.ends),
        "ended": listed.over.map(|over| json!({ "reason": over.reason.name(), "at": over.at.map(seconds) })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> Result<[Option<String>; 2], Refusal> {
        let request = http::Request::builder().uri(format!("/sessions?{query}")).body(()).unwrap();
        parameters(&request.into_parts().0, ["subject", "limit"])
    }

    #[test]
    fn parameters_are_there_once_or_not_at_all_and_no_others() {
        assert_eq!(parsed(""), Ok([None, None]));
        assert_eq!(parsed("limit=5&subject=a%20b%26c"), Ok([Some("a b&c".to_owned()), Some("5".to_owned())]));
        for wrong in ["sujbect=ada", "subject=a&subject=b", "limit=5&limit=5", "confirm=all", "=", "subject[]=a"] {
            assert!(matches!(parsed(wrong), Err(Refusal::Parameter(_))), "{wrong}");
        }
    }
}
