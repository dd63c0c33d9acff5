//! Stage directions for the issuer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};

use super::act::{Act, Queue, Record};
use super::message::{Endpoint, Received};
use super::serving::lock;

/// What the next answers shall be, and what has been asked.
#[derive(Default)]
pub struct Script {
    acts: Mutex<BTreeMap<Endpoint, Arc<Queue>>>,
    edits: Mutex<BTreeMap<Document, Edit>>,
    forgery: Mutex<Option<Forgery>>,
    record: Record<Received>,
}

impl Script {
    /// Puts an act on the queue of an endpoint: its next request without one gets it.
    pub fn next(&self, endpoint: Endpoint, act: Act) {
        self.queue(endpoint).push(act);
    }

    /// Forgets the acts that have not been played.
    pub fn clear(&self, endpoint: Endpoint) {
        self.queue(endpoint).clear();
    }

    /// Changes every such document before it is signed or sent, until [`restore`](Self::restore).
    pub fn edit(&self, document: Document, edit: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) {
        lock(&self.edits).insert(document, Arc::new(edit));
    }

    /// Leaves such documents alone again.
    pub fn restore(&self, document: Document) {
        lock(&self.edits).remove(&document);
    }

    /// Replaces every ID token by what `forge` makes of it, after it was signed.
    pub fn forge(&self, forge: impl Fn(&str) -> String + Send + Sync + 'static) {
        *lock(&self.forgery) = Some(Arc::new(forge));
    }

    /// All requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Received> {
        self.record.all()
    }

    /// The requests that one endpoint got.
    pub fn requests_to(&self, endpoint: Endpoint) -> Vec<Received> {
        let mut requests = self.record.all();
        requests.retain(|request| request.endpoint == endpoint);
        requests
    }

    /// How many requests one endpoint got.
    pub fn calls(&self, endpoint: Endpoint) -> usize {
        self.record.count(|request| request.endpoint == endpoint)
    }

    /// Returns when the endpoint has got at least `number` requests since the start.
    pub async fn until_calls(&self, endpoint: Endpoint, number: usize) {
        self.record.until(number, |request| request.endpoint == endpoint).await;
    }

    pub(super) fn take(&self, endpoint: Endpoint) -> Act {
        self.queue(endpoint).next()
    }

    pub(super) fn note(&self, request: Received) {
        self.record.push(request);
    }

    pub(super) fn edited(&self, document: Document, content: &mut Map<String, Value>) {
        let edit = lock(&self.edits).get(&document).cloned();
        if let Some(edit) = edit {
            edit(content);
        }
    }

    pub(super) fn forged(&self, token: String) -> String {
        let forgery = lock(&self.forgery).clone();
        forgery.map_or(token.clone(), |forge| forge(&token))
    }

    fn queue(&self, endpoint: Endpoint) -> Arc<Queue> {
        Arc::clone(lock(&self.acts).entry(endpoint).or_default())
    }
}

/// What a [`Script`] can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Document {
    /// The provider metadata.
    Metadata,
    /// The key set.
    Keys,
    /// What the authorization endpoint sends the browser back with.
    AuthorizationResponse,
    /// The claims of ID tokens, before they are signed.
    IdToken,
    /// The header of ID tokens, before they are signed: `alg` decides how.
    IdTokenHeader,
    /// The claims of logout tokens that signing out here sends, before they are signed.
    LogoutToken,
    /// Successful answers of the token endpoint.
    TokenResponse,
    /// Successful answers of the userinfo endpoint.
    Userinfo,
}

type Forgery = Arc<dyn Fn(&str) -> String + Send + Sync>;
type Edit = Arc<dyn Fn(&mut Map<String, Value>) + Send + Sync>;
