//! The keys of sessions in the form that signs, so that a request pays for one signature and no more.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::oauth::ProofSigner;
use crate::session::{Session, SessionId};

/// A bounded memory of prepared keys. A session keeps its key for life, so nothing here grows old.
#[derive(Default)]
pub struct Signers {
    shards: [Mutex<Shard>; SHARDS],
}

/// Two generations of entries, as with [opened sessions](super::opened): what is used becomes young again.
#[derive(Default)]
struct Shard {
    young: HashMap<SessionId, Arc<ProofSigner>>,
    old: HashMap<SessionId, Arc<ProofSigner>>,
}

const SHARDS: usize = 16;
/// So many keys are young in one shard: about 16000 in all, of some 600 bytes each.
const YOUNG: usize = 512;

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signers").finish_non_exhaustive()
    }
}

impl Signers {
    /// What signs for `session`; none if its tokens are bound to no key, or to one that cannot sign.
    pub fn of(&self, session: &Session) -> Option<Arc<ProofSigner>> {
        let key = session.proof_key.as_ref()?;
        if let Some(known) = self.shard(session.id).get(session.id) {
            return Some(known);
        }
        // Outside the lock: this takes longer than everything else here together.
        let signer = match key.prepare() {
            Ok(signer) => Arc::new(signer),
            Err(error) => {
                tracing::error!(%error, "a session's tokens cannot be used");
                return None;
            }
        };
        self.shard(session.id).put(session.id, Arc::clone(&signer));
        Some(signer)
    }

    #[expect(clippy::indexing_slicing, reason = "the last byte of an id modulo the number of shards")]
    fn shard(&self, id: SessionId) -> std::sync::MutexGuard<'_, Shard> {
        let [.., last] = id.as_bytes();
        self.shards[usize::from(*last) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn get(&mut self, id: SessionId) -> Option<Arc<ProofSigner>> {
        if let Some(signer) = self.young.get(&id) {
            return Some(Arc::clone(signer));
        }
        let signer = self.old.remove(&id)?;
        self.put(id, Arc::clone(&signer));
        Some(signer)
    }

    fn put(&mut self, id: SessionId, signer: Arc<ProofSigner>) {
        if self.young.len() >= YOUNG {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, signer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::{ProofAlgorithm, ProofKey};
    use crate::server::random;

    #[test]
    fn keys_that_are_used_stay_and_the_number_is_bounded() {
        let signer = || Arc::new(ProofKey::generate(ProofAlgorithm::EdDsa, &*random()).prepare().expect("is a key"));
        let id = |number: u64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            SessionId::from_bytes(bytes)
        };
        let (mut shard, kept, other) = (Shard::default(), signer(), signer());
        shard.put(id(0), Arc::clone(&kept));
        for number in 1..10 * YOUNG as u64 {
            shard.put(id(number), Arc::clone(&other));
            assert!(Arc::ptr_eq(&shard.get(id(0)).expect("is used all the time"), &kept));
        }
        assert!(shard.young.len() + shard.old.len() <= 2 * YOUNG);
        assert!(shard.get(id(1)).is_none());
    }
}
